// Int8 momenta: blocks of codes -127..127 times a scale, and a code for NaN; see lion/momentum.py.
//
// Rounding to nearest would freeze a momentum whose gradient is 0 (0.99 * code rounds back to code),
// so the fraction decides up or down by a hash of the value: unbiased, and the same on every path,
// thread count and resume. A block is stepped in two passes: the first steps and finds the largest
// momentum, the second makes the codes. Both are there for any machine, and by hand for AVX-512 and
// AVX2, which take whole vectors and leave the ends of tensors, and blocks with numbers that are not
// finite.

#include <algorithm>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t BLOCK = 256;        // elements that share a scale; threads split at blocks
constexpr float MIN_ABSMAX = 1e-30f;  // momenta below are 0, so that 127 / absmax is finite
constexpr float MAX_MOMENTUM = 3.4e38f;  // so that 127 * (absmax / 127) is finite
constexpr int8_t NAN_CODE = -128;     // an infinity in the scale would wipe out its neighbours
constexpr uint32_t HASH = 0x9E3779B1u, INFINITE = 0x7f800000u, MAGNITUDE = 0x7fffffffu;
constexpr uint32_t MAX_BITS = 0x7f7fc99eu;  // of MAX_MOMENTUM

template <class P>
struct Block {  // of one tensor
  P* __restrict p;
  const P* __restrict g;
  int8_t* __restrict m;
  P* __restrict left;  // residuals, if compensated
  float* __restrict fresh;  // the new momenta, before they are coded
  float scale;
};

// --- on any machine ------------------------------------------------------------------------------

inline float decoded(int8_t code, float scale) {
  return code == NAN_CODE ? NAN : static_cast<float>(code) * scale;
}

inline bool is_finite(float x) { return (bits_of(x) & MAGNITUDE) < INFINITE; }

// Returns the bits of the largest magnitude, NaN being the largest: their order is that of the bits.
template <class P, bool Compensated>
uint32_t step_elements(const Block<P>& b, int64_t begin, int64_t end, const Rule& rule) {
  const Rule r = rule;
  uint32_t max_bits = 0;
#pragma omp simd reduction(max : max_bits)
  for (int64_t i = begin; i < end; ++i) {
    const float grad = load(b.g[i]), old = decoded(b.m[i], b.scale);
    move<Compensated>(b.p[i], Compensated ? b.left + i : nullptr, direction<float>(grad, old, r), r);
    b.fresh[i] = next_momentum<float>(grad, old, r);
    max_bits = std::max(max_bits, bits_of(b.fresh[i]) & MAGNITUDE);
  }
  return max_bits;
}

// Bounds the new momenta that are finite; returns the bits of the largest of these.
template <class P>
uint32_t bound_elements(const Block<P>& b, int64_t size) {
  uint32_t max_bits = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (!is_finite(b.fresh[i])) continue;
    b.fresh[i] = std::min(std::max(b.fresh[i], -MAX_MOMENTUM), MAX_MOMENTUM);
    max_bits = std::max(max_bits, bits_of(b.fresh[i]) & MAGNITUDE);
  }
  return max_bits;
}

template <class P>
void code_elements(const Block<P>& b, int64_t begin, int64_t end, float inverse) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float x = b.fresh[i];
    const float noise = static_cast<float>(static_cast<int32_t>((bits_of(x) * HASH) >> 8)) * 0x1p-24f;
    const float code = std::floor((is_finite(x) ? x : 0.0f) * inverse + noise);
    const auto whole = static_cast<int32_t>(std::min(std::max(code, -127.0f), 127.0f));
    b.m[i] = static_cast<int8_t>(is_finite(x) ? whole : NAN_CODE);
  }
}

// --- with AVX2 or AVX-512: the same operations, one by one, on eight or sixteen elements ---------

#if defined(__AVX2__) && defined(__FMA__)
constexpr int64_t LANES = 32;  // elements whose codes fill a register

inline bool has_nan_code(const int8_t* codes, int64_t size) {
  __m256i found = _mm256_setzero_si256();
  const __m256i nan = _mm256_set1_epi8(NAN_CODE);
  for (int64_t i = 0; i < size; i += LANES) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
    found = _mm256_or_si256(found, _mm256_cmpeq_epi8(bytes, nan));
  }
  return _mm256_movemask_epi8(found) != 0;
}
#else
constexpr int64_t LANES = BLOCK + 1;  // none: every element is one of an end
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
inline __m512 load16(const float* x) { return _mm512_loadu_ps(x); }

inline __m512 load16(const bf16* x) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline __m512i bf16_bits16(__m512 x) {  // in the upper halves, as in a float
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i even = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_and_si512(_mm512_mask_mov_epi32(even, nan, _mm512_set1_epi32(0x7fc00000)),
                          _mm512_set1_epi32(0xffff0000));
}

template <class P>
inline __m512 through16(__m512 x);
template <>
inline __m512 through16<float>(__m512 x) { return x; }
template <>
inline __m512 through16<bf16>(__m512 x) { return _mm512_castsi512_ps(bf16_bits16(x)); }

