// Functions of rows of a tile, with parameters that all candidates share.
#pragma once

#include "pair/functions.hpp"
#include "pair/kernels.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

// rows[r][lane] = function(rows[r][lane], r)
template <typename Apply>
BOWERBIRD_INLINE void each(float* rows, std::size_t count, std::size_t vectors, const Apply& apply) {
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t v = 0; v < vectors; ++v) {
      float* const at = rows + row * kTile + v * kLanes;
      store(at, apply(load(at), row));
    }
  }
}

void map_rows(const Map& map, float* rows, std::size_t count, std::size_t vectors) {
  const V a = all(map.numbers[0]), b = all(map.numbers[1]);
  const auto array = [&](std::size_t number, std::size_t row) { return all(map.arrays[number][row]); };
  const auto run = [&](const auto& apply) { each(rows, count, vectors, apply); };
  switch (map.function) {
    case Function::kNone: return;
    case Function::kRelu: return run([](V x, std::size_t) { return rectified(x); });
    case Function::kLeakyRelu: return run([&](V x, std::size_t) { return x > V{} ? x : a * x; });
    case Function::kPrelu: return run([&](V x, std::size_t row) { return x > V{} ? x : array(0, row) * x; });
    case Function::kGelu: return run([](V x, std::size_t) { return gelu(x); });
    case Function::kGeluTanh: return run([](V x, std::size_t) { return gelu_tanh(x); });
    case Function::kSilu: return run([](V x, std::size_t) { return x * sigmoid(x); });
    case Function::kSigmoid: return run([](V x, std::size_t) { return sigmoid(x); });
    case Function::kTanh: return run([](V x, std::size_t) { return hyperbolic_tangent(x); });
    case Function::kElu: return run([&](V x, std::size_t) { return elu(x, a); });
    case Function::kSoftplus: return run([](V x, std::size_t) { return softplus(x); });
    case Function::kDice:
      return run([&](V x, std::size_t row) { return dice(x, array(0, row), array(1, row), array(2, row)); });
    case Function::kExp: return run([](V x, std::size_t) { return exponential(x); });
    case Function::kLog: return run([](V x, std::size_t) { return logarithm(x); });
    case Function::kSqrt: return run([](V x, std::size_t) { return square_root(x); });
    case Function::kRsqrt: return run([](V x, std::size_t) { return 1.0f / square_root(x); });
    case Function::kNeg: return run([](V x, std::size_t) { return -x; });
    case Function::kAbs: return run([](V x, std::size_t) { return absolute(x); });
    case Function::kSquare: return run([](V x, std::size_t) { return x * x; });
    case Function::kClamp: return run([&](V x, std::size_t) { return minimum(b, maximum(a, x)); });
    case Function::kScaleShift: return run([&](V x, std::size_t row) { return x * array(0, row) + array(1, row); });
  }
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
