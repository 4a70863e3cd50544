// What XLA calls: the handlers of its foreign function interface, which check shapes and choose a form.
#include <algorithm>
#include <initializer_list>
#include <utility>

#include "block_end.h"
#include "direct_conv.h"
#include "winograd_conv.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace ltjax::LTJAX_TARGET;
using In = ffi::Buffer<ffi::F32>;
using Out = ffi::ResultBuffer<ffi::F32>;

// The product of the leading axes, all but the last `keep`.
int leading(const In& b, size_t keep) {
  int64_t n = 1;
  for (size_t i = 0; i + keep < b.dimensions().size(); ++i) n *= b.dimensions()[i];
  return static_cast<int>(n);
}
int from_end(const In& b, int i) { return static_cast<int>(b.dimensions()[b.dimensions().size() - i]); }

Pool pool_of(ffi::ThreadPool& threads) {
  return {static_cast<int>(threads.num_threads()),
          [&](std::function<void()> f) { threads.Schedule(std::move(f)); }};
}

Shape shape_of(const In& x, const In& w, int64_t stride) {
  return {leading(x, 4), from_end(x, 4), from_end(x, 3), from_end(x, 2),
          from_end(x, 1), from_end(w, 1), static_cast<int>(stride)};
}

// Whether each buffer has as many elements as it must.
using Sizes = std::initializer_list<std::pair<size_t, size_t>>;
bool fit(const Sizes& sizes) {
  return std::all_of(sizes.begin(), sizes.end(), [](const auto& s) { return s.first == s.second; });
}
ffi::Error misfit() {
  return ffi::Error::InvalidArgument("ltjax: operands and results do not fit one another");
}

ffi::Error check(const In& x, const In& w, int64_t stride) {
  if (x.dimensions().size() < 4 || w.dimensions().size() < 4 || from_end(w, 2) != from_end(x, 1) ||
      from_end(w, 3) != 3 || from_end(w, 4) != 3 || (stride != 1 && stride != 2) ||
      x.element_count() == 0 || w.element_count() == 0)
    return ffi::Error::InvalidArgument("conv_sums needs x [..., B, H, W, I] and w [..., 3, 3, I, O], not empty, stride 1 or 2");
  return ffi::Error::Success();
}

ffi::Error ConvSums(ffi::ThreadPool threads, In x, In a, In c, In w, Out y, Out sum, Out squares,
                    int64_t stride, int64_t affine, int64_t winograd) {
  if (ffi::Error error = check(x, w, stride); error.failure()) return error;
  const Pool pool = pool_of(threads);
  const Forward f{x.typed_data(), affine ? a.typed_data() : nullptr, affine ? c.typed_data() : nullptr,
                  w.typed_data(), y->typed_data(), sum->typed_data(), squares->typed_data()};
  const Shape s = shape_of(x, w, stride);
  const size_t experts = s.experts;
  if (!fit({{w.element_count(), experts * s.kernel_size()},
            {a.element_count(), experts * s.in},
            {c.element_count(), experts * s.in},
            {y->element_count(), experts * s.images * s.out_size()},
            {sum->element_count(), experts * s.out},
            {squares->element_count(), experts * s.out}}))
    return misfit();
  (winograd ? winograd::forward : direct::forward)(pool, s, f);
  return ffi::Error::Success();
}

ffi::Error ConvSumsGradient(ffi::ThreadPool threads, In x, In a, In c, In w, In y, In dy, In d_sum,
                            In d_squares, Out dx, Out dw, Out da, Out dc, int64_t stride,
                            int64_t affine, int64_t winograd, int64_t need_dx) {
  if (ffi::Error error = check(x, w, stride); error.failure()) return error;
  const Pool pool = pool_of(threads);
  const Backward b{x.typed_data(), affine ? a.typed_data() : nullptr, affine ? c.typed_data() : nullptr,
                   w.typed_data(), y.typed_data(), dy.typed_data(), d_sum.typed_data(), d_squares.typed_data(),
                   need_dx ? dx->typed_data() : nullptr, dw->typed_data(), da->typed_data(), dc->typed_data()};
  const Shape s = shape_of(x, w, stride);
  const size_t experts = s.experts, outputs = experts * s.images * s.out_size();
  if (!fit({{w.element_count(), experts * s.kernel_size()},
                                    {a.element_count(), experts * s.in},
                                    {c.element_count(), experts * s.in},
                                    {y.element_count(), outputs},
                                    {dy.element_count(), outputs},
                                    {d_sum.element_count(), experts * s.out},
                                    {d_squares.element_count(), experts * s.out},
                                    {need_dx ? dx->element_count() : 0, need_dx ? x.element_count() : 0},
                                    {dw->element_count(), w.element_count()},
                                    {da->element_count(), experts * s.in},
                                    {dc->element_count(), experts * s.in}}))
    return misfit();
  (winograd && need_dx ? winograd::backward : direct::backward)(pool, s, b);
  return ffi::Error::Success();
}

