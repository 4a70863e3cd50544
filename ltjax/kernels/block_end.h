// The gradient of the end of a residual block, relu(a * y + c + shortcut), in one pass.
#pragma once

#include "problem.h"

namespace ltjax::LTJAX_TARGET {

// From dh, the gradient with respect to the value h, [experts][images][pixels][channels]:
//   d_shortcut = dh where h > 0, else 0;  dy = a * d_shortcut;
//   da = sum of d_shortcut * y, dc = sum of d_shortcut, by expert and channel.
inline void block_end_backward(const Pool& pool, const Shape& s, const float* dh, const float* h,
                               const float* y, const float* a, float* dy, float* d_shortcut,
                               float* da, float* dc) {
  const Parts parts(s, 8);
  Sums sums(parts, s.out);
  parallel(pool, parts.count, [&](int task) {
    const Part part = parts[task];
    const int pixels = s.height * s.width;
    for (int n = part.first; n < part.last; ++n) {
      const size_t image = (static_cast<size_t>(part.expert) * s.images + n) * s.out_size();
      each_vector(s.out, [&](int o, auto lanes) {
        const vec gain = lanes.load(a + static_cast<size_t>(part.expert) * s.out + o);
        vec sum_y = {}, sum = {};
        for (int i = 0; i < pixels; ++i) {
          const size_t at = image + static_cast<size_t>(i) * s.out + o;
          const vec g = lanes.load(h + at) > 0 ? lanes.load(dh + at) : vec{};
          sum_y += g * lanes.load(y + at);
          sum += g;
          lanes.store(d_shortcut + at, g);
          lanes.store(dy + at, g * gain);
        }
        lanes.store(sums.first(task) + o, lanes.load(sums.first(task) + o) + sum_y);
        lanes.store(sums.second(task) + o, lanes.load(sums.second(task) + o) + sum);
      });
    }
  });
  sums.add_up(da, dc);
}

}  // namespace ltjax::LTJAX_TARGET
