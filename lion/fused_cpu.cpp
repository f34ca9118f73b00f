// Lion on CPUs in one pass over memory (arXiv:2302.06675, Alg. 2): all tensors of a group in a call.
//
// Built on first use by lion/native.py, which puts the files that are included here in their place,
// and called through ctypes by lion/fused.py. A tensor that cannot be served is left alone and
// reported; the caller's loop steps it.

#include "native_tensors.h"

#include "native_rule.h"

#include "native_int8.h"

#include "native_table.h"

#include "native_team.h"

#include <atomic>
#include <memory>

namespace {

constexpr int64_t CHUNK = 1 << 16;  // elements that a thread takes at a time

using Run = decltype(Job::run);

Run kernel_for(c10::ScalarType param, c10::ScalarType momentum, bool compensated) {
  using c10::ScalarType;
  if (compensated) {
    if (momentum == ScalarType::BFloat16) return run_float<bf16, bf16, float, true>;
    if (momentum == ScalarType::Float) return run_float<bf16, float, float, true>;
    return run_int8<bf16, true>;
  }
  if (param == ScalarType::Float) {
    if (momentum == ScalarType::Float) return run_float<float, float, float>;
    if (momentum == ScalarType::BFloat16) return run_float<float, bf16, float>;
    return run_int8<float>;
  }
  if (momentum == ScalarType::BFloat16) return run_float<bf16, bf16, bf16>;
  if (momentum == ScalarType::Float) return run_float<bf16, float, float>;
  return run_int8<bf16>;
}

Job job_of(const Row& row, int64_t start, const Rule& rule) {
  return {row.param->mutable_data(),
          row.grad->data(),
          row.momentum->mutable_data(),
          row.residual ? row.residual->mutable_data() : nullptr,
          row.scale ? static_cast<float*>(row.scale->mutable_data()) : nullptr,
          kernel_for(row.param->dtype().toScalarType(), row.momentum->dtype().toScalarType(),
                     row.residual),
          start,
          row.param->numel(),
          &rule};
}

void run_range(const std::vector<Job>& jobs, int64_t low, int64_t high) {
  auto job = std::partition_point(jobs.begin(), jobs.end(),
                                  [&](const Job& j) { return j.start + j.size <= low; });
  for (; job != jobs.end() && job->start < high; ++job) {
    // Inside a tensor the ranges meet at a block: each of its elements has one owner.
    const int64_t begin = low <= job->start ? 0 : (low - job->start) / BLOCK * BLOCK;
    const bool last = high >= job->start + job->size;
    const int64_t end = last ? job->size : (high - job->start) / BLOCK * BLOCK;
    if (begin < end) job->run(*job, begin, end, *job->rule);
  }
}

// Every thread has a part of its own, in chunks, and then helps the others: one that gets no core
// for a while holds up a chunk and not a share. Nothing depends on who does what.
void run_all(const std::vector<Job>& jobs, int threads) {
  const int64_t total = jobs.empty() ? 0 : jobs.back().start + jobs.back().size;
  const int team = lion_team(total, threads);
  if (team == 1) return run_range(jobs, 0, total);
  const auto started = std::chrono::steady_clock::now();
  struct alignas(64) Next {
    std::atomic<int64_t> chunk{0};
  };
  const std::unique_ptr<Next[]> next(new Next[team]);
#pragma omp parallel for num_threads(team) schedule(static, 1)
  for (int thread = 0; thread < team; ++thread) {
    for (int turn = 0; turn < team; ++turn) {
      const int part = (thread + turn) % team;
      const int64_t low = total * part / team, high = total * (part + 1) / team;
      for (;;) {
        const int64_t begin = low + CHUNK * next[part].chunk.fetch_add(1);
        if (begin >= high) break;
        run_range(jobs, begin, std::min(begin + CHUNK, high));
      }
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  lion_took(total, team, took.count());
}

}  // namespace

// Steps `n` tensors; `handles` and `grad_handles` as in `collect`. left[i] = 1 marks what was not
// stepped; with all_or_nothing, any such means that nothing was. Returns the number left, or -1 if
// torch raised (nothing was stepped then).
extern "C" __attribute__((visibility("default"))) int64_t lion_step(
    int64_t n, const uint64_t* handles, const uint64_t* grad_handles, uint8_t* left,
    int all_or_nothing, int threads, float decay, float beta1, float gain1, float beta2,
    float gain2, float lr) {
  try {
    const Collected found = collect(n, handles, grad_handles, on_cpu(), BLOCK, left);
    const int64_t num_left = std::count(left, left + n, 1);
    if (num_left && all_or_nothing) return num_left;
    const Rule rule{decay, beta1, gain1, beta2, gain2, lr};
    std::vector<Job> jobs;
    jobs.reserve(found.rows.size());
    int64_t start = 0;
    for (size_t j = 0; j < found.rows.size(); ++j) {
      if (left[found.index[j]]) continue;
      mark_changed(found.rows[j]);
      jobs.push_back(job_of(found.rows[j], start, rule));
      start += jobs.back().size;
    }
    run_all(jobs, threads);
    return num_left;
  } catch (...) {
    return -1;
  }
}

// Steps each row of a parameter (K, n) by a rule of its own; `handles` are those of the parameter,
// the gradient and the momentum, `rules` K times six numbers as `Rule` has them. Returns 0, or
// where nothing was done 1 (such tensors cannot be served) or -1 (torch raised).
extern "C" __attribute__((visibility("default"))) int64_t lion_step_rows(
    const uint64_t* handles, int64_t num_rows, const Rule* rules, int threads) {
  try {
    const Row row{impl(handles[0]), impl(handles[1]), impl(handles[2]), nullptr, nullptr};
    for (const c10::TensorImpl* x : {row.param, row.grad, row.momentum})
      if (!x->is_contiguous()) return 1;
    if (!fits(row, on_cpu(), BLOCK) || row.momentum->dtype() == c10::ScalarType::Char ||
        row.param->dim() != 2 || row.param->size(0) != num_rows)
      return 1;
    mark_changed(row);
    std::vector<Job> jobs(num_rows, job_of(row, 0, *rules));
    const int64_t size = row.param->size(1);
    for (int64_t k = 0; k < num_rows; ++k) {
      Job& job = jobs[k];
      job.start = k * size, job.size = size, job.rule = rules + k;
      job.param = static_cast<char*>(job.param) + job.start * row.param->itemsize();
      job.grad = static_cast<const char*>(job.grad) + job.start * row.grad->itemsize();
      job.momentum = static_cast<char*>(job.momentum) + job.start * row.momentum->itemsize();
    }
    run_all(jobs, threads);
    return 0;
  } catch (...) {
    return -1;
  }
}
