// Runs every kernel on every kind of shape, under sanitizers, and holds it against loops in double
// precision that say what it is to compute. Buffers have their exact size, so that a step outside is
// caught; results must be the same, bit for bit, with one thread and with three.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "block_end.h"
#include "direct_conv.h"
#include "winograd_conv.h"

using namespace ltjax::LTJAX_TARGET;
using Array = std::vector<float>;
using Doubles = std::vector<double>;

int failures = 0;

Array random(size_t n) {
  Array values(n);
  for (float& value : values) value = std::rand() / (RAND_MAX / 2.f) - 1;
  return values;
}

// Relative to the norm of `sizes`, those of the terms where a sum may cancel.
void expect_close(const char* what, const Array& found, const Doubles& expected, const Doubles& sizes) {
  double error = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += std::pow(found[i] - expected[i], 2);
    size += std::pow(sizes[i], 2);
  }
  if (std::sqrt(error) <= 1e-5 * std::sqrt(size) + 1e-12) return;
  std::printf("  %s is off by %g\n", what, std::sqrt(error / size));
  ++failures;
}

void expect_close(const char* what, const Array& found, const Doubles& expected) {
  expect_close(what, found, expected, expected);
}

void expect_same(const char* what, const Array& one, const Array& other) {
  if (one == other) return;
  std::printf("  %s depends on the number of threads\n", what);
  ++failures;
}

// f(pool) with a pool of helpers that are threads of their own.
template <class F>
void with_threads(int threads, const F& f) {
  std::vector<std::thread> helpers;
  f(Pool{threads, [&](std::function<void()> work) { helpers.emplace_back(std::move(work)); }});
  for (std::thread& helper : helpers) helper.join();
}

struct Outputs {
  Array y, sum, squares, dx, dw, da, dc;
};

void test_conv(const Shape& s, bool affine, bool by_winograd) {
  std::printf("%d x %d x %d x %d x %d -> %d, stride %d%s%s\n", s.experts, s.images, s.height,
              s.width, s.in, s.out, s.stride, affine ? ", affine" : "", by_winograd ? ", winograd" : "");
  const size_t images = static_cast<size_t>(s.experts) * s.images;
  const Array x = random(images * s.in_size()), w = random(s.experts * s.kernel_size());
  const Array a = random(s.experts * s.in), c = random(s.experts * s.in);
  const Array dy = random(images * s.out_size());
  const Array d_sum = random(s.experts * s.out), d_squares = random(s.experts * s.out);

  const auto run = [&](const Pool& pool) {
    Outputs o{Array(dy.size()), Array(d_sum.size()), Array(d_sum.size()), Array(x.size()),
              Array(w.size()), Array(a.size()), Array(a.size())};
    const float *gain = affine ? a.data() : nullptr, *bias = affine ? c.data() : nullptr;
    (by_winograd ? winograd::forward : direct::forward)(
        pool, s, {x.data(), gain, bias, w.data(), o.y.data(), o.sum.data(), o.squares.data()});
    const Backward b{x.data(), gain, bias, w.data(), o.y.data(), dy.data(), d_sum.data(),
                     d_squares.data(), o.dx.data(), o.dw.data(), o.da.data(), o.dc.data()};
    (by_winograd ? winograd::backward : direct::backward)(pool, s, b);
    return o;
  };
  Outputs found, again;
  with_threads(1, [&](const Pool& pool) { found = run(pool); });
  with_threads(3, [&](const Pool& pool) { again = run(pool); });
  expect_same("y", found.y, again.y);
  expect_same("sum", found.sum, again.sum);
  expect_same("dx", found.dx, again.dx);
  expect_same("dw", found.dw, again.dw);
  expect_same("da", found.da, again.da);

  Doubles y(dy.size()), sum(d_sum.size()), sizes(d_sum.size()), squares(d_sum.size()), dx(x.size()), dw(w.size()),
      da(a.size()), dc(a.size());
  // each output, with each input and weight that it takes part in
  const auto each = [&](const auto& output, const auto& term) {
    size_t at = 0;
    for (int e = 0; e < s.experts; ++e)
      for (int n = 0; n < s.images; ++n)
        for (int row = 0; row < s.out_height(); ++row)
          for (int column = 0; column < s.out_width(); ++column)
            for (int o = 0; o < s.out; ++o, ++at) {
              for (int tap = 0; tap < 9; ++tap) {
                const int i = row * s.stride + tap / 3 - 1, j = column * s.stride + tap % 3 - 1;
                if (i < 0 || j < 0 || i >= s.height || j >= s.width) continue;
                for (int channel = 0; channel < s.in; ++channel) {
                  const size_t image = static_cast<size_t>(e) * s.images + n;
                  const size_t from = image * s.in_size() + (i * s.width + j) * s.in + channel;
                  const size_t weight = e * s.kernel_size() + (tap * s.in + channel) * s.out + o;
                  term(at, e * s.out + o, from, e * s.in + channel, weight);
                }
              }
              output(at, e * s.out + o);
            }
  };
  const auto before = [&](size_t from, int channel) {
    return affine ? double(a[channel]) * x[from] + c[channel] : double(x[from]);
  };
  const auto seen = [&](size_t from, int channel) {
    return affine ? std::max(0., before(from, channel)) : before(from, channel);
  };
  each([&](size_t at, int o) { sum[o] += y[at], sizes[o] += std::abs(y[at]), squares[o] += y[at] * y[at]; },
       [&](size_t at, int, size_t from, int channel, size_t weight) {
         y[at] += seen(from, channel) * w[weight];
       });
  each([](size_t, int) {},
       [&](size_t at, int o, size_t from, int channel, size_t weight) {
         const double g = dy[at] + d_sum[o] + 2 * y[at] * d_squares[o];
         dw[weight] += g * seen(from, channel);
         if (affine && before(from, channel) <= 0) return;
         const double dseen = g * w[weight];
         dx[from] += affine ? dseen * a[channel] : dseen;
         if (affine) da[channel] += dseen * x[from], dc[channel] += dseen;
       });
  expect_close("y", found.y, y);
  expect_close("sum", found.sum, sum, sizes);
  expect_close("squares", found.squares, squares);
  expect_close("dx", found.dx, dx);
  expect_close("dw", found.dw, dw);
  expect_close("da", found.da, da);
  expect_close("dc", found.dc, dc);
}

