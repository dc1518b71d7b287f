// Attention over the positions of a history: scores, softmax as positions come, weighted sums of values.
#pragma once

#include "pair/functions.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

void scores(const float* query, const float* const* keys, std::size_t positions, std::size_t width, float scale,
            std::size_t vectors, float* out) {
  constexpr std::size_t kTogether = 8;
  for (std::size_t first = 0; first < positions; first += kTogether) {
    const std::size_t count = positions - first < kTogether ? positions - first : kTogether;
    for (std::size_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
      V sums[kTogether] = {};
      for (std::size_t row = 0; row < width; ++row) {
        const V x = load(query + row * kTile + lane);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < kTogether; ++p) sums[p] += keys[first + (p < count ? p : 0)][row] * x;
      }
      for (std::size_t p = 0; p < count; ++p) store(out + (first + p) * kTile + lane, sums[p] * scale);
    }
  }
}

void soften(float* scores, std::size_t positions, std::size_t vectors, float* state) {
  for (std::size_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
    const V before = load(state + lane);
    V greatest = before;
    for (std::size_t p = 0; p < positions; ++p) greatest = maximum(greatest, load(scores + p * kTile + lane));
    const V rescale = exponential(before - greatest);
    V sum = load(state + kTile + lane) * rescale;
    for (std::size_t p = 0; p < positions; ++p) {
      const V power = exponential(load(scores + p * kTile + lane) - greatest);
      sum += power;
      store(scores + p * kTile + lane, power);
    }
    store(state + lane, greatest);
    store(state + kTile + lane, sum);
    store(state + 2 * kTile + lane, rescale);
  }
}

void pool(const float* scores, const float* const* values, std::size_t positions, std::size_t width,
          const float* rescale, std::size_t vectors, float* out) {
  constexpr std::size_t kTogether = 8;
  for (std::size_t first = 0; first < width; first += kTogether) {
    const std::size_t count = width - first < kTogether ? width - first : kTogether;
    for (std::size_t lane = 0; lane < vectors * kLanes; lane += kLanes) {
      const V factor = rescale == nullptr ? all(1.0f) : load(rescale + lane);
      V sums[kTogether];
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kTogether; ++r) sums[r] = load(out + (first + (r < count ? r : 0)) * kTile + lane) * factor;
      for (std::size_t p = 0; p < positions; ++p) {
        const V weight = load(scores + p * kTile + lane);
        const float* value = values[p] + first;
#pragma GCC unroll 8
        for (std::size_t r = 0; r < kTogether; ++r) sums[r] += weight * value[r < count ? r : 0];
      }
      for (std::size_t r = 0; r < count; ++r) store(out + (first + r) * kTile + lane, sums[r]);
    }
  }
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
