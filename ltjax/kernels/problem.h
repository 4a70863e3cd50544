// What is to be computed, and how images are shared out.
//
//   y = conv3x3(relu(a * x + c), w), zero-padded by 1, with the sums of y and of y * y by channel
//
// Images are NHWC, kernels HWIO, all float32; E experts are a leading axis of every array. Work goes
// image by image, so that what an image needs stays in the cache: the affine and the ReLU are applied
// while it is read, the sums are taken while it is written. Images are cut into a fixed number of
// tasks, whose partial sums are added in a fixed order: results are the same, bit for bit, for any
// number of threads.
#pragma once

#include "simd.h"
#include "threads.h"

namespace ltjax::LTJAX_TARGET {

struct Shape {
  int experts, images, height, width, in, out, stride;
  int out_height() const { return (height + stride - 1) / stride; }
  int out_width() const { return (width + stride - 1) / stride; }
  size_t in_size() const { return static_cast<size_t>(height) * width * in; }  // of an image
  size_t out_size() const { return static_cast<size_t>(out_height()) * out_width() * out; }
  size_t kernel_size() const { return size_t{9} * in * out; }  // of an expert
};

struct Forward {
  const float *x, *a, *c, *w;  // a and c null where x is read as it is
  float *y, *sum, *squares;
};

struct Backward {
  const float *x, *a, *c, *w, *y;
  const float *dy, *d_sum, *d_squares;
  float *dx, *dw, *da, *dc;  // dx null where it is not wanted
};

// What x goes through before the convolution.
struct Affine {
  const float *a, *c;  // [in] of an expert, or both null

  Affine(const float* a, const float* c, const Shape& s, int expert)
      : a(a ? a + static_cast<size_t>(expert) * s.in : nullptr),
        c(a ? c + static_cast<size_t>(expert) * s.in : nullptr) {}

  template <class Lanes>
  vec before_relu(vec x, int channel, Lanes lanes) const {
    return x * lanes.load(a + channel) + lanes.load(c + channel);
  }
  template <class Lanes>
  vec operator()(vec x, int channel, Lanes lanes) const {
    if (!a) return x;
    const vec v = before_relu(x, channel, lanes);
    return vec{} > v ? vec{} : v;  // NaN stays NaN
  }
};

// The gradient of y with that of its sums: dy + d_sum + 2 * y * d_squares.
struct Cotangent {
  const float *y, *dy, *d_sum, *d_squares;  // of an image, of an image, [out], [out]

  Cotangent(const Backward& b, const Shape& s, int expert, size_t image)
      : y(b.y + image * s.out_size()), dy(b.dy + image * s.out_size()),
        d_sum(b.d_sum + static_cast<size_t>(expert) * s.out),
        d_squares(b.d_squares + static_cast<size_t>(expert) * s.out) {}

  template <class Lanes>
  vec operator()(size_t at, int channel, Lanes lanes) const {
    return lanes.load(dy + at) + lanes.load(d_sum + channel) +
           2.f * lanes.load(y + at) * lanes.load(d_squares + channel);
  }
};

// Some images of one expert: the work of a task.
struct Part {
  int expert, first, last;
};

// All images of all experts, `each` to a task.
struct Parts {
  int images, each, per_expert, count;

  Parts(const Shape& s, int each)
      : images(s.images), each(each), per_expert((s.images + each - 1) / each),
        count(s.experts * per_expert) {}

  Part operator[](int task) const {
    const int first = task % per_expert * each;
    return {task / per_expert, first, std::min(images, first + each)};
  }
};

// Two sums by channel, one row of [2][channels] a task.
class Sums {
 public:
  Sums(const Parts& parts, int channels)
      : parts_(parts), channels_(channels), rows_(size_t{2} * parts.count * channels, 0.f) {}

  float* first(int task) { return rows_.data() + size_t{2} * task * channels_; }
  float* second(int task) { return first(task) + channels_; }

  // The sums of each expert, [experts][channels] both.
  void add_up(float* first, float* second) const {
    for (int e = 0; e < parts_.count / parts_.per_expert; ++e)
      for (int o = 0; o < channels_; ++o) {
        double sums[2] = {0, 0};
        for (int t = 0; t < parts_.per_expert; ++t)
          for (int which = 0; which < 2; ++which)
            sums[which] += rows_[(size_t{2} * (e * parts_.per_expert + t) + which) * channels_ + o];
        first[e * channels_ + o] = static_cast<float>(sums[0]);
        second[e * channels_ + o] = static_cast<float>(sums[1]);
      }
  }

 private:
  Parts parts_;
  int channels_;
  std::vector<float> rows_;
};

// [height][width][channels] into the middle of zeros, [.][padded_w][stride] from row and column 1;
// get(at, channel, lanes) reads a vector. What lies around must have been zeroed.
template <class Get>
inline void copy_between_zeros(int height, int width, int channels, int padded_w, int stride,
                               float* to, const Get& get) {
  for (int row = 0; row < height; ++row)
    for (int column = 0; column < width; ++column) {
      const size_t from = (static_cast<size_t>(row) * width + column) * channels;
      float* pixel = to + (static_cast<size_t>(row + 1) * padded_w + column + 1) * stride;
      each_vector(channels, [&](int c, auto lanes) {
        lanes.store(pixel + c, get(from + c, c, lanes));
      });
    }
}

// Gradients of relu(a * x + c) with respect to x, a (sum_x) and c (sum), from g with respect to its
// value.
struct Unaffine {
  vec a, c, sum_x, sum;  // the sums so far
  vec operator()(vec x, vec g) {
    g = x * a + c > 0 ? g : vec{};
    sum_x += g * x;
    sum += g;
    return g * a;
  }
};

}  // namespace ltjax::LTJAX_TARGET
