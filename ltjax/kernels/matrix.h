// Small matrix products in registers: what all arithmetic of the convolutions ends in.
#pragma once

#include "simd.h"

namespace ltjax::LTJAX_TARGET {

// out[r][o] = sum over t < taps, k < length of row(r)[offsets[t] + k] * w[t * length + k][o]
//
//   row, to: functions of r, the start of row r of the left operand and of the result
//   w: [packed(outs) / block][taps * length][block], block = block_of(outs)
template <int VB, class Row, class To>
inline void product(int rows, const Row& row, const int* offsets, int taps, int length,
                    const float* w, int outs, const To& to) {
  for (int o = 0; o < outs; o += VB * V, w += static_cast<size_t>(taps) * length * VB * V)
    row_blocks<ROWS<VB>>(rows, [&]<int R>(int first) {
      const float* left[R];
      for (int r = 0; r < R; ++r) left[r] = row(first + r);
      vec sums[R][VB] = {};
      const float* right = w;
      for (int t = 0; t < taps; ++t)
        for (int k = offsets[t]; k < offsets[t] + length; ++k, right += VB * V) {
          vec b[VB];
          for (int v = 0; v < VB; ++v) b[v] = All{}.load(right + v * V);
          for (int r = 0; r < R; ++r)
            for (int v = 0; v < VB; ++v) sums[r][v] += left[r][k] * b[v];
        }
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < VB; ++v) {
          const int left_over = outs - o - v * V;
          float* out = to(first + r) + o + v * V;
          if (left_over >= V)
            All{}.store(out, sums[r][v]);
          else if (left_over > 0)
            Some{left_over}.store(out, sums[r][v]);
        }
    });
}
template <class Row, class To>
inline void product(int rows, const Row& row, const int* offsets, int taps, int length,
                    const float* w, int outs, const To& to) {
  if (block_of(outs) == V)
    product<1>(rows, row, offsets, taps, length, w, outs, to);
  else
    product<2>(rows, row, offsets, taps, length, w, outs, to);
}

// s[k][o] += sum over lines and rows of x[line * x_line + row * x_row + k] * d[line][row][o]
//
//   d: [lines][rows][outs], s: [length][outs]; outs a multiple of block_of(outs)
template <int VB>
inline void add_outer(const float* x, int x_row, int x_line, const float* d, int rows, int lines,
                      int length, int outs, float* s) {
  constexpr int BLOCK = REGISTERS == 32 ? (VB == 2 ? 12 : 16) : (VB == 2 ? 6 : 8);
  for (int o = 0; o < outs; o += VB * V)
    row_blocks<BLOCK>(length, [&]<int K>(int first) {
      vec sums[K][VB];
      for (int k = 0; k < K; ++k)
        for (int v = 0; v < VB; ++v)
          sums[k][v] = All{}.load(s + static_cast<size_t>(first + k) * outs + o + v * V);
      const float* right = d + o;
      for (int line = 0; line < lines; ++line) {
        const float* left = x + static_cast<size_t>(line) * x_line + first;
        for (int row = 0; row < rows; ++row, left += x_row, right += outs) {
          vec b[VB];
          for (int v = 0; v < VB; ++v) b[v] = All{}.load(right + v * V);
          for (int k = 0; k < K; ++k)
            for (int v = 0; v < VB; ++v) sums[k][v] += left[k] * b[v];
        }
      }
      for (int k = 0; k < K; ++k)
        for (int v = 0; v < VB; ++v)
          All{}.store(s + static_cast<size_t>(first + k) * outs + o + v * V, sums[k][v]);
    });
}
inline void add_outer(const float* x, int x_row, int x_line, const float* d, int rows, int lines,
                      int length, int outs, float* s) {
  if (block_of(outs) == V)
    add_outer<1>(x, x_row, x_line, d, rows, lines, length, outs, s);
  else
    add_outer<2>(x, x_row, x_line, d, rows, lines, length, outs, s);
}

}  // namespace ltjax::LTJAX_TARGET
