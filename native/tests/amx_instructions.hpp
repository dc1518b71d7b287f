// The instructions of AmxRegisters where no processor has them: each of them ends in a signal, whose handler decodes its bytes
// (Intel, Software Developer's Manual: VEX.0F38 49, 4B, 5C, 5E) and does on emulated registers what they say.
#pragma once

#if defined(__linux__)

#include <signal.h>
#include <ucontext.h>

#include <cstring>
#include <random>

#include "checks.hpp"
#include "pair/amx.hpp"
#include "pair/amx_registers.hpp"
#include "pair/dense.hpp"
#include "pair/emulated_registers.hpp"

namespace bowerbird::checks {

using pair::AmxRegisters, pair::Dense, pair::EmulatedRegisters, pair::Kernels, pair::LayerSpec, pair::Precision, pair::Unit;

// One instruction of a three-byte VEX prefix, map 0F38.
class Instruction {
 public:
  explicit Instruction(ucontext_t& context) : registers_(context.uc_mcontext.gregs) {
    at_ = reinterpret_cast<const std::uint8_t*>(registers_[REG_RIP]);
    known_ = at_[0] == 0xc4 && (at_[1] & 0x1f) == 2 && (at_[2] & 0x84) == 0;  // W0, 128 bits
    prefix_ = at_[2] & 3, opcode_ = at_[3], modrm_ = at_[4];
    third_ = ~(at_[2] >> 3) & 15;
  }

  // Does what it says and goes on behind it; false where it is none of those that AmxRegisters knows.
  bool run() {
    enum { kNone, k66, kF3, kF2 };
    if (!known_) return false;
    const bool memory = modrm_ >> 6 != 3;
    const int reg = modrm_ >> 3 & 7, rm = modrm_ & 7;
    if (opcode_ == 0x49 && prefix_ == kNone && memory && reg == 0) {
      configure();
    } else if (opcode_ == 0x49 && prefix_ == kNone && modrm_ == 0xc0) {
      EmulatedRegisters::close();
    } else if (opcode_ == 0x49 && prefix_ == kF2 && !memory && rm == 0) {
      EmulatedRegisters::clear(reg);
    } else if (opcode_ == 0x4b && prefix_ == kF2 && memory && rm == 4) {
      EmulatedRegisters::read(reg, address(), distance());
    } else if (opcode_ == 0x4b && prefix_ == kF3 && memory && rm == 4) {
      EmulatedRegisters::write(reg, address(), distance());
    } else if (opcode_ == 0x5c && prefix_ == kF3 && !memory) {
      EmulatedRegisters::multiply_units(Unit::kBf16, reg, rm, third_);
    } else if (opcode_ == 0x5e && prefix_ == kF3 && !memory) {
      EmulatedRegisters::multiply_units(Unit::kInt8, reg, rm, third_);
    } else {
      return false;
    }
    registers_[REG_RIP] = reinterpret_cast<greg_t>(at_ + length());
    return true;
  }

 private:
  bool has_sib() const { return modrm_ >> 6 != 3 && (modrm_ & 7) == 4; }
  bool is_based_on_next() const { return modrm_ >> 6 == 0 && (modrm_ & 7) == 5; }
  std::size_t displaced() const {
    const int mode = modrm_ >> 6;
    const bool without_base = has_sib() && mode == 0 && (at_[5] & 7) == 5;
    return mode == 1 ? 1 : mode == 2 || is_based_on_next() || without_base ? 4 : 0;
  }
  std::size_t length() const { return 5 + (has_sib() ? 1 : 0) + displaced(); }

  std::int64_t displacement() const {
    const std::uint8_t* const from = at_ + length() - displaced();
    std::int32_t far = 0;
    if (displaced() == 4) std::memcpy(&far, from, 4);
    return displaced() == 1 ? static_cast<std::int8_t>(*from) : far;
  }

  std::int64_t general(unsigned number) const {
    constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return registers_[kPlaces[number]];
  }

