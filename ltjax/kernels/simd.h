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

namespace ltjax::LTJAX_TARGET {

#if defined(__AVX512F__)
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
inline void each_vector(int channels, F f) {
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

// f<R>(first row) for blocks of R = ROWS rows, then one smaller block for what is left.
template <int R, class F>
inline void rest_of_rows(int row, int rows, const F& f) {
  if constexpr (R > 0) {
    if (rows - row == R) return f.template operator()<R>(row);
    rest_of_rows<R - 1>(row, rows, f);
  }
}
template <int R, class F>
inline void row_blocks(int rows, const F& f) {
  int row = 0;
  for (; row + R <= rows; row += R) f.template operator()<R>(row);
  rest_of_rows<R - 1>(row, rows, f);
}

}  // namespace ltjax::LTJAX_TARGET
