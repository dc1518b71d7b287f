#include "pair/amx.hpp"

#include <cpuid.h>
#if defined(BOWERBIRD_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "pair/amx_registers.hpp"
#include "pair/emulated_registers.hpp"
#include "pair/isa.hpp"
#include "pair/tile_product.hpp"

namespace bowerbird::pair {
namespace {

template <typename Registers>
void product(const Product& p) {
  static const Kernels& vectors = kernels_of(Isa::kAvx512Bf16);
  if (!p.tiled) return vectors.product(p);
  TileProduct<Registers>(p).run(vectors.finish);
}

template <typename Registers>
Kernels table() {
  Kernels made = kernels_of(Isa::kAvx512Bf16);
  made.tile_registers = true;
  made.product = product<Registers>;
  made.open = Registers::open;
  made.close = Registers::close;
  made.spin = nullptr;
  return made;
}

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(unsigned leaf, unsigned part) {
  Leaf found;
  __get_cpuid_count(leaf, part, &found.eax, &found.ebx, &found.ecx, &found.edx);
  return found;
}

bool has_bits(unsigned number, unsigned bits) { return (number & bits) == bits; }

#if defined(BOWERBIRD_AMX)

template <Unit kUnit>
void multiply_all() {
  AmxRegisters::multiply<kUnit, 0, 6, 7>();
  AmxRegisters::multiply<kUnit, 1, 6, 7>();
  AmxRegisters::multiply<kUnit, 2, 6, 7>();
  AmxRegisters::multiply<kUnit, 3, 6, 7>();
  AmxRegisters::multiply<kUnit, 4, 6, 7>();
  AmxRegisters::multiply<kUnit, 5, 6, 7>();
}

// Rounds of six products each, into six registers of sums.
std::size_t spin(Unit unit, std::size_t rounds, std::uint32_t* units) {
  if (unit != Unit::kBf16 && unit != Unit::kInt8) return kernels_of(Isa::kAvx512Bf16).spin(unit, rounds, units);
  AmxRegisters::open();
  AmxRegisters::load<6>(units, kSide);
  AmxRegisters::load<7>(units, kSide);
  for (std::size_t round = 0; round < rounds; ++round) {
    unit == Unit::kBf16 ? multiply_all<Unit::kBf16>() : multiply_all<Unit::kInt8>();
  }
  AmxRegisters::store<0>(units, kSide);
  AmxRegisters::close();
  return rounds * 6 * kSide * kSide * kSide * values_in(unit);
}

// Palette 1 of the processor: eight registers of 16 rows of 64 bytes.
bool registers_are_as_known() {
  const Leaf palette = cpuid(0x1d, 1);
  return palette.eax >> 16 == 1024 && (palette.ebx & 0xffffu) == 64 && palette.ebx >> 16 >= 8 &&
         (palette.ecx & 0xffffu) == kSide;
}

bool system_saves_registers() {
  constexpr unsigned kXsaveOn = 1u << 27, kTileConfiguration = 1u << 17, kTileData = 1u << 18;
  if (!has_bits(cpuid(1, 0).ecx, kXsaveOn)) return false;
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return has_bits(low, kTileConfiguration | kTileData);
}

// Linux gives tile registers to processes that ask for them; what it grants holds for all threads, and for processes that
// are forked (Linux, Documentation/arch/x86/xstate.rst).
bool system_permits() {
  constexpr long kRequestPermission = 0x1023, kTileDataFeature = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileDataFeature) == 0;
}

std::string refusal() {
  if (!registers_are_as_known()) return "the processor's tile registers have other sizes";
  if (!system_saves_registers()) return "the operating system does not save tile registers";
  if (!system_permits()) return "the operating system does not let this process use tile registers";
  if (!computes_as(amx_kernels(), kernels_of(Isa::kAvx512Bf16))) return "its tile registers compute wrong sums";
  return "";
}

#else

std::string refusal() { return "this build has no AMX instructions"; }

#endif

}  // namespace

bool processor_has_amx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  return has_bits(cpuid(7, 0).edx, kBf16 | kTile | kInt8);
}

const std::string& amx_refusal() {
  static const std::string found = processor_has_amx() ? refusal() : "the processor has no AMX for bfloat16 and bytes";
  return found;
}

const Kernels& amx_kernels() {
#if defined(BOWERBIRD_AMX)
  static const Kernels made = [] {
    Kernels kernels = table<AmxRegisters>();
    kernels.spin = spin;
    return kernels;
  }();
  return made;
#else
  return kernels_of(Isa::kAvx512Bf16);
#endif
}

const Kernels& amx_emulated_kernels() {
  static const Kernels made = table<EmulatedRegisters>();
  return made;
}

}  // namespace bowerbird::pair