inline void store16(float* to, __m512 x) { _mm512_storeu_ps(to, x); }

inline void store16(bf16* to, __m512 x) {
  const __m256i bits = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits16(x), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bits);
}

// Where `moves`, `size` with the sign of c; else c.
inline __m512 signed16(__m512 c, __mmask16 moves, __m512 sign, __m512 size) {
  const auto bits = [](__m512 x) { return _mm512_castps_si512(x); };
  return _mm512_castsi512_ps(
      _mm512_mask_ternarylogic_epi32(bits(c), moves, bits(sign), bits(size), 0xEA));
}

template <class P, bool Compensated>
uint32_t step_lanes(const Block<P>& b, int64_t end, const Rule& r) {
  if (has_nan_code(b.m, end)) return step_elements<P, Compensated>(b, 0, end, r);
  const __m512 scale = _mm512_set1_ps(b.scale), sign = _mm512_set1_ps(-0.0f);
  const __m512 beta1 = _mm512_set1_ps(r.beta1), gain1 = _mm512_set1_ps(r.gain1);
  const __m512 beta2 = _mm512_set1_ps(r.beta2), gain2 = _mm512_set1_ps(r.gain2);
  const __m512 decay = _mm512_set1_ps(r.decay), lr = _mm512_set1_ps(r.lr);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < end; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b.m + i));
    const __m512 old = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
    const __m512 grad = load16(b.g + i), param = load16(b.p + i);
    const __m512 c = _mm512_add_ps(_mm512_mul_ps(old, beta1), _mm512_mul_ps(grad, gain1));
    const __mmask16 moves = _mm512_cmp_ps_mask(c, _mm512_setzero_ps(), _CMP_NEQ_OQ);  // not 0 or NaN
    const __m512 step = signed16(c, moves, sign, lr);
    if constexpr (Compensated) {
      const __m512 sum = _mm512_add_ps(param, load16(b.left + i));
      const __m512 next = _mm512_sub_ps(_mm512_mul_ps(sum, decay), step);
      store16(b.p + i, next);
      store16(b.left + i, _mm512_sub_ps(next, through16<P>(next)));
    } else {
      store16(b.p + i, _mm512_sub_ps(through16<P>(_mm512_mul_ps(param, decay)), step));
    }
    const __m512 next = _mm512_fmadd_ps(grad, gain2, _mm512_mul_ps(old, beta2));
    _mm512_storeu_ps(b.fresh + i, next);
    largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_andnot_ps(sign, next)));
  }
  return _mm512_reduce_max_epi32(largest);
}

template <class P>
void code_lanes(const Block<P>& b, int64_t end, float inverse) {
  const __m512 factor = _mm512_set1_ps(inverse);
  for (int64_t i = 0; i < end; i += 16) {
    const __m512 x = _mm512_loadu_ps(b.fresh + i);
    const __m512i hashed = _mm512_mullo_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(HASH));
    const __m512 noise = _mm512_cvtepi32_ps(_mm512_srli_epi32(hashed, 8));
    const __m512 code = _mm512_fmadd_ps(noise, _mm512_set1_ps(0x1p-24f), _mm512_mul_ps(x, factor));
    const __m512i whole = _mm512_cvt_roundps_epi32(code, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __m128i codes = _mm512_cvtsepi32_epi8(whole);  // <= 127
    _mm_storeu_si128(reinterpret_cast<__m128i*>(b.m + i),
                     _mm_max_epi8(codes, _mm_set1_epi8(-127)));
  }
}

#elif defined(__AVX2__) && defined(__FMA__)
inline __m256 load8(const float* x) { return _mm256_loadu_ps(x); }

inline __m256 load8(const bf16* x) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline __m256i bf16_bits8(__m256 x) {  // in the upper halves, as in a float
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i even =
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_and_si256(_mm256_blendv_epi8(even, _mm256_set1_epi32(0x7fc00000), nan),
                          _mm256_set1_epi32(0xffff0000));
}

template <class P>
inline __m256 through8(__m256 x);
template <>
inline __m256 through8<float>(__m256 x) { return x; }
template <>
inline __m256 through8<bf16>(__m256 x) { return _mm256_castsi256_ps(bf16_bits8(x)); }

inline void store8(float* to, __m256 x) { _mm256_storeu_ps(to, x); }

inline void store8(bf16* to, __m256 x) {
  const __m256i bits = _mm256_srli_epi32(bf16_bits8(x), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(bits, bits), 0b1000);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}

