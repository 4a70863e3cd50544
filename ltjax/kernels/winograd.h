// Winograd's F(4x4, 3x3): a 3x3 convolution of stride 1 as 36 matrix products over tiles of 4x4
// outputs, with 2.25 products an output in place of 9.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, with other points
// of interpolation: 0, +-1/sqrt(2), +-sqrt(2) and infinity. They are as cheap as the usual 0, +-1, +-2
// and round better. Transforms along one axis, with a and b the roots of 1/2 and 2:
//
//   data       6 -> 6   (polynomial quotients)   of the overlapping tiles that are read
//   kernel     3 -> 6   (values at the points)   of the weights
//   kernel     4 -> 6   the same, of tiles that act as a kernel: the input, for the weights' gradient
//   result     6 -> 4   of tiles of outputs
//   result     6 -> 3   of the weights' gradient
#pragma once

#include "simd.h"

namespace ltjax::LTJAX_TARGET::winograd {

constexpr int M = 4, POINTS = M + 2, PRODUCTS = POINTS * POINTS;
constexpr float A = 0.70710678118654752440f, B = 1.41421356237309504880f;

LTJAX_INLINE void data(const vec* d, vec* t) {
  const vec even_a = d[4] - 2.f * d[2], odd_a = A * (d[3] - 2.f * d[1]);
  const vec even_b = d[4] - 0.5f * d[2], odd_b = B * (d[3] - 0.5f * d[1]);
  t[0] = d[0] + d[4] - 2.5f * d[2];
  t[1] = even_a + odd_a;
  t[2] = even_a - odd_a;
  t[3] = even_b + odd_b;
  t[4] = even_b - odd_b;
  t[5] = d[1] + d[5] - 2.5f * d[3];
}

LTJAX_INLINE void kernel4(const vec* g, vec* t) {
  const vec even_a = (g[0] + 0.5f * g[2]) * (-2.f / 3), odd_a = (g[1] + 0.5f * g[3]) * (-2.f / 3 * A);
  const vec even_b = (g[0] + 2.f * g[2]) * (1.f / 6), odd_b = (g[1] + 2.f * g[3]) * (1.f / 6 * B);
  t[0] = g[0];
  t[1] = even_a + odd_a;
  t[2] = even_a - odd_a;
  t[3] = even_b + odd_b;
  t[4] = even_b - odd_b;
  t[5] = g[3];
}
LTJAX_INLINE void kernel3(const vec* g, vec* t) {
  const vec four[4] = {g[0], g[1], g[2], vec{}};
  kernel4(four, t);
  t[5] = g[2];
}

LTJAX_INLINE void result4(const vec* m, vec* y) {
  const vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + even_a + even_b;
  y[1] = A * odd_a + B * odd_b;
  y[2] = 0.5f * even_a + 2.f * even_b;
  y[3] = m[5] + (0.5f * A) * odd_a + (2.f * B) * odd_b;
}
LTJAX_INLINE void result3(const vec* m, vec* y) {
  const vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + even_a + even_b;
  y[1] = A * odd_a + B * odd_b;
  y[2] = m[5] + 0.5f * even_a + 2.f * even_b;
}

// Both axes: n x n values to m x m, where get(i, j) reads one and put(i, j, value) takes one.
template <int N, int K, void (*ONE)(const vec*, vec*), class Get, class Put>
LTJAX_INLINE void both_axes(const Get& get, const Put& put) {
  vec half[K][N];
  for (int j = 0; j < N; ++j) {
    vec column[N], t[K];
    for (int i = 0; i < N; ++i) column[i] = get(i, j);
    ONE(column, t);
    for (int i = 0; i < K; ++i) half[i][j] = t[i];
  }
  for (int i = 0; i < K; ++i) {
    vec t[K];
    ONE(half[i], t);
    for (int j = 0; j < K; ++j) put(i, j, t[j]);
  }
}

// A tile of 4x4 pixels of a group of images.
struct Tile {
  int padded;      // first pixel of its 6x6 in the padded images
  int image;       // first pixel in the images
  int rows, cols;  // of its pixels that are in the image
  bool whole() const { return rows == M && cols == M; }
};

// How a group of images is laid out: images side by side, and with a border of zeros for reading.
struct Layout {
  int height, width, images;
  int down, across;      // tiles of an image
  int padded_h, padded_w;  // an image with its border, tiles whole

  Layout(int height, int width, int images)
      : height(height), width(width), images(images),
        down((height + M - 1) / M), across((width + M - 1) / M),
        padded_h(down * M + 2), padded_w(across * M + 2) {}

  int tiles(int images) const { return images * down * across; }
  int padded_size() const { return images * padded_h * padded_w; }
  Tile tile(int t) const {
    const int n = t / (down * across), y = t / across % down * M, x = t % across * M;
    return {(n * padded_h + y) * padded_w + x, (n * height + y) * width + x,
            std::min(M, height - y), std::min(M, width - x)};
  }
};

// Transformed tiles: PRODUCTS matrices [tiles][channels], `step` floats apart (not a power of two, so
// that the matrices do not fall on the same cache lines).
inline size_t step_of(int tiles, int channels) { return static_cast<size_t>(tiles) * channels + 16; }

// Overlapping 6x6 tiles of padded images [pixels][channels], channels a multiple of V.
inline void data_tiles(const float* padded, const Layout& at, const Tile* tiles, int count,
                       int channels, float* out, size_t step) {
  for (int t = 0; t < count; ++t) {
    const float* from = padded + static_cast<size_t>(tiles[t].padded) * channels;
    for (int c = 0; c < channels; c += V) {
      float* to = out + static_cast<size_t>(t) * channels + c;
      both_axes<POINTS, POINTS, data>(
          [&](int i, int j) { return All{}.load(from + (i * at.padded_w + j) * channels + c); },
          [&](int i, int j, vec value) { All{}.store(to + (i * POINTS + j) * step, value); });
    }
  }
}

// Tiles of 4x4 pixels as kernels; get(pixel, channel, lanes) reads one.
template <class Get>
inline void kernel_tiles(const Layout& at, const Tile* tiles, int count, int channels, int stride,
                         float* out, size_t step, const Get& get) {
  for (int t = 0; t < count; ++t)
    each_vector(channels, [&](int c, auto lanes) {
      const Tile tile = tiles[t];
      float* to = out + static_cast<size_t>(t) * stride + c;
      const auto put = [&](int i, int j, vec v) { All{}.store(to + (i * POINTS + j) * step, v); };
      const auto value = [&](int i, int j) { return get(tile.image + i * at.width + j, c, lanes); };
      if (tile.whole())
        both_axes<M, POINTS, kernel4>(value, put);
      else
        both_axes<M, POINTS, kernel4>(
            [&](int i, int j) { return i < tile.rows && j < tile.cols ? value(i, j) : vec{}; }, put);
    });
}

// Products back to pixels; put(pixel, value) takes those in the image. One vector of channels.
template <class Put>
LTJAX_INLINE void result_tile(const Layout& at, const Tile& tile, const float* products, size_t step,
                        const Put& put) {
  const auto get = [&](int i, int j) { return All{}.load(products + (i * POINTS + j) * step); };
  if (tile.whole())
    both_axes<POINTS, M, result4>(
        get, [&](int i, int j, vec v) { put(tile.image + i * at.width + j, v); });
  else
    both_axes<POINTS, M, result4>(get, [&](int i, int j, vec v) {
      if (i < tile.rows && j < tile.cols) put(tile.image + i * at.width + j, v);
    });
}

}  // namespace ltjax::LTJAX_TARGET::winograd
