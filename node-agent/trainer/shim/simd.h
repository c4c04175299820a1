// Eight floats at a time by the compiler's vector extensions: one source for every instruction set.
#pragma once
#include <cstdint>

#define SHIM_INLINE static inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8v __attribute__((vector_size(32)));
typedef uint32_t u8v __attribute__((vector_size(32)));
constexpr int64_t LANES = 8;

SHIM_INLINE v8 load(const float* p) {
  v8 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
SHIM_INLINE void store(float* p, v8 v) { __builtin_memcpy(p, &v, sizeof v); }
SHIM_INLINE v8 splat(float x) { return v8{x, x, x, x, x, x, x, x}; }
SHIM_INLINE float sum(v8 v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}
// The first `n` < 8 values; the other lanes hold `rest`.
SHIM_INLINE v8 load_some(const float* p, int64_t n, float rest) {
  v8 v = splat(rest);
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
SHIM_INLINE void store_some(float* p, v8 v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
SHIM_INLINE v8 larger(v8 a, v8 b) { return a < b ? b : a; }
SHIM_INLINE v8 magnitude(v8 v) { return (v8)((u8v)v & 0x7FFFFFFFu); }

// e^x for x <= 88 to about 2 units in the last place (range reduction to +-ln2/2, Taylor-like minimax of degree
// 6); below -87 it is e^-87, which no sum here can tell from zero. NaN stays NaN.
SHIM_INLINE v8 exponential(v8 x) {
  x = x < splat(-87.0f) ? splat(-87.0f) : x;
  x = x > splat(88.0f) ? splat(88.0f) : x;
  const v8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  v8 shifted = x * 1.44269504f + magic;
  i8v n = (i8v)shifted - (i8v)magic;
  v8 k = shifted - magic;
  v8 r = x - k * 0.693359375f;
  r = r + k * 2.12194440e-4f;
  v8 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * (v8)((n + 127) << 23);
}

// 32 random bits of (key, column): Murmur3's finaliser over a Weyl sequence.
SHIM_INLINE u8v random_bits(u8v column, uint32_t a, uint32_t b) {
  u8v u = column * 0x9E3779B1u + a;
  u ^= u >> 16;
  u *= 0x85EBCA6Bu;
  u ^= (u >> 13) ^ b;
  u *= 0xC2B2AE35u;
  return u ^ (u >> 16);
}

// SplitMix64's finaliser: the key of one row.
SHIM_INLINE uint64_t row_key(uint64_t seed, int64_t row) {
  uint64_t z = seed + (uint64_t)(row + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
