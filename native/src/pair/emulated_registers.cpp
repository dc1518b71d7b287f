#include "pair/emulated_registers.hpp"

#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "base/clones.hpp"

namespace bowerbird::pair {
namespace {

using Register = EmulatedRegisters::Register;

constexpr int kRegisters = 8;

// Those of one thread.
struct Registers {
  bool is_open = false;
  Register units[kRegisters] = {};
};

thread_local Registers registers;

Register& opened(int number) {
  if (!registers.is_open) throw std::logic_error("a tile register is used before registers are set up");
  return registers.units[number];
}

// Numbers below the normal ones count as zeros, whatever the thread's own rounding mode says.
BOWERBIRD_INLINE float flushed(float x) {
  return __builtin_fabsf(x) < std::numeric_limits<float>::min() ? __builtin_copysignf(0.0f, x) : x;
}

BOWERBIRD_INLINE float lower_half(std::uint32_t unit) { return flushed(std::bit_cast<float>(unit << 16)); }
BOWERBIRD_INLINE float upper_half(std::uint32_t unit) { return flushed(std::bit_cast<float>(unit & 0xffff0000u)); }

// Pairs are summed apart, each product and sum rounded once, and added to each other and to the sums at the end.
__attribute__((target("fma"))) void multiply_halves(Register& sums, const Register& weights, const Register& values) {
  for (std::size_t row = 0; row < kSide; ++row) {
    float lower[kSide] = {}, upper[kSide] = {};
    for (std::size_t group = 0; group < kSide; ++group) {
      const float first = lower_half(weights[row][group]), second = upper_half(weights[row][group]);
      for (std::size_t n = 0; n < kSide; ++n) {
        lower[n] = flushed(__builtin_fmaf(first, lower_half(values[group][n]), lower[n]));
        upper[n] = flushed(__builtin_fmaf(second, upper_half(values[group][n]), upper[n]));
      }
    }
    for (std::size_t n = 0; n < kSide; ++n) {
      const float before = flushed(std::bit_cast<float>(sums[row][n]));
      sums[row][n] = std::bit_cast<std::uint32_t>(flushed(before + flushed(lower[n] + upper[n])));
    }
  }
}

// Signed bytes of weights by unsigned ones of values.
void multiply_bytes(Register& sums, const Register& weights, const Register& values) {
  for (std::size_t row = 0; row < kSide; ++row) {
    for (std::size_t group = 0; group < kSide; ++group) {
      for (std::size_t n = 0; n < kSide; ++n) {
        std::int32_t sum = 0;
        for (unsigned bit = 0; bit < 32; bit += 8) {
          const auto weight = static_cast<std::int8_t>(weights[row][group] >> bit);
          sum += weight * static_cast<std::uint8_t>(values[group][n] >> bit);
        }
        sums[row][n] += static_cast<std::uint32_t>(sum);
      }
    }
  }
}

}  // namespace

void EmulatedRegisters::open() {
  registers = {};
  registers.is_open = true;
}

void EmulatedRegisters::close() { registers.is_open = false; }

void EmulatedRegisters::clear(int number) { std::memset(opened(number), 0, sizeof(Register)); }

void EmulatedRegisters::read(int number, const std::uint32_t* from, std::size_t distance) {
  for (auto& row : opened(number)) std::memcpy(row, from, sizeof row), from += distance;
}

void EmulatedRegisters::write(int number, std::uint32_t* to, std::size_t distance) {
  for (auto& row : opened(number)) std::memcpy(to, row, sizeof row), to += distance;
}

void EmulatedRegisters::multiply_units(Unit unit, int sums, int weights, int values) {
  auto* const multiply = unit == Unit::kBf16 ? multiply_halves : multiply_bytes;
  multiply(opened(sums), opened(weights), opened(values));
}

}  // namespace bowerbird::pair
