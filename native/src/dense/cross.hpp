// A layer of a cross network, next = first * product + crossed, in one pass each way.
#pragma once

#include <cstddef>

#include "base/bfloat16.hpp"

namespace bowerbird {

// What a layer is given, `count` values each; `product` is what its matrix made of `crossed`.
template <typename T>
struct Crossing {
  const float* first;
  const T* product;
  std::size_t count;
};

// Writes `next` twice: as float32, and rounded to T as `low` for the next matrix (null: not).
void cross_forward(const Crossing<float>& given, const float* crossed, float* next, float* low, std::size_t threads);
void cross_forward(const Crossing<BFloat16>& given, const float* crossed, float* next, BFloat16* low,
                   std::size_t threads);

// The gradients that come back, of `next`, of `low` and of `first` from later layers; null pointers stand for zeros.
template <typename T>
struct CrossGradients {
  const float* next;
  const T* low;
  const float* first;
};

// Writes the gradients of `crossed`, of `product` and of `first`, later layers' part included.
void cross_backward(const Crossing<float>& given, const CrossGradients<float>& back, float* of_crossed,
                    float* of_product, float* of_first, std::size_t threads);
void cross_backward(const Crossing<BFloat16>& given, const CrossGradients<BFloat16>& back, float* of_crossed,
                    BFloat16* of_product, float* of_first, std::size_t threads);

}  // namespace bowerbird
