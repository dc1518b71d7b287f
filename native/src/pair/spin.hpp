// Multiply-adds on registers alone: the most that a product can reach.
#pragma once

#include "pair/units.hpp"

#if defined(__x86_64__)
#define BOWERBIRD_PAIR_REGISTER "+v"
#elif defined(__aarch64__)
#define BOWERBIRD_PAIR_REGISTER "+w"
#else
#define BOWERBIRD_PAIR_REGISTER "+m"
#endif

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

template <typename Unit>
BOWERBIRD_INLINE std::size_t spin_unit(std::size_t rounds, std::uint32_t* units) {
  typename Unit::Sum sums[kBlock][kVectors];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlock; ++r) {
#pragma GCC unroll 3
    for (std::size_t n = 0; n < kVectors; ++n) {
      sums[r][n] = reinterpret_cast<typename Unit::Sum>(load(units + (r * kVectors + n) * kLanes));
    }
  }
  I values = load(units);
  const I weights = load(units + kLanes);
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kBlock; ++r) {
#pragma GCC unroll 3
      for (std::size_t n = 0; n < kVectors; ++n) {
        asm("" : BOWERBIRD_PAIR_REGISTER(values));  // no instruction, but a value that the compiler does not know
        sums[r][n] = Unit::add(sums[r][n], weights, values);
      }
    }
  }
  typename Unit::Sum total{};
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kBlock; ++r) {
#pragma GCC unroll 3
    for (std::size_t n = 0; n < kVectors; ++n) total += sums[r][n];
  }
  store(units, reinterpret_cast<I>(total));
  return rounds * kBlock * kTile;
}

std::size_t spin(Unit unit, std::size_t rounds, std::uint32_t* units) {
  switch (unit) {
#if defined(BOWERBIRD_PAIR_DOTS)
    case Unit::kBf16: return values_in(unit) * spin_unit<Bf16Unit>(rounds, units);
    case Unit::kInt8: return values_in(unit) * spin_unit<Int8Unit>(rounds, units);
#else
    case Unit::kInt16: return values_in(unit) * spin_unit<Int16Unit>(rounds, units);
#endif
    default: return spin_unit<FloatUnit>(rounds, units);
  }
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
