// Vectors of float, as wide as the target of this compilation, and the matrix products made of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

// Each target is a library of its own; the name keeps its templates apart from the others'.
#if defined(__AVX512F__)
#define LTJAX_TARGET avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define LTJAX_TARGET avx2
#else
#define LTJAX_TARGET baseline
#endif

// For what runs in the innermost loops: closures must dissolve, or every store makes the compiler
// read their captures anew.
#define LTJAX_INLINE inline __attribute__((always_inline))

namespace ltjax::LTJAX_TARGET {

#if defined(LTJAX_V)  // a width that the machine need not have: for tests
constexpr int V = LTJAX_V, REGISTERS = LTJAX_REGISTERS;
#elif defined(__AVX512F__)
constexpr int V = 16, REGISTERS = 32;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int V = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int V = 4, REGISTERS = 32;
#else
constexpr int V = 4, REGISTERS = 16;
#endif

typedef float vec __attribute__((vector_size(V * sizeof(float)), aligned(4), may_alias));

// Channels of a vector: all V of them, or the first few where the channels end.
struct All {
  vec load(const float* p) const { return *reinterpret_cast<const vec*>(p); }
  void store(float* p, vec v) const { *reinterpret_cast<vec*>(p) = v; }
};
struct Some {
  int count;
  vec load(const float* p) const {
    vec v = {};
    std::memcpy(&v, p, count * sizeof(float));
    return v;
  }
  void store(float* p, vec v) const { std::memcpy(p, &v, count * sizeof(float)); }
};

// f(first channel, All or Some) for each vector of `channels`.
template <class F>
LTJAX_INLINE void each_vector(int channels, F f) {
  int o = 0;
  for (; o + V <= channels; o += V) f(o, All{});
  if (o < channels) f(o, Some{channels - o});
}

inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

// Output channels are packed in blocks of one or two vectors, the last one filled with zeros.
inline int block_of(int channels) { return channels > V ? 2 * V : V; }
inline int packed(int channels) { return round_up(channels, block_of(channels)); }

// Rows of a register block: as many accumulators as the registers hold, beside operands.
template <int VB>
constexpr int ROWS = REGISTERS == 32 ? (VB == 2 ? 12 : 14) : (VB == 2 ? 6 : 10);

// f<R>(first row) for as few blocks as can be of at most MOST rows, of nearly equal size: a small rest
// would not keep the arithmetic units busy.
template <int R, class F>
LTJAX_INLINE void block_of_rows(int rows, int first, const F& f) {
  if constexpr (R > 0) {
    if (rows == R) return f.template operator()<R>(first);
    block_of_rows<R - 1>(rows, first, f);
  }
}
template <int MOST, class F>
inline void row_blocks(int rows, const F& f) {
  const int blocks = (rows + MOST - 1) / MOST;
  for (int block = 0, first = 0; block < blocks; ++block) {
    const int last = static_cast<int>(static_cast<long>(rows) * (block + 1) / blocks);
    block_of_rows<MOST>(last - first, first, f);
    first = last;
  }
}

}  // namespace ltjax::LTJAX_TARGET
