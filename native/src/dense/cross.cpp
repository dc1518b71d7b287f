#include "dense/cross.hpp"

#include <algorithm>

#include "base/team.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 4096;  // values that one task takes

template <typename T>
BOWERBIRD_INLINE void forward_values(const float* first, const T* product, const float* crossed, std::size_t count,
                                     float* next, T* low) {
  for (std::size_t i = 0; i < count; ++i) next[i] = first[i] * to_float(product[i]) + crossed[i];
  if (low == nullptr) return;
  for (std::size_t i = 0; i < count; ++i) store(next[i], low[i]);
}

template <typename T>
BOWERBIRD_INLINE void sum_of(const float* left, const T* right, std::size_t count, float* sum) {
  if (left != nullptr && right != nullptr) {
    for (std::size_t i = 0; i < count; ++i) sum[i] = left[i] + to_float(right[i]);
  } else if (left != nullptr) {
    std::copy_n(left, count, sum);
  } else if (right != nullptr) {
    for (std::size_t i = 0; i < count; ++i) sum[i] = to_float(right[i]);
  } else {
    std::fill_n(sum, count, 0.0f);
  }
}

template <typename T>
BOWERBIRD_INLINE void backward_values(const float* first, const T* product, std::size_t count, const float* of_next,
                                      const T* of_low, const float* earlier, float* total, T* of_product,
                                      float* of_first) {
  sum_of(of_next, of_low, count, total);
  for (std::size_t i = 0; i < count; ++i) store(total[i] * first[i], of_product[i]);
  if (earlier == nullptr) {
    for (std::size_t i = 0; i < count; ++i) of_first[i] = total[i] * to_float(product[i]);
  } else {
    for (std::size_t i = 0; i < count; ++i) of_first[i] = earlier[i] + total[i] * to_float(product[i]);
  }
}

#define BOWERBIRD_FOR_EACH_TYPE(define) define(float) define(BFloat16)

#define BOWERBIRD_KERNELS(T)                                                                                          \
  BOWERBIRD_CLONES void forward_kernel(const float* first, const T* product, const float* crossed, std::size_t count, \
                                       float* next, T* low) {                                                         \
    forward_values(first, product, crossed, count, next, low);                                                        \
  }                                                                                                                   \
  BOWERBIRD_CLONES void backward_kernel(const float* first, const T* product, std::size_t count,                      \
                                        const float* of_next, const T* of_low, const float* earlier, float* total,    \
                                        T* of_product, float* of_first) {                                             \
    backward_values(first, product, count, of_next, of_low, earlier, total, of_product, of_first);                    \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_KERNELS)

template <typename Value>
Value* at(Value* values, std::size_t place) {
  return values == nullptr ? nullptr : values + place;
}

// Calls task(place, count) for consecutive stretches of values.
template <typename Task>
void for_stretches(std::size_t count, std::size_t threads, const Task& task) {
  run_team(threads, (count + kBlock - 1) / kBlock, [&](std::size_t block) {
    const std::size_t place = block * kBlock;
    task(place, std::min(kBlock, count - place));
  });
}

template <typename T>
void forward(const Crossing<T>& given, const float* crossed, float* next, T* low, std::size_t threads) {
  for_stretches(given.count, threads, [&](std::size_t place, std::size_t count) {
    forward_kernel(given.first + place, given.product + place, crossed + place, count, next + place, at(low, place));
  });
}

template <typename T>
void backward(const Crossing<T>& given, const CrossGradients<T>& back, float* of_crossed, T* of_product,
              float* of_first, std::size_t threads) {
  for_stretches(given.count, threads, [&](std::size_t place, std::size_t count) {
    backward_kernel(given.first + place, given.product + place, count, at(back.next, place), at(back.low, place),
                    at(back.first, place), of_crossed + place, of_product + place, of_first + place);
  });
}

}  // namespace

#define BOWERBIRD_PUBLIC(T)                                                                                         \
  void cross_forward(const Crossing<T>& given, const float* crossed, float* next, T* low, std::size_t threads) {    \
    forward(given, crossed, next, low, threads);                                                                    \
  }                                                                                                                 \
  void cross_backward(const Crossing<T>& given, const CrossGradients<T>& back, float* of_crossed, T* of_product,    \
                      float* of_first, std::size_t threads) {                                                       \
    backward(given, back, of_crossed, of_product, of_first, threads);                                               \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_PUBLIC)

}  // namespace bowerbird
