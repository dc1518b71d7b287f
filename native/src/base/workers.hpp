// A few threads that take numbered tasks until none is left.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bowerbird {

class Workers {
 public:
  explicit Workers(std::size_t threads) {
    for (std::size_t lane = 1; lane < threads; ++lane) threads_.emplace_back([this, lane] { serve(lane); });
  }

  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::size_t lanes() const { return threads_.size() + 1; }

  // Calls task(lane, number) for every number below `count`; returns when all are done, rethrows what one threw.
  void run(std::size_t count, const std::function<void(std::size_t, std::size_t)>& task) {
    if (threads_.empty() || count < 2) {
      for (std::size_t number = 0; number < count; ++number) task(0, number);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      task_ = &task;
      count_ = count;
      next_ = 0;
      busy_ = threads_.size();
      error_ = nullptr;
      ++round_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve(std::size_t lane) {
    std::size_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
        if (stopping_) return;
        seen = round_;
      }
      work(lane);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void work(std::size_t lane) {
    for (std::size_t number = next_++; number < count_; number = next_++) {
      try {
        (*task_)(lane, number);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  const std::function<void(std::size_t, std::size_t)>* task_ = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
  std::size_t busy_ = 0;
  std::size_t round_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

}  // namespace bowerbird
