#include "pair/isa.hpp"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(BOWERBIRD_WIDE_KERNELS)
#include "pair/amx.hpp"
#endif

namespace bowerbird::pair {
namespace {

constexpr std::array<const char*, 6> kNames{"generic", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated"};
constexpr std::array<Isa, 5> kBestFirst{Isa::kAmx, Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kGeneric};

bool machine_has(Isa isa) {
  if (isa == Isa::kGeneric) return true;
#if defined(BOWERBIRD_WIDE_KERNELS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) return avx512;
  const bool halves = avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  return halves && (isa != Isa::kAmx || amx_refusal().empty());
#else
  return false;
#endif
}

std::string wanted_isa() {
  const char* const named = std::getenv("BOWERBIRD_ISA");
  return named == nullptr ? "" : named;
}

std::string reason_against_amx() {
#if defined(BOWERBIRD_WIDE_KERNELS)
  if (machine_has(Isa::kAvx512Bf16)) return ": " + amx_refusal();
#endif
  return "";
}

}  // namespace

const char* name_of(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

Isa chosen_isa() {
  const std::string wanted = wanted_isa();
  if (wanted == name_of(Isa::kAmxEmulated) && machine_has(Isa::kAmxEmulated)) return Isa::kAmxEmulated;
  for (const Isa isa : kBestFirst) {
    if ((wanted.empty() || wanted == name_of(isa)) && machine_has(isa)) return isa;
  }
  throw std::invalid_argument("BOWERBIRD_ISA is '" + wanted + "', which this machine lacks or this build does not know" +
                              (wanted == name_of(Isa::kAmx) ? reason_against_amx() : "") +
                              ". Use generic, avx2, avx512, avx512_bf16 or amx, or unset it.");
}

std::string unused_amx() {
#if defined(BOWERBIRD_WIDE_KERNELS)
  if (wanted_isa().empty() && processor_has_amx() && machine_has(Isa::kAvx512Bf16)) return amx_refusal();
#endif
  return "";
}

}  // namespace bowerbird::pair
