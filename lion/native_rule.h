// The rule on one element, and on a range of a tensor whose state is kept in floats. Roundings are
// those of lion/loop.py, operation by operation; hence -ffp-contract=off, and an explicit fused
// multiply-add where torch's `add(x, alpha=)` has one.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace {

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
  const Rule* rule;
};

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
#if defined(__aarch64__)
  // There torch's `add(x, alpha=)` rounds the product of bfloat16 numbers, too.
  if constexpr (!std::is_same_v<C, float>) {
    return through<C>(grad * r.gain2) + through<C>(m * r.beta2);
  }
#endif
  return multiply_add(grad, r.gain2, through<C>(m * r.beta2));
}

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

}  // namespace
