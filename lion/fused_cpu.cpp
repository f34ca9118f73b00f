// Lion on CPUs in one pass over memory (arXiv:2302.06675, Alg. 2): all tensors of a group in a call.
//
// Built on first use by lion/native.py and called through ctypes by lion/fused.py. Tensors come as
// addresses of their TensorImpl (`Tensor._cdata`), so every check costs nanoseconds and none is
// cached. A tensor that cannot be served is left alone and reported; the caller's loop steps it.
//
// Roundings are those of lion/loop.py, operation by operation; hence -ffp-contract=off, and an
// explicit fused multiply-add where torch's `add(x, alpha=)` has one.

#include <ATen/core/TensorBody.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t BLOCK = 256;     // elements that share an int8 scale; threads split at blocks
constexpr int64_t GRAIN = 32768;   // elements worth waking a thread for
constexpr float MIN_ABSMAX = 1e-30f;  // int8 momenta below are 0, so that 127 / absmax is finite

struct Rule {
  float decay, beta1, gain1, beta2, gain2, lr;  // gain: 1 - beta, negative to maximize
};

struct Job {
  void* param;
  const void* grad;
  void* momentum;
  void* residual;  // of a compensated parameter, else null
  float* scale;
  void (*run)(const Job&, int64_t begin, int64_t end, const Rule&);
  int64_t start, size;  // in elements of the whole call
};

// --- one element ---------------------------------------------------------------------------------

inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;  // as torch's kernels on such a CPU
#endif
}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

struct bf16 {
  uint16_t bits;
};

inline float load(float x) { return x; }

inline float load(bf16 x) {
  uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

template <class T>
inline T rounded(float x);

template <>
inline float rounded<float>(float x) {
  return x;
}

template <>
inline bf16 rounded<bf16>(float x) {  // to nearest even
  uint32_t bits = bits_of(x);
  uint32_t even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(x == x ? even : 0x7fc0u)};
}

template <class T>
inline float through(float x) {  // what storing as T and loading again leaves
  return load(rounded<T>(x));
}

// C is what intermediate results are rounded to: the dtype of parameter and momentum where they
// agree (as the loop's temporaries have it), else float.
template <class C>
inline float direction(float grad, float m, const Rule& r) {
  float c = through<C>(through<C>(m * r.beta1) + through<C>(grad * r.gain1));
  return c > 0 ? r.lr : c < 0 ? -r.lr : c;  // lr * sign(c); 0 and NaN stay what they are
}

template <class P>
inline P moved(P param, float step, const Rule& r) {
  return rounded<P>(through<P>(load(param) * r.decay) - step);
}

// A compensated parameter is the sum of two numbers, of which the second is what rounding left.
template <bool Compensated, class P>
inline void move(P& param, P* residual, float step, const Rule& r) {
  if constexpr (Compensated) {
    const float next = (load(param) + load(*residual)) * r.decay - step;
    param = rounded<P>(next);
    *residual = rounded<P>(next - load(param));
  } else {
    param = moved(param, step, r);
  }
}

template <class C>
inline float next_momentum(float grad, float m, const Rule& r) {
  return multiply_add(grad, r.gain2, through<C>(m * r.beta2));
}

// --- one range of one tensor ---------------------------------------------------------------------

template <class P, class M, class C, bool Compensated = false>
void run_float(const Job& job, int64_t begin, int64_t end, const Rule& rule) {
  Rule r = rule;  // torch's `add(x, alpha=)` rounds alpha to the dtype, its `mul(factor)` does not
  r.lr = through<C>(r.lr), r.gain2 = through<C>(r.gain2);
  P* __restrict p = static_cast<P*>(job.param);
  const P* __restrict g = static_cast<const P*>(job.grad);
  M* __restrict m = static_cast<M*>(job.momentum);
  P* __restrict left = static_cast<P*>(job.residual);
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float grad = load(g[i]), old = load(m[i]);
    move<Compensated>(p[i], Compensated ? left + i : nullptr, direction<C>(grad, old, r), r);
    m[i] = rounded<M>(next_momentum<C>(grad, old, r));
  }
}

// Blocks of codes -127..127 times a scale. Rounding to nearest would freeze a momentum whose
// gradient is 0 (0.99 * code rounds back to code), so the fraction decides up or down by a hash of
// the value: unbiased, and the same on every path, thread count and resume.
inline int8_t code_of(float x, float inverse) {
  float noise = static_cast<float>(static_cast<int32_t>((bits_of(x) * 0x9E3779B1u) >> 8)) * 0x1p-24f;
  float code = std::floor(x * inverse + noise);
  return static_cast<int8_t>(static_cast<int32_t>(std::min(std::max(code, -127.0f), 127.0f)));
}

