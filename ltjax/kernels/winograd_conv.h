// The convolution of stride 1 through Winograd's transforms.
//
// One transform of the output's gradient serves both gradients: its overlapping tiles are data for
// the input's gradient (a convolution with the turned kernel) and for the kernel's (a correlation
// with the input, whose tiles are the kernel there).
#pragma once

#include "matrix.h"
#include "problem.h"
#include "winograd.h"

namespace ltjax::LTJAX_TARGET::winograd {

constexpr int BAND = 24;  // tiles at a time, so that their transforms stay in the cache

// Images that are tiled together: enough to fill a band, and of `each` images equal groups.
inline int group_of(const Layout& one, int each) {
  const int most = std::max(1, BAND / one.tiles(1)), groups = (each + most - 1) / most;
  return (each + groups - 1) / groups;
}

struct Bands {
  Layout at;
  std::vector<Tile> tiles;

  Bands(const Shape& s, int group) : at(s.height, s.width, group) {
    for (int t = 0; t < at.tiles(group); ++t) tiles.push_back(at.tile(t));
  }
  // f(first tile, how many) for bands of nearly equal size.
  template <class F>
  void each(int images, const F& f) const {
    const int total = at.tiles(images), bands = (total + BAND - 1) / BAND;
    for (int band = 0, first = 0; band < bands; ++band) {
      const int last = static_cast<int>(static_cast<long>(total) * (band + 1) / bands);
      f(tiles.data() + first, last - first);
      first = last;
    }
  }
};

// Transformed kernels [PRODUCTS][packed(outs) / block][depth][block], from get(tap, k, o, lanes).
inline size_t weights_size(int depth, int outs) {
  return static_cast<size_t>(PRODUCTS) * depth * packed(outs);
}
template <class Get>
inline void transform_weights(int depth, int outs, float* to, const Get& get) {
  const int block = block_of(outs);
  const size_t matrix = static_cast<size_t>(depth) * packed(outs);
  if (packed(outs) != outs) std::fill_n(to, PRODUCTS * matrix, 0.f);
  for (int k = 0; k < depth; ++k)
    each_vector(outs, [&](int o, auto lanes) {
      float* at = to + (static_cast<size_t>(o / block) * depth + k) * block + o % block;
      both_axes<3, POINTS, kernel3>(
          [&](int i, int j) { return get(3 * i + j, k, o, lanes); },
          [&](int i, int j, vec v) { All{}.store(at + (i * POINTS + j) * matrix, v); });
    });
}

// out_p = tiles_p weights_p for each of the PRODUCTS.
inline void products(const float* tiles, size_t step, int count, int depth, int stride,
                     const float* weights, int outs, float* out, size_t out_step) {
  const int offset = 0, ld = packed(outs);
  for (int p = 0; p < PRODUCTS; ++p, weights += static_cast<size_t>(depth) * ld) {
    const float* left = tiles + p * step;
    float* to = out + p * out_step;
    product(
        count, [&](int t) { return left + static_cast<size_t>(t) * stride; }, &offset, 1, depth,
        weights, ld, [&](int t) { return to + static_cast<size_t>(t) * ld; });
  }
}

inline void forward(const Pool& pool, const Shape& s, const Forward& f) {
  const int each = std::min(8, s.images), group = group_of(Layout(s.height, s.width, 1), each);
  const Bands bands(s, group);
  const Layout& at = bands.at;
  const int ins = round_up(s.in, V), outs = packed(s.out);
  const size_t step_in = step_of(BAND, ins), step_out = step_of(BAND, outs);
  const size_t padded_size = static_cast<size_t>(at.padded_size()) * ins;
  const size_t w_size = weights_size(s.in, s.out);
  Floats weights(s.experts * w_size);
  parallel(pool, s.experts, [&](int e) {
    const float* w = f.w + e * s.kernel_size();
    transform_weights(s.in, s.out, weights.data() + e * w_size, [&](int tap, int k, int o, auto lanes) {
      return lanes.load(w + (static_cast<size_t>(tap) * s.in + k) * s.out + o);
    });
  });

  const Parts parts(s, each);
  Sums sums(parts, s.out);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const Affine before(f.a, f.c, s, part.expert);
    const float* w = weights.data() + part.expert * w_size;
    float* padded = scratch(0, padded_size);
    float *data = scratch(1, PRODUCTS * step_in), *result = scratch(2, PRODUCTS * step_out);
    std::fill_n(padded, padded_size, 0.f);
    for (int n = part.first; n < part.last; n += group) {
      const int images = std::min(group, part.last - n);
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const float* x = f.x + image * s.in_size();
      float* y = f.y + image * s.out_size();
      for (int i = 0; i < images; ++i)
        copy_between_zeros(s.height, s.width, s.in, at.padded_w, ins,
                           padded + static_cast<size_t>(i) * at.padded_h * at.padded_w * ins,
                           [&](size_t pixel, int c, auto lanes) {
                             return before(lanes.load(x + i * s.in_size() + pixel), c, lanes);
                           });
      bands.each(images, [&](const Tile* tiles, int count) {
        data_tiles(padded, at, tiles, count, ins, data, step_in);
        products(data, step_in, count, s.in, ins, w, s.out, result, step_out);
        for (int t = 0; t < count; ++t)
          each_vector(s.out, [&](int o, auto lanes) {
            vec sum = lanes.load(sums.first(task) + o), squares = lanes.load(sums.second(task) + o);
            result_tile(at, tiles[t], result + static_cast<size_t>(t) * outs + o, step_out,
                        [&](int pixel, vec v) {
                          sum += v;
                          squares += v * v;
                          lanes.store(y + static_cast<size_t>(pixel) * s.out + o, v);
                        });
            lanes.store(sums.first(task) + o, sum);
            lanes.store(sums.second(task) + o, squares);
          });
      });
    }
  });
  sums.add_up(f.sum, f.squares);
}

