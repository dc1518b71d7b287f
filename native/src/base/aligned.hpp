// Vectors whose memory begins with a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace bowerbird {

template <typename T>
struct CacheAligned {
  using value_type = T;
  CacheAligned() = default;
  template <typename Other>
  explicit CacheAligned(const CacheAligned<Other>&) {}

  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kAlignment)); }
  void deallocate(T* data, std::size_t) { ::operator delete(data, kAlignment); }
  bool operator==(const CacheAligned&) const = default;

 private:
  static constexpr std::align_val_t kAlignment{64};
};

template <typename T>
using AlignedVector = std::vector<T, CacheAligned<T>>;

}  // namespace bowerbird
