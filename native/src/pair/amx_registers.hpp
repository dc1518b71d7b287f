// The processor's tile registers. Written as instructions, since compilers' own functions take no number of a template for a
// register, and so that this file needs no flags.
#pragma once

#include <cstdint>

#include "pair/kernels.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::pair {

// What the instruction that sets registers up reads: rows and their bytes for each register (Intel, Software Developer's Manual,
// LDTILECFG). All eight are whole.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {kSide, kSide, kSide, kSide, kSide, kSide, kSide, kSide};
};
static_assert(sizeof(TileConfiguration) == 64);

// Distances are in 32-bit units.
struct AmxRegisters {
  static void open() {
    static constexpr TileConfiguration kConfiguration;
    asm volatile("ldtilecfg %0" : : "m"(kConfiguration));
  }
  static void close() { asm volatile("tilerelease"); }

  template <int kRegister>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kRegister));
  }

  template <int kRegister>
  static void load(const std::uint32_t* from, std::size_t distance) {
    asm volatile("tileloadd (%0,%1,4), %%tmm%c2" : : "r"(from), "r"(distance), "i"(kRegister) : "memory");
  }

  template <int kRegister>
  static void store(std::uint32_t* to, std::size_t distance) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,4)" : : "r"(to), "r"(distance), "i"(kRegister) : "memory");
  }

  // sums[output][candidate] += sum over groups of weights[output][group] · values[group][candidate]
  template <Unit kUnit, int kSums, int kWeights, int kValues>
  static void multiply() {
    if constexpr (kUnit == Unit::kBf16) {
      asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kWeights), "i"(kValues));
    } else {
      asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kWeights), "i"(kValues));
    }
  }
};

}  // namespace bowerbird::pair