BlockEnd end_of(const In& y, const In& x, int64_t stride, int64_t shortcut) {
  return {leading(y, 4), from_end(y, 4), from_end(y, 3), from_end(y, 2), from_end(y, 1),
          from_end(x, 3), from_end(x, 2), shortcut ? from_end(x, 1) : 0, static_cast<int>(stride)};
}

ffi::Error check_end(const In& y, const BlockEnd& s) {
  if (y.element_count() == 0 || s.stride < 1 || s.x_channels > s.channels ||
      (s.x_channels && (s.height != (s.x_height + s.stride - 1) / s.stride ||
                        s.width != (s.x_width + s.stride - 1) / s.stride)))
    return ffi::Error::InvalidArgument("the end of a block needs y [..., B, H, W, O], not empty, and x [..., B, stride * H, stride * W, up to O]");
  return ffi::Error::Success();
}

ffi::Error AddRelu(ffi::ThreadPool threads, In y, In a, In c, In x, Out h, int64_t stride,
                   int64_t shortcut) {
  if (y.dimensions().size() < 4 || x.dimensions().size() < 4) return misfit();
  const BlockEnd s = end_of(y, x, stride, shortcut);
  if (ffi::Error error = check_end(y, s); error.failure()) return error;
  const size_t experts = s.experts, channels = experts * s.channels;
  if (!fit({{a.element_count(), channels},
            {c.element_count(), channels},
            {shortcut ? x.element_count() : 0, experts * s.images * s.x_size()},
            {h->element_count(), y.element_count()}}))
    return misfit();
  block_end(pool_of(threads), s, y.typed_data(), a.typed_data(), c.typed_data(), x.typed_data(),
            h->typed_data());
  return ffi::Error::Success();
}

// `x` is read for its shape only.
ffi::Error AddReluGradient(ffi::ThreadPool threads, In dh, In h, In y, In a, In x, Out dy, Out dx,
                           Out da, Out dc, int64_t stride, int64_t shortcut) {
  if (y.dimensions().size() < 4 || x.dimensions().size() < 4) return misfit();
  const BlockEnd s = end_of(y, x, stride, shortcut);
  if (ffi::Error error = check_end(y, s); error.failure()) return error;
  const size_t experts = s.experts, channels = experts * s.channels;
  if (!fit({{dh.element_count(), y.element_count()},
            {h.element_count(), y.element_count()},
            {a.element_count(), channels},
            {dy->element_count(), y.element_count()},
            {shortcut ? dx->element_count() : 0, experts * s.images * s.x_size()},
            {da->element_count(), channels},
            {dc->element_count(), channels}}))
    return misfit();
  block_end_gradient(pool_of(threads), s, dh.typed_data(), h.typed_data(), y.typed_data(),
                     a.typed_data(), dy->typed_data(), dx->typed_data(), da->typed_data(),
                     dc->typed_data());
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_conv_sums, ConvSums, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
    .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<In>().Ret<In>().Ret<In>()
    .Attr<int64_t>("stride").Attr<int64_t>("affine").Attr<int64_t>("winograd"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_conv_sums_gradient, ConvSumsGradient, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
    .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>()
    .Ret<In>().Ret<In>().Ret<In>().Ret<In>()
    .Attr<int64_t>("stride").Attr<int64_t>("affine").Attr<int64_t>("winograd").Attr<int64_t>("need_dx"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_add_relu, AddRelu, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
    .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<In>()
    .Attr<int64_t>("stride").Attr<int64_t>("shortcut"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_add_relu_gradient, AddReluGradient, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
    .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<In>().Ret<In>().Ret<In>().Ret<In>()
    .Attr<int64_t>("stride").Attr<int64_t>("shortcut"));

// Targets by number: 0 baseline, 1 AVX2 with FMA, 2 AVX-512. What this library is compiled for:
extern "C" int ltjax_target() {
#if defined(__AVX512F__)
  return 2;
#elif defined(__AVX2__) && defined(__FMA__)
  return 1;
#else
  return 0;
#endif
}

// And the best that this machine can run.
extern "C" int ltjax_best_target() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}