void test_block_end(const BlockEnd& s) {
  std::printf("end of a block, %d x %d x %d x %d x %d, shortcut %d, stride %d\n", s.experts,
              s.images, s.height, s.width, s.channels, s.x_channels, s.stride);
  const size_t images = static_cast<size_t>(s.experts) * s.images;
  const Array y = random(images * s.y_size()), x = random(images * s.x_size()), dh = random(y.size());
  const Array a = random(s.experts * s.channels), c = random(s.experts * s.channels);
  Array h(y.size()), dy(y.size()), dx(x.size()), da(a.size()), dc(a.size());
  with_threads(3, [&](const Pool& pool) {
    block_end(pool, s, y.data(), a.data(), c.data(), x.data(), h.data());
    block_end_gradient(pool, s, dh.data(), h.data(), y.data(), a.data(), dy.data(), dx.data(),
                       da.data(), dc.data());
  });
  Doubles want_h(y.size()), want_dy(y.size()), want_dx(x.size()), want_da(a.size()), want_dc(a.size());
  for (size_t at = 0; at < y.size(); ++at) {
    const size_t image = at / s.y_size(), pixel = at % s.y_size() / s.channels;
    const int o = at % s.channels, of = image / s.images * s.channels + o, i = o - s.before();
    const bool has_x = i >= 0 && i < s.x_channels;
    const size_t from = image * s.x_size() + (has_x ? s.in_x(pixel) + i : 0);
    want_h[at] = std::max(0., double(y[at]) * a[of] + c[of] + (has_x ? x[from] : 0.f));
    const double g = h[at] > 0 ? dh[at] : 0;
    want_dy[at] = g * a[of];
    want_da[of] += g * y[at];
    want_dc[of] += g;
    if (has_x) want_dx[from] = g;
  }
  expect_close("h", h, want_h);
  expect_close("dy", dy, want_dy);
  expect_close("dx", dx, want_dx);
  expect_close("da", da, want_da);
  expect_close("dc", dc, want_dc);
}

int main() {
  const int sizes[][2] = {{1, 1}, {2, 2}, {4, 4}, {3, 5}, {8, 8}, {7, 10}, {13, 2}};
  const int channels[][2] = {{1, 1}, {3, 16}, {16, 16}, {5, 20}, {33, 7}, {32, 64}, {17, 40}};
  const int images[] = {1, 3, 17, 2, 5, 20, 9};
  for (int i = 0; i < 7; ++i)
    for (int k = 0; k < 7; ++k)
      for (int stride = 1; stride <= 2; ++stride)
        for (int winograd = 0; winograd <= (stride == 1); ++winograd)
          test_conv({1 + (i + k) % 2, images[(i + k) % 7], sizes[i][0], sizes[i][1], channels[k][0],
                     channels[k][1], stride},
                    (i + k + winograd) % 3 != 0, winograd);
  for (int stride = 1; stride <= 2; ++stride)
    for (const auto& [x_channels, out] : {std::pair{0, 5}, {16, 16}, {16, 32}, {3, 10}, {7, 7}})
      for (const auto& size : sizes)
        test_block_end({2, 3, (size[0] + stride - 1) / stride, (size[1] + stride - 1) / stride, out,
                        size[0], size[1], x_channels, stride});
  std::printf("%d failures\n", failures);
  return failures > 0;
}
