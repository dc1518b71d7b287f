// Tile registers in plain memory, which do what the processor's do (Intel, Software Developer's Manual: TILELOADD, TILESTORED,
// TDPBF16PS, TDPBSUD) and refuse what it would fault on.
#pragma once

#include <cstdint>

#include "pair/kernels.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::pair {

struct EmulatedRegisters {
  using Register = std::uint32_t[kSide][kSide];

  static void open();
  static void close();

  template <int kRegister>
  static void zero() {
    clear(kRegister);
  }

  template <int kRegister>
  static void load(const std::uint32_t* from, std::size_t distance) {
    read(kRegister, from, distance);
  }

  template <int kRegister>
  static void store(std::uint32_t* to, std::size_t distance) {
    write(kRegister, to, distance);
  }

  template <Unit kUnit, int kSums, int kWeights, int kValues>
  static void multiply() {
    static_assert(kSums != kWeights && kWeights != kValues && kValues != kSums, "operands must be different registers");
    multiply_units(kUnit, kSums, kWeights, kValues);
  }

  // The same of registers by numbers that are not known beforehand.
  static void clear(int number);
  static void read(int number, const std::uint32_t* from, std::size_t distance);
  static void write(int number, std::uint32_t* to, std::size_t distance);
  static void multiply_units(Unit unit, int sums, int weights, int values);
};

}  // namespace bowerbird::pair