template <class P, bool Compensated = false>
void run_int8(const Job& job, int64_t begin, int64_t end, const Rule& rule) {
  const Rule r = rule;
  for (int64_t block = begin; block < end; block += BLOCK) {
    const int64_t size = std::min(BLOCK, end - block);
    P* __restrict p = static_cast<P*>(job.param) + block;
    const P* __restrict g = static_cast<const P*>(job.grad) + block;
    int8_t* __restrict m = static_cast<int8_t*>(job.momentum) + block;
    P* __restrict left = Compensated ? static_cast<P*>(job.residual) + block : nullptr;
    float& scale = job.scale[block / BLOCK];
    const float old_scale = scale;
    alignas(64) float fresh[BLOCK];
    uint32_t max_bits = 0;  // the order of positive floats is that of their bits
#pragma omp simd reduction(max : max_bits)
    for (int64_t i = 0; i < size; ++i) {
      const float grad = load(g[i]), old = static_cast<float>(m[i]) * old_scale;
      move<Compensated>(p[i], Compensated ? left + i : nullptr, direction<float>(grad, old, r), r);
      float next = next_momentum<float>(grad, old, r);
      next = next == next ? next : 0.0f;  // int8 has no NaN; the weight shows it already
      next = std::min(std::max(next, -3.4e38f), 3.4e38f);
      fresh[i] = next;
      max_bits = std::max(max_bits, bits_of(next) & 0x7fffffffu);
    }
    float absmax;
    std::memcpy(&absmax, &max_bits, 4);
    const bool empty = absmax < MIN_ABSMAX;
    scale = empty ? 0.0f : absmax / 127.0f;
    const float inverse = empty ? 0.0f : 127.0f / absmax;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) m[i] = code_of(fresh[i], inverse);
  }
}

// --- which tensors can be served -----------------------------------------------------------------

bool is_plain(c10::TensorImpl& x) {
  // No lazy negation, functorch wrapper, DTensor ... : memory is what the tensor means.
  static const auto plain = c10::DispatchKeySet(c10::DispatchKey::CPU) |
      c10::getAutogradRelatedKeySetFromBackend(c10::BackendComponent::CPUBit) |
      c10::getAutocastRelatedKeySetFromBackend(c10::BackendComponent::CPUBit);
  return (x.key_set().raw_repr() & ~plain.raw_repr()) == 0 &&
      x.key_set().has(c10::DispatchKey::CPU) && x.has_storage() && !x.is_inference();
}

bool same_layout(const c10::TensorImpl& x, const c10::TensorImpl& y) {
  return x.numel() == y.numel() && x.sizes() == y.sizes() &&
      ((x.is_contiguous() && y.is_contiguous()) || x.strides() == y.strides());
}

using Run = decltype(Job::run);

Run kernel_for(c10::ScalarType param, c10::ScalarType momentum, bool compensated) {
  using c10::ScalarType;
  if (compensated) {
    if (param != ScalarType::BFloat16) return nullptr;
    if (momentum == ScalarType::BFloat16) return run_float<bf16, bf16, float, true>;
    if (momentum == ScalarType::Float) return run_float<bf16, float, float, true>;
    if (momentum == ScalarType::Char) return run_int8<bf16, true>;
  } else if (param == ScalarType::Float) {
    if (momentum == ScalarType::Float) return run_float<float, float, float>;
    if (momentum == ScalarType::BFloat16) return run_float<float, bf16, float>;
    if (momentum == ScalarType::Char) return run_int8<float>;
  } else if (param == ScalarType::BFloat16) {
    if (momentum == ScalarType::BFloat16) return run_float<bf16, bf16, bf16>;
    if (momentum == ScalarType::Float) return run_float<bf16, float, float>;
    if (momentum == ScalarType::Char) return run_int8<bf16>;
  }
  return nullptr;
}

bool prepare(c10::TensorImpl& p, c10::TensorImpl& g, c10::TensorImpl* m, c10::TensorImpl* scale,
             c10::TensorImpl* residual, Job& job) {
  if (m == nullptr || !is_plain(p) || !is_plain(g) || !is_plain(*m)) return false;
  job.run = kernel_for(p.dtype().toScalarType(), m->dtype().toScalarType(), residual);
  if (job.run == nullptr || g.dtype() != p.dtype()) return false;
  if (!p.is_non_overlapping_and_dense() || !same_layout(p, g) || !same_layout(p, *m)) return false;
  job.scale = nullptr;
  if (m->dtype().toScalarType() == c10::ScalarType::Char) {
    if (scale == nullptr || !is_plain(*scale) || !scale->is_contiguous() ||
        scale->dtype().toScalarType() != c10::ScalarType::Float ||
        scale->numel() != (p.numel() + BLOCK - 1) / BLOCK)
      return false;
    job.scale = static_cast<float*>(scale->mutable_data());
  }
  job.residual = nullptr;
  if (residual != nullptr) {
    if (!is_plain(*residual) || residual->dtype() != p.dtype() || !same_layout(p, *residual))
      return false;
    job.residual = residual->mutable_data();
  }
  job.size = p.numel();
  job.param = p.mutable_data();
  job.grad = g.data();
  job.momentum = m->mutable_data();
  return job.size == 0 || (job.param && job.grad && job.momentum);
}