  std::uint32_t* address() const {
    const unsigned far_base = ~at_[1] >> 5 & 1;
    std::int64_t base = 0;
    if (is_based_on_next()) {
      base = reinterpret_cast<std::int64_t>(at_ + length());
    } else if (!has_sib() || modrm_ >> 6 != 0 || (at_[5] & 7) != 5) {
      base = general((has_sib() ? at_[5] & 7 : modrm_ & 7) | far_base << 3);
    }
    return reinterpret_cast<std::uint32_t*>(base + displacement());
  }

  std::size_t distance() const {
    const unsigned index = (at_[5] >> 3 & 7) | (~at_[1] >> 6 & 1) << 3;
    return static_cast<std::size_t>(general(index) << (at_[5] >> 6)) / sizeof(std::uint32_t);
  }

  void configure() const {
    const pair::TileConfiguration wanted;
    expect(std::memcmp(address(), &wanted, sizeof wanted) == 0, "registers are set up as they are meant to be");
    expect(wanted.palette == 1 && wanted.rows[7] == 16 && wanted.row_bytes[7] == 64 && wanted.rows[8] == 0, "all eight whole");
    EmulatedRegisters::open();
  }

  greg_t* registers_;
  const std::uint8_t* at_;
  bool known_;
  int prefix_, opcode_, modrm_, third_;
};

inline void on_signal(int number, siginfo_t*, void* context) {
  if (!Instruction(*static_cast<ucontext_t*>(context)).run()) signal(number, SIG_DFL);
}

// A layer's answers for `vectors`, of random numbers that the seed makes.
inline std::vector<float> random_answers(const Kernels& kernels, Precision precision, std::size_t vectors, unsigned seed) {
  constexpr std::size_t kOutputs = 41, kInputs = 199, kTile = 48;
  source.seed(seed);
  LayerSpec layer{kOutputs, kInputs, normal(kOutputs * kInputs), normal(kOutputs), {}, precision};
  const Dense dense(layer, kernels);
  const std::vector<float> numbers = normal(2 * dense.groups() * kTile), scale(kTile, 0.01f);
  std::vector<std::uint32_t> operand(dense.groups() * kTile);
  for (std::size_t i = 0; i < operand.size(); ++i) {
    operand[i] = std::bit_cast<std::uint32_t>(numbers[2 * i]) >> 16 | (std::bit_cast<std::uint32_t>(numbers[2 * i + 1]) & 0xffff0000u);
  }
  const pair::Segment segment{operand.data(), dense.groups()};
  std::vector<float> answers(kOutputs * kTile);
  pair::Product product = dense.product(0, kOutputs);
  expect(product.tiled, "the product uses tile registers");
  product.segments = &segment, product.segment_count = 1, product.vectors = vectors;
  product.lane_scale = scale.data(), product.out = answers.data();
  kernels.open();
  kernels.product(product);
  kernels.close();
  return answers;
}

inline void check_instructions() {
  const Kernels& real = pair::amx_kernels();
  if (real.open == nullptr || pair::processor_has_amx()) return;
  struct sigaction handler {}, before {};
  handler.sa_sigaction = on_signal;
  handler.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &handler, &before);
  expect(pair::computes_as(real, pair::kernels_of(pair::Isa::kAvx512Bf16)), "decoded instructions compute as vectors do");
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    for (const std::size_t vectors : {1, 2, 3}) {
      const auto found = random_answers(real, precision, vectors, 5);
      expect(found == random_answers(pair::amx_emulated_kernels(), precision, vectors, 5), "instructions as emulated registers");
    }
  }
  std::vector<std::uint32_t> units(16 * 48);
  expect(real.spin(Unit::kInt8, 2, units.data()) == 2u * 6 * 16 * 16 * 16 * 4, "multiply-adds are counted");
  sigaction(SIGILL, &before, nullptr);
}

}  // namespace bowerbird::checks

#else

namespace bowerbird::checks {
inline void check_instructions() {}
}  // namespace bowerbird::checks

#endif
