// Work split into a fixed number of tasks, so that results do not depend on how many threads there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "simd.h"

namespace ltjax::LTJAX_TARGET {

// Threads that somebody else owns. `schedule` may run its argument at any time, or never start it
// before the caller has done all the work itself.
struct Pool {
  int threads;
  std::function<void(std::function<void()>)> schedule;
};

// f(0), ..., f(n - 1), in any order, on the caller's thread and on those of the pool; returns when
// all are done.
inline void parallel(const Pool& pool, int n, std::function<void(int)> f) {
  struct Work {
    std::atomic<int> next{0}, done{0};
    int n;
    std::function<void(int)> f;
    std::mutex mutex;
    std::condition_variable all_done;
    void drain() {
      for (int i; (i = next++) < n;) {
        f(i);
        if (++done == n) {
          std::lock_guard<std::mutex> lock(mutex);
          all_done.notify_all();
        }
      }
    }
  };
  auto work = std::make_shared<Work>();  // a helper that starts late finds nothing left, but reads it
  work->n = n;
  work->f = std::move(f);
  for (int helper = 1; helper < std::min(pool.threads, n); ++helper)
    pool.schedule([work] { work->drain(); });
  work->drain();
  std::unique_lock<std::mutex> lock(work->mutex);
  work->all_done.wait(lock, [&] { return work->done == work->n; });
}

// Memory for floats, aligned to cache lines, not initialised.
class Floats {
 public:
  explicit Floats(size_t n = 0) { reserve(n); }
  void reserve(size_t n) {
    if (n <= size_) return;
    memory_.reset(new float[n + 16]);
    size_ = n;
  }
  float* data() const {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) & ~uintptr_t{63});
  }

 private:
  std::unique_ptr<float[]> memory_;
  size_t size_ = 0;
};

// This thread's own buffer number `which`, for at least n floats; kept for the next task.
inline float* scratch(int which, size_t n) {
  thread_local Floats buffers[6];
  buffers[which].reserve(n);
  return buffers[which].data();
}

}  // namespace ltjax::LTJAX_TARGET