// Parameters that share memory must be stepped one after the other: the loop does.
void leave_overlaps(const std::vector<Job>& jobs, const std::vector<int64_t>& index,
                    const std::vector<c10::TensorImpl*>& params, uint8_t* left) {
  std::vector<std::pair<char*, size_t>> order;
  order.reserve(jobs.size());
  for (size_t j = 0; j < jobs.size(); ++j)
    if (jobs[j].size) order.emplace_back(static_cast<char*>(jobs[j].param), j);
  std::sort(order.begin(), order.end());
  char* reach = nullptr;
  size_t owner = 0;
  for (auto [begin, j] : order) {
    char* end = begin + jobs[j].size * params[j]->itemsize();
    if (begin < reach) left[index[j]] = left[index[owner]] = 1;
    if (end > reach) reach = end, owner = j;
  }
}

void run_all(const std::vector<Job>& jobs, const Rule& rule, int threads) {
  const int64_t total = jobs.empty() ? 0 : jobs.back().start + jobs.back().size;
  const int team = static_cast<int>(std::clamp<int64_t>(total / GRAIN, 1, threads));
#pragma omp parallel for num_threads(team) schedule(static, 1) if (team > 1)
  for (int part = 0; part < team; ++part) {
    const int64_t low = total * part / team, high = total * (part + 1) / team;
    for (const Job& job : jobs) {
      if (job.start + job.size <= low || job.start >= high) continue;
      // Inside a tensor the parts meet at a block: each of its elements has one owner.
      const int64_t begin = low <= job.start ? 0 : (low - job.start) / BLOCK * BLOCK;
      const bool last = high >= job.start + job.size;
      const int64_t end = last ? job.size : (high - job.start) / BLOCK * BLOCK;
      if (begin < end) job.run(job, begin, end, rule);
    }
  }
}

}  // namespace

// Steps `n` tensors. handles: n parameters, n momenta, n scales, n residuals; 0 is none. The gradients
// may be null altogether: then each parameter's own is taken, and one without is skipped.
// left[i] = 1 marks what was not stepped; with all_or_nothing, any such means that nothing was.
// Returns the number left, or -1 if torch raised (nothing was stepped then).
extern "C" __attribute__((visibility("default"))) int64_t lion_step(
    int64_t n, const uint64_t* handles, const uint64_t* grad_handles, uint8_t* left,
    int all_or_nothing, int threads, float decay, float beta1, float gain1, float beta2,
    float gain2, float lr) {
  const auto impl = [](uint64_t handle) { return reinterpret_cast<c10::TensorImpl*>(handle); };
  try {
    std::vector<Job> jobs;
    std::vector<int64_t> index;
    std::vector<c10::TensorImpl*> params;
    std::vector<at::Tensor> alive;  // gradients, should another thread drop them meanwhile
    jobs.reserve(n), index.reserve(n), params.reserve(n), alive.reserve(n);
    std::memset(left, 0, n);
    for (int64_t i = 0; i < n; ++i) {
      c10::TensorImpl& p = *impl(handles[i]);
      c10::TensorImpl* g = grad_handles ? impl(grad_handles[i]) : nullptr;
      if (grad_handles == nullptr) {
        const at::Tensor& grad = p.grad();
        if (!grad.defined()) continue;
        alive.push_back(grad);
        g = grad.unsafeGetTensorImpl();
      }
      Job job;
      if (prepare(p, *g, impl(handles[n + i]), impl(handles[2 * n + i]), impl(handles[3 * n + i]),
                  job)) {
        jobs.push_back(job), index.push_back(i), params.push_back(&p);
      } else {
        left[i] = 1;
      }
    }
    leave_overlaps(jobs, index, params, left);
    const int64_t num_left = std::count(left, left + n, 1);
    if (num_left && all_or_nothing) return num_left;
    std::vector<Job> served;
    served.reserve(jobs.size());
    int64_t start = 0;
    for (size_t j = 0; j < jobs.size(); ++j) {
      const int64_t i = index[j];
      if (left[i]) continue;
      params[j]->bump_version();  // autograd must notice, as after any in-place operation
      impl(handles[n + i])->bump_version();
      served.push_back(jobs[j]);
      served.back().start = start;
      start += jobs[j].size;
    }
    const Rule rule{decay, beta1, gain1, beta2, gain2, lr};
    run_all(served, rule, threads);
    return num_left;
  } catch (...) {
    return -1;
  }
}
