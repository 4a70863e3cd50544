// The convolution as it is defined: for every shape, and where Winograd's form does not apply.
#pragma once

#include "matrix.h"
#include "problem.h"

namespace ltjax::LTJAX_TARGET::direct {

// Weights for `matrix.h`: [packed(outs) / block][depth][block], from value(k, o).
template <class Value>
inline void pack(int depth, int outs, float* to, const Value& value) {
  const int block = block_of(outs);
  for (int o = 0; o < outs; o += block)
    for (int k = 0; k < depth; ++k)
      for (int i = 0; i < block; ++i) *to++ = o + i < outs ? value(k, o + i) : 0.f;
}

inline void forward(const Pool& pool, const Shape& s, const Forward& f) {
  const int padded_w = s.width + 2, length = 3 * s.in, pixels = s.out_height() * s.out_width();
  const int offsets[3] = {0, padded_w * s.in, 2 * padded_w * s.in};
  const size_t weights_size = static_cast<size_t>(packed(s.out)) * 9 * s.in;
  const size_t padded_size = static_cast<size_t>(s.height + 2) * padded_w * s.in;
  Floats weights(s.experts * weights_size);
  parallel(pool, s.experts, [&](int e) {
    const float* w = f.w + e * s.kernel_size();
    pack(9 * s.in, s.out, weights.data() + e * weights_size,
         [&](int k, int o) { return w[static_cast<size_t>(k) * s.out + o]; });
  });

  const Parts parts(s, 4);
  Sums sums(parts, s.out);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const Affine before(f.a, f.c, s, part.expert);
    float* padded = scratch(0, padded_size);
    std::fill_n(padded, padded_size, 0.f);
    for (int n = part.first; n < part.last; ++n) {
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const float* x = f.x + image * s.in_size();
      float* y = f.y + image * s.out_size();
      copy_between_zeros(s.height, s.width, s.in, padded_w, s.in, padded,
                         [&](size_t at, int c, auto lanes) {
                           return before(lanes.load(x + at), c, lanes);
                         });
      product(
          pixels,
          [&](int i) {
            const int row = i / s.out_width(), column = i % s.out_width();
            return padded + static_cast<size_t>(row * padded_w + column) * s.stride * s.in;
          },
          offsets, 3, length, weights.data() + part.expert * weights_size, s.out,
          [&](int i) { return y + static_cast<size_t>(i) * s.out; });
      each_vector(s.out, [&](int o, auto lanes) {
        vec sum = {}, squares = {};
        for (int i = 0; i < pixels; ++i) {
          const vec v = lanes.load(y + static_cast<size_t>(i) * s.out + o);
          sum += v;
          squares += v * v;
        }
        lanes.store(sums.first(task) + o, lanes.load(sums.first(task) + o) + sum);
        lanes.store(sums.second(task) + o, lanes.load(sums.second(task) + o) + squares);
      });
    }
  });
  sums.add_up(f.sum, f.squares);
}

// A gradient with respect to the input is a sum over the outputs that a pixel took part in. With
// stride 2 these are other ones for even and odd rows and columns: four phases, of 1, 2, 2 and 4
// taps. With stride 1 there is one phase, of 9.
struct Phase {
  int row, column, rows, columns;  // first pixel, and how many, each `stride` apart
  int taps = 0, kernel[9], down[9], right[9];  // taps of the kernel; the output to read, relative

  Phase(const Shape& s, int row, int column)
      : row(row), column(column), rows((s.height - row + s.stride - 1) / s.stride),
        columns((s.width - column + s.stride - 1) / s.stride) {
    for (int ky = 2; ky >= 0; --ky)
      for (int kx = 2; kx >= 0; --kx) {
        const int y = row + 1 - ky, x = column + 1 - kx;
        if (y % s.stride || x % s.stride) continue;
        kernel[taps] = 3 * ky + kx;
        down[taps] = y / s.stride;
        right[taps++] = x / s.stride;
      }
  }
  size_t depth(const Shape& s) const { return static_cast<size_t>(taps) * s.out; }
};

constexpr int LINES = 4;  // of pixels at a time: sums stay in registers, images in the cache

