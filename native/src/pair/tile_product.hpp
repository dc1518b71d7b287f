// Products on tile registers, whoever multiplies them: the processor (AmxRegisters) or an imitation (EmulatedRegisters).
//
// A register of weights is 16 outputs by 16 groups, one of values 16 groups by 16 candidates, as operands lie anyway.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "pair/kernels.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::pair {

template <typename Registers>
class TileProduct {
 public:
  explicit TileProduct(const Product& product) : product_(product), steps_(sides(product.segments[0].groups)) {
    const std::size_t groups = product.segments[0].groups, whole = groups / kSide * kSide;
    values_ = static_cast<const std::uint32_t*>(product.segments[0].data);
    if (whole == groups) return;
    const std::size_t known = (groups - whole) * kCandidates;
    std::memcpy(last_, values_ + whole * kCandidates, known * sizeof(std::uint32_t));
    std::memset(last_ + known, 0, sizeof last_ - known * sizeof(std::uint32_t));
  }

  using Finish = void (*)(const Product&, std::size_t, std::size_t, const std::uint32_t*);

  void run(Finish finish) {
    if (product_.unit == Unit::kBf16) return run_unit<Unit::kBf16>(finish);
    run_unit<Unit::kInt8>(finish);
  }

 private:
  // Of registers 0 to 7: those before hold sums.
  static constexpr int kSums = 6, kWeights = 6, kValues = 7;
  static constexpr std::size_t kUnits = kSide * kSide;

  template <Unit kUnit>
  void run_unit(Finish finish) {
    switch (product_.vectors) {
      case 1: return run_vectors<kUnit, 1>(finish);
      case 2: return run_vectors<kUnit, 2>(finish);
      default: return run_vectors<kUnit, 3>(finish);
    }
  }

  // As many outputs together as there are registers for their sums, so that values are loaded seldom.
  template <Unit kUnit, int kVectors>
  void run_vectors(Finish finish) {
    constexpr std::size_t kTogether = kSums / kVectors;
    const std::size_t blocks = sides(product_.outputs);
    std::size_t block = 0;
    for (; block + kTogether <= blocks; block += kTogether) run_blocks<kUnit, kTogether, kVectors>(block, finish);
    for (; block < blocks; ++block) run_blocks<kUnit, 1, kVectors>(block, finish);
  }

  template <Unit kUnit, int kBlocks, int kVectors>
  void run_blocks(std::size_t block, Finish finish) {
    each<kBlocks * kVectors>([](auto sum) { Registers::template zero<sum>(); });
    for (std::size_t step = 0; step < steps_; ++step) {
      const std::uint32_t* const weights = product_.weights + (block * steps_ + step) * kUnits;
      add_up<kUnit, kBlocks, kVectors>(weights, values_of(step));
    }
    each<kBlocks>([&](auto number) {
      constexpr int kFirst = number * kVectors;
      each<kVectors>([&](auto vector) {
        Registers::template store<kFirst + vector>(sums_ + vector * kSide, kCandidates);
      });
      const std::size_t row = (block + number) * kSide, rest = product_.outputs - row;
      finish(product_, row, rest < kSide ? rest : kSide, sums_);
    });
  }

  // Vectors go forth for one block and back for the next one, so that the values between two are loaded once.
  template <Unit kUnit, int kBlocks, int kVectors>
  void add_up(const std::uint32_t* weights, const std::uint32_t* values) const {
    each<kBlocks * kVectors>([&](auto turn) {
      constexpr int kBlock = turn / kVectors, kPlace = turn % kVectors;
      constexpr int kVector = kBlock % 2 == 0 ? kPlace : kVectors - 1 - kPlace;
      if constexpr (kPlace == 0) Registers::template load<kWeights>(weights + kBlock * steps_ * kUnits, kSide);
      if constexpr (kPlace != 0 || kBlock == 0) Registers::template load<kValues>(values + kVector * kSide, kCandidates);
      Registers::template multiply<kUnit, kBlock * kVectors + kVector, kWeights, kValues>();
    });
  }

  const std::uint32_t* values_of(std::size_t step) const {
    const bool is_whole = (step + 1) * kSide <= product_.segments[0].groups;
    return is_whole ? values_ + step * kSide * kCandidates : last_;
  }

  template <int kCount, typename Apply>
  static void each(const Apply& apply) {
    [&]<int... kNumbers>(std::integer_sequence<int, kNumbers...>) {
      (apply(std::integral_constant<int, kNumbers>{}), ...);
    }(std::make_integer_sequence<int, kCount>{});
  }

  const Product& product_;
  std::size_t steps_;
  const std::uint32_t* values_;
  // A last step of fewer than 16 groups, with zeros after them.
  alignas(64) std::uint32_t last_[kSide * kCandidates];
  alignas(64) std::uint32_t sums_[kSide * kCandidates];
};

}  // namespace bowerbird::pair