inline void backward(const Pool& pool, const Shape& s, const Backward& b) {
  const int each = std::min(16, s.images), group = group_of(Layout(s.height, s.width, 1), each);
  const Bands bands(s, group);
  const Layout& at = bands.at;
  const int ins = packed(s.in), outs = packed(s.out);
  const size_t step_in = step_of(BAND, ins), step_out = step_of(BAND, outs);
  const size_t padded_size = static_cast<size_t>(at.padded_size()) * outs;
  const size_t w_size = weights_size(s.out, s.in);
  Floats weights(s.experts * w_size);
  parallel(pool, s.experts, [&](int e) {
    const float* w = b.w + e * s.kernel_size();
    transform_weights(s.out, s.in, weights.data() + e * w_size, [&](int tap, int k, int i, auto lanes) {
      float turned[V];
      const int count = std::min(V, s.in - i);
      for (int v = 0; v < count; ++v)
        turned[v] = w[(static_cast<size_t>(8 - tap) * s.in + i + v) * s.out + k];
      return lanes.load(turned);
    });
  });

  const Parts parts(s, each);
  const size_t matrix = static_cast<size_t>(s.in) * outs, dw_size = PRODUCTS * matrix;
  Floats dw(parts.count * dw_size);  // a task's part of the kernel's gradient, transformed
  Sums sums(parts, s.in);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const Affine before(b.a, b.c, s, part.expert);
    const float* w = weights.data() + part.expert * w_size;
    float *around = scratch(0, padded_size), *data = scratch(1, PRODUCTS * step_out);
    float *result = scratch(2, PRODUCTS * step_in), *kernel = scratch(3, PRODUCTS * step_in);
    float* own_dw = dw.data() + task * dw_size;
    std::fill_n(around, padded_size, 0.f);
    std::fill_n(own_dw, dw_size, 0.f);
    for (int n = part.first; n < part.last; n += group) {
      const int images = std::min(group, part.last - n);
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const float* x = b.x + image * s.in_size();
      float* dx = b.dx + image * s.in_size();
      for (int i = 0; i < images; ++i) {
        const Cotangent cotangent(b, s, part.expert, image + i);
        copy_between_zeros(s.height, s.width, s.out, at.padded_w, outs,
                           around + static_cast<size_t>(i) * at.padded_h * at.padded_w * outs,
                           cotangent);
      }
      bands.each(images, [&](const Tile* tiles, int count) {
        data_tiles(around, at, tiles, count, outs, data, step_out);
        kernel_tiles(at, tiles, count, s.in, ins, kernel, step_in, [&](int pixel, int c, auto lanes) {
          return before(lanes.load(x + static_cast<size_t>(pixel) * s.in + c), c, lanes);
        });
        for (int p = 0; p < PRODUCTS; ++p)
          add_outer(kernel + p * step_in, ins, 0, data + p * step_out, count, 1, s.in, outs,
                    own_dw + p * matrix);
        products(data, step_out, count, s.out, outs, w, s.in, result, step_in);
        for (int t = 0; t < count; ++t)
          each_vector(s.in, [&](int c, auto lanes) {
            const float* products = result + static_cast<size_t>(t) * ins + c;
            if (!b.a)
              return result_tile(at, tiles[t], products, step_in, [&](int pixel, vec g) {
                lanes.store(dx + static_cast<size_t>(pixel) * s.in + c, g);
              });
            Unaffine unaffine{lanes.load(before.a + c), lanes.load(before.c + c),
                              lanes.load(sums.first(task) + c), lanes.load(sums.second(task) + c)};
            result_tile(at, tiles[t], products, step_in, [&](int pixel, vec g) {
              const size_t where = static_cast<size_t>(pixel) * s.in + c;
              lanes.store(dx + where, unaffine(lanes.load(x + where), g));
            });
            lanes.store(sums.first(task) + c, unaffine.sum_x);
            lanes.store(sums.second(task) + c, unaffine.sum);
          });
      });
    }
  });
  sums.add_up(b.da, b.dc);
  parallel(pool, s.experts * s.in, [&](int job) {  // an input channel a job
    const int e = job / s.in, i = job % s.in;
    const float* of_task = dw.data() + e * parts.per_expert * dw_size + static_cast<size_t>(i) * outs;
    float* to = b.dw + e * s.kernel_size() + static_cast<size_t>(i) * s.out;
    each_vector(s.out, [&](int o, auto lanes) {
      both_axes<POINTS, 3, result3>(
          [&](int p, int q) {
            vec sum = {};
            for (int t = 0; t < parts.per_expert; ++t)
              sum += lanes.load(of_task + t * dw_size + (p * POINTS + q) * matrix + o);
            return sum;
          },
          [&](int p, int q, vec v) {  // the correlation runs the other way than the kernel
            lanes.store(to + static_cast<size_t>(8 - 3 * p - q) * s.in * s.out + o, v);
          });
    });
  });
}

}  // namespace ltjax::LTJAX_TARGET::winograd