inline void backward(const Pool& pool, const Shape& s, const Backward& b) {
  const int out_h = s.out_height(), out_w = s.out_width(), pixels = out_h * out_w;
  const int padded_w = s.width + 2, around_w = out_w + 2, outs = packed(s.out);
  const size_t padded_size = static_cast<size_t>(s.height + 2) * padded_w * s.in;
  const size_t around_size = static_cast<size_t>(out_h + 2) * around_w * s.out;
  std::vector<Phase> phases;
  for (int row = 0; b.dx && row < std::min(s.stride, s.height); ++row)
    for (int column = 0; column < std::min(s.stride, s.width); ++column)
      phases.emplace_back(s, row, column);

  const size_t weights_size = static_cast<size_t>(packed(s.in)) * 9 * s.out;
  Floats weights(b.dx ? s.experts * weights_size : 0);
  if (b.dx)
    parallel(pool, s.experts, [&](int e) {
      const float* w = b.w + e * s.kernel_size();
      float* to = weights.data() + e * weights_size;
      for (const Phase& phase : phases) {
        pack(phase.depth(s), s.in, to, [&](int k, int i) {
          return w[(static_cast<size_t>(phase.kernel[k / s.out]) * s.in + i) * s.out + k % s.out];
        });
        to += packed(s.in) * phase.depth(s);
      }
    });

  const Parts parts(s, 16);
  const size_t dw_size = size_t{9} * s.in * outs;
  Floats dw(parts.count * dw_size);  // a task's part of the kernel's gradient, [3][3 * in][outs]
  Sums sums(parts, s.in);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const Affine before(b.a, b.c, s, part.expert);
    float *padded = scratch(0, padded_size), *around = scratch(1, around_size);
    float *flat = scratch(2, static_cast<size_t>(pixels) * outs), *own_dw = dw.data() + task * dw_size;
    std::fill_n(padded, padded_size, 0.f);
    std::fill_n(around, around_size, 0.f);
    std::fill_n(flat, static_cast<size_t>(pixels) * outs, 0.f);
    std::fill_n(own_dw, dw_size, 0.f);
    for (int n = part.first; n < part.last; ++n) {
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const float* x = b.x + image * s.in_size();
      const Cotangent cotangent(b, s, part.expert, image);
      copy_between_zeros(out_h, out_w, s.out, around_w, s.out, around,
                         [&](size_t at, int o, auto lanes) {
                           const vec g = cotangent(at, o, lanes);
                           lanes.store(flat + at / s.out * outs + o, g);
                           return g;
                         });
      copy_between_zeros(s.height, s.width, s.in, padded_w, s.in, padded,
                         [&](size_t at, int c, auto lanes) {
                           return before(lanes.load(x + at), c, lanes);
                         });
      for (int row = 0; row < out_h; row += LINES)
        for (int ky = 0; ky < 3; ++ky)
          add_outer(padded + static_cast<size_t>(row * s.stride + ky) * padded_w * s.in,
                    s.stride * s.in, s.stride * padded_w * s.in,
                    flat + static_cast<size_t>(row) * out_w * outs, out_w,
                    std::min(LINES, out_h - row), 3 * s.in, outs,
                    own_dw + static_cast<size_t>(ky) * 3 * s.in * outs);
      if (!b.dx) continue;

      float* dx = b.dx + image * s.in_size();
      const float* w = weights.data() + part.expert * weights_size;
      for (const Phase& phase : phases) {
        int offsets[9];
        for (int t = 0; t < phase.taps; ++t)
          offsets[t] = (phase.down[t] * around_w + phase.right[t]) * s.out;
        product(
            phase.rows * phase.columns,
            [&](int i) {
              const int row = i / phase.columns, column = i % phase.columns;
              return around + (static_cast<size_t>(row + 1) * around_w + column + 1) * s.out;
            },
            offsets, phase.taps, s.out, w, s.in,
            [&](int i) {
              const int row = phase.row + i / phase.columns * s.stride;
              const int column = phase.column + i % phase.columns * s.stride;
              return dx + (static_cast<size_t>(row) * s.width + column) * s.in;
            });
        w += packed(s.in) * phase.depth(s);
      }
      if (!b.a) continue;
      each_vector(s.in, [&](int c, auto lanes) {
        Unaffine unaffine{lanes.load(before.a + c), lanes.load(before.c + c), vec{}, vec{}};
        for (int i = 0; i < s.height * s.width; ++i) {
          float* at = dx + static_cast<size_t>(i) * s.in + c;
          lanes.store(at, unaffine(lanes.load(x + static_cast<size_t>(i) * s.in + c), lanes.load(at)));
        }
        lanes.store(sums.first(task) + c, lanes.load(sums.first(task) + c) + unaffine.sum_x);
        lanes.store(sums.second(task) + c, lanes.load(sums.second(task) + c) + unaffine.sum);
      });
    }
  });
  sums.add_up(b.da, b.dc);
  parallel(pool, s.experts * 9, [&](int job) {  // a tap of the kernel a job
    const int e = job / 9;
    const size_t first = static_cast<size_t>(job % 9) * s.in;
    for (int i = 0; i < s.in; ++i)
      for (int o = 0; o < s.out; ++o) {
        float sum = 0;
        for (int t = 0; t < parts.per_expert; ++t)
          sum += dw.data()[(e * parts.per_expert + t) * dw_size + (first + i) * outs + o];
        b.dw[e * s.kernel_size() + (first + i) * s.out + o] = sum;
      }
  });
}

}  // namespace ltjax::LTJAX_TARGET::direct