template <class P, bool Compensated>
uint32_t step_lanes(const Block<P>& b, int64_t end, const Rule& r) {
  if (has_nan_code(b.m, end)) return step_elements<P, Compensated>(b, 0, end, r);
  const __m256 scale = _mm256_set1_ps(b.scale), sign = _mm256_set1_ps(-0.0f);
  const __m256 beta1 = _mm256_set1_ps(r.beta1), gain1 = _mm256_set1_ps(r.gain1);
  const __m256 beta2 = _mm256_set1_ps(r.beta2), gain2 = _mm256_set1_ps(r.gain2);
  const __m256 decay = _mm256_set1_ps(r.decay), lr = _mm256_set1_ps(r.lr);
  __m256i largest = _mm256_setzero_si256();
  for (int64_t i = 0; i < end; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b.m + i));
    const __m256 old = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), scale);
    const __m256 grad = load8(b.g + i), param = load8(b.p + i);
    const __m256 c = _mm256_add_ps(_mm256_mul_ps(old, beta1), _mm256_mul_ps(grad, gain1));
    const __m256 moves = _mm256_cmp_ps(c, _mm256_setzero_ps(), _CMP_NEQ_OQ);  // not 0, not NaN
    const __m256 step = _mm256_blendv_ps(c, _mm256_or_ps(_mm256_and_ps(c, sign), lr), moves);
    if constexpr (Compensated) {
      const __m256 sum = _mm256_add_ps(param, load8(b.left + i));
      const __m256 next = _mm256_sub_ps(_mm256_mul_ps(sum, decay), step);
      store8(b.p + i, next);
      store8(b.left + i, _mm256_sub_ps(next, through8<P>(next)));
    } else {
      store8(b.p + i, _mm256_sub_ps(through8<P>(_mm256_mul_ps(param, decay)), step));
    }
    const __m256 next = _mm256_fmadd_ps(grad, gain2, _mm256_mul_ps(old, beta2));
    _mm256_storeu_ps(b.fresh + i, next);
    largest = _mm256_max_epi32(largest, _mm256_castps_si256(_mm256_andnot_ps(sign, next)));
  }
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0b01001110));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0b10110001));
  return _mm_cvtsi128_si32(half);
}

inline __m256i codes8(const float* fresh, __m256 inverse) {
  const __m256 x = _mm256_loadu_ps(fresh);
  const __m256i hashed = _mm256_mullo_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(HASH));
  const __m256 noise = _mm256_cvtepi32_ps(_mm256_srli_epi32(hashed, 8));
  // Times a power of two the noise is exact, so that here, too, the sum is rounded once.
  const __m256 code =
      _mm256_fmadd_ps(noise, _mm256_set1_ps(0x1p-24f), _mm256_mul_ps(x, inverse));
  return _mm256_cvttps_epi32(_mm256_floor_ps(code));
}

template <class P>
void code_lanes(const Block<P>& b, int64_t end, float inverse) {
  const __m256 factor = _mm256_set1_ps(inverse);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packs works in halves
  for (int64_t i = 0; i < end; i += LANES) {
    const float* x = b.fresh + i;
    const __m256i low = _mm256_packs_epi32(codes8(x, factor), codes8(x + 8, factor));
    const __m256i high = _mm256_packs_epi32(codes8(x + 16, factor), codes8(x + 24, factor));
    __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);  // <= 127
    codes = _mm256_max_epi8(codes, _mm256_set1_epi8(-127));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(b.m + i), codes);
  }
}
#else
template <class P, bool Compensated>
uint32_t step_lanes(const Block<P>&, int64_t, const Rule&) { return 0; }
template <class P>
void code_lanes(const Block<P>&, int64_t, float) {}
#endif

// --- one range of one tensor ---------------------------------------------------------------------

template <class P>
struct Stepped {  // a block that is still to be coded
  Block<P> block;
  int64_t size, ordinary;  // elements; whole vectors of finite ones
  float inverse;           // of the scale

  void code() const {
    code_lanes(block, ordinary, inverse);
    code_elements(block, ordinary, size, inverse);
  }
};

// A block is coded after the next one's step, under which its maximum and divisions are found.
template <class P, bool Compensated = false>
void run_int8(const Job& job, int64_t begin, int64_t end, const Rule& rule) {
  alignas(64) float fresh[2][BLOCK];
  Stepped<P> last{};
  int turn = 0;
  for (int64_t at = begin; at < end; at += BLOCK, turn ^= 1) {
    const int64_t size = std::min(BLOCK, end - at), whole = size / LANES * LANES;
    float& scale = job.scale[at / BLOCK];
    const Block<P> block{static_cast<P*>(job.param) + at,
                         static_cast<const P*>(job.grad) + at,
                         static_cast<int8_t*>(job.momentum) + at,
                         Compensated ? static_cast<P*>(job.residual) + at : nullptr,
                         fresh[turn],
                         scale};
    uint32_t max_bits = std::max(step_lanes<P, Compensated>(block, whole, rule),
                                 step_elements<P, Compensated>(block, whole, size, rule));
    const int64_t ordinary = max_bits > MAX_BITS ? 0 : whole;
    if (max_bits > MAX_BITS) max_bits = bound_elements(block, size);
    float absmax;
    std::memcpy(&absmax, &max_bits, 4);
    const bool empty = absmax < MIN_ABSMAX;
    scale = empty ? 0.0f : absmax / 127.0f;
    const float inverse = empty ? 0.0f : 127.0f / absmax;
    last.code();
    last = {block, size, ordinary, inverse};
  }
  last.code();
}

}  // namespace
