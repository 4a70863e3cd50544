// The end of a residual block, h = relu(a * y + c + shortcut of x), and its gradient, one pass each.
//
// The shortcut has no parameters: of every stride-th row and column of x, its channels, with zeros on
// both sides where there are fewer than y has. Without x there is none.
#pragma once

#include "problem.h"

namespace ltjax::LTJAX_TARGET {

struct BlockEnd {
  int experts, images, height, width, channels;  // of y
  int x_height, x_width, x_channels, stride;     // x_channels 0: no shortcut

  size_t y_size() const { return static_cast<size_t>(height) * width * channels; }  // of an image
  size_t x_size() const { return static_cast<size_t>(x_height) * x_width * x_channels; }
  int before() const { return (channels - x_channels) / 2; }  // new channels before those of x

  // Where pixel i of an image of y lies in its image of x.
  size_t in_x(int i) const {
    return static_cast<size_t>(i / width * x_width + i % width) * stride * x_channels;
  }
  Parts parts() const {
    return Parts({experts, images, height, width, channels, channels, 1}, 8);
  }
};

inline void block_end(const Pool& pool, const BlockEnd& s, const float* y, const float* a,
                      const float* c, const float* x, float* h) {
  const Parts parts = s.parts();
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const float *gain = a + static_cast<size_t>(part.expert) * s.channels;
    const float *bias = c + static_cast<size_t>(part.expert) * s.channels;
    float* wide = scratch(0, s.channels);
    std::fill_n(wide, s.channels, 0.f);
    for (int n = part.first; n < part.last; ++n) {
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const float *of_y = y + image * s.y_size(), *of_x = x + image * s.x_size();
      float* to = h + image * s.y_size();
      for (int i = 0; i < s.height * s.width; ++i) {
        const size_t at = static_cast<size_t>(i) * s.channels;
        const float* shortcut = wide;
        if (s.x_channels == s.channels)
          shortcut = of_x + s.in_x(i);
        else
          std::copy_n(of_x + s.in_x(i), s.x_channels, wide + s.before());
        each_vector(s.channels, [&](int o, auto lanes) {
          const vec v = lanes.load(of_y + at + o) * lanes.load(gain + o) + lanes.load(bias + o) +
                        lanes.load(shortcut + o);
          lanes.store(to + at + o, vec{} > v ? vec{} : v);  // NaN stays NaN
        });
      }
    }
  });
}

// From dh, with respect to h: dy, dx, and da, dc summed over images.
inline void block_end_gradient(const Pool& pool, const BlockEnd& s, const float* dh, const float* h,
                               const float* y, const float* a, float* dy, float* dx, float* da,
                               float* dc) {
  const Parts parts = s.parts();
  Sums sums(parts, s.channels);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const float* gain = a + static_cast<size_t>(part.expert) * s.channels;
    float *sum_y = sums.first(task), *sum = sums.second(task), *wide = scratch(0, s.channels);
    for (int n = part.first; n < part.last; ++n) {
      const size_t image = static_cast<size_t>(part.expert) * s.images + n;
      const size_t first = image * s.y_size();
      float* to_x = dx + image * s.x_size();
      if (s.x_channels && s.stride > 1) std::fill_n(to_x, s.x_size(), 0.f);
      for (int i = 0; i < s.height * s.width; ++i) {
        const size_t at = first + static_cast<size_t>(i) * s.channels;
        float* shortcut = s.x_channels == s.channels ? to_x + s.in_x(i) : wide;
        each_vector(s.channels, [&](int o, auto lanes) {
          const vec g = lanes.load(h + at + o) > 0 ? lanes.load(dh + at + o) : vec{};
          lanes.store(sum_y + o, lanes.load(sum_y + o) + g * lanes.load(y + at + o));
          lanes.store(sum + o, lanes.load(sum + o) + g);
          lanes.store(shortcut + o, g);
          lanes.store(dy + at + o, g * lanes.load(gain + o));
        });
        if (s.x_channels != s.channels)
          std::copy_n(wide + s.before(), s.x_channels, to_x + s.in_x(i));
      }
    }
  });
  sums.add_up(da, dc);
}

}  // namespace ltjax::LTJAX_TARGET
