#include "base/team.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "base/workers.hpp"

namespace bowerbird {
namespace {

using Region = void (*)(void (*)(void*), void*, unsigned, unsigned);

// The runtime's entry for a parallel region; looked up by name, so that nothing is linked that may be absent.
Region openmp_region() {
  static const auto region = reinterpret_cast<Region>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return region;
}

struct Shared {
  const std::function<void(std::size_t)>* task;
  std::size_t count;
  std::atomic<std::size_t> next{0};
  std::mutex mutex{};
  std::exception_ptr failure{};
};

void take_tasks(void* given) {
  auto& shared = *static_cast<Shared*>(given);
  for (std::size_t number = shared.next++; number < shared.count; number = shared.next++) {
    try {
      (*shared.task)(number);
    } catch (...) {
      const std::lock_guard held(shared.mutex);
      shared.failure = std::current_exception();
    }
  }
}

}  // namespace

void run_team(std::size_t threads, std::size_t count, const std::function<void(std::size_t)>& task) {
  threads = std::min(threads, count);
  if (threads < 2) {
    for (std::size_t number = 0; number < count; ++number) task(number);
  } else if (const Region region = openmp_region()) {
    Shared shared{&task, count};
    region(take_tasks, &shared, static_cast<unsigned>(threads), 0);
    if (shared.failure) std::rethrow_exception(shared.failure);
  } else {
    Workers(threads).run(count, [&](std::size_t, std::size_t number) { task(number); });
  }
}

}  // namespace bowerbird
