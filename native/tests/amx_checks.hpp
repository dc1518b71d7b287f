// The emulated tile registers by examples worked out by hand, and the check that a processor's registers have to pass.
#pragma once

#include <bit>
#include <stdexcept>

#include "checks.hpp"
#include "pair/amx.hpp"
#include "pair/emulated_registers.hpp"

namespace bowerbird::checks {

using pair::EmulatedRegisters, pair::kSide, pair::Unit;
using Side = std::uint32_t[kSide][kSide];

// before + weights [1][groups] by values [groups][1], with zeros around them.
template <Unit kUnit>
std::uint32_t sum_of(const std::vector<std::uint32_t>& weights, const std::vector<std::uint32_t>& values, std::uint32_t before) {
  Side left{}, right{}, sums{};
  for (std::size_t i = 0; i < weights.size(); ++i) left[0][i] = weights[i], right[i][0] = values[i];
  sums[0][0] = before;
  EmulatedRegisters::open();
  EmulatedRegisters::load<0>(sums[0], kSide);
  EmulatedRegisters::load<1>(left[0], kSide);
  EmulatedRegisters::load<2>(right[0], kSide);
  EmulatedRegisters::multiply<kUnit, 0, 1, 2>();
  EmulatedRegisters::store<0>(sums[0], kSide);
  EmulatedRegisters::close();
  return sums[0][0];
}

// Two bfloat16, of numbers that are such exactly.
inline std::uint32_t halves(float lower, float upper) {
  return std::bit_cast<std::uint32_t>(lower) >> 16 | (std::bit_cast<std::uint32_t>(upper) & 0xffff0000u);
}

inline float sum_of_halves(const std::vector<std::uint32_t>& weights, const std::vector<std::uint32_t>& values,
                           float before = 0.0f) {
  return std::bit_cast<float>(sum_of<Unit::kBf16>(weights, values, std::bit_cast<std::uint32_t>(before)));
}

inline void check_emulated_registers() {
  const std::uint32_t ones = halves(1, 1), first = halves(1, 0);
  expect(sum_of_halves({halves(1.5f, -3)}, {halves(2, 0.5f)}, 1) == 2.5f, "a pair of products and what was there");
  expect(sum_of_halves({halves(0x1p24f, 1), halves(0, 1)}, {ones, ones}) == 0x1p24f + 2, "halves are summed apart");
  expect(sum_of_halves({halves(0x1p24f, 0), first, first}, {ones, ones, ones}) == 0x1p24f, "each sum is rounded");
  expect(sum_of_halves({ones}, {halves(0x1p23f, 0.5f)}, 0.5f) == 0x1p23f, "a pair is rounded before it is added");
  expect(sum_of_halves({halves(0x1p-70f, 0)}, {halves(0x1p-60f, 0)}) == 0.0f, "a product below the normal numbers");
  expect(sum_of_halves({halves(0x1p-130f, 0)}, {halves(0x1p120f, 0)}) == 0.0f, "a factor below the normal numbers");
  expect(sum_of_halves({halves(0x1p-126f, 0)}, {halves(1, 0)}) == 0x1p-126f, "the least normal number");
  expect(sum_of<Unit::kInt8>({0x7f8001ffu}, {0xffff02feu}, 1) == static_cast<std::uint32_t>(1 - 254 + 2 - 128 * 255 + 127 * 255),
         "signed bytes by unsigned ones");
  const std::vector<std::uint32_t> most(kSide, 0x81818181u), all(kSide, 0xfefefefeu);
  expect(sum_of<Unit::kInt8>(most, all, 1) == static_cast<std::uint32_t>(1 - 64 * 127 * 254), "sums of many bytes");
  try {
    EmulatedRegisters::zero<0>();
    expect(false, "registers that are not set up are used");
  } catch (const std::logic_error&) {
  }
}

// Only where the vectors beside the registers run.
inline void check_the_check() {
  const pair::Kernels& vectors = pair::kernels_of(pair::Isa::kAvx512Bf16);
  pair::Kernels wrong = pair::amx_emulated_kernels();
  expect(pair::computes_as(wrong, vectors), "emulated registers compute as vectors do");
  wrong.product = [](const pair::Product& product) {
    pair::amx_emulated_kernels().product(product);
    if (product.tiled && product.vectors == 3) product.out[(product.outputs - 1) * 48 + 47] += 1.0f;
  };
  expect(!pair::computes_as(wrong, vectors), "one wrong sum is noticed");
}

}  // namespace bowerbird::checks
