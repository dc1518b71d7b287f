#include "pair/isa.hpp"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace bowerbird::pair {
namespace {

constexpr std::array<const char*, 4> kNames{"generic", "avx2", "avx512", "avx512_bf16"};
constexpr std::array<Isa, 4> kBestFirst{Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kGeneric};

bool machine_has(Isa isa) {
  if (isa == Isa::kGeneric) return true;
#if defined(BOWERBIRD_WIDE_KERNELS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) return avx512;
  return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

}  // namespace

const char* name_of(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

Isa chosen_isa() {
  const char* wanted = std::getenv("BOWERBIRD_ISA");
  for (const Isa isa : kBestFirst) {
    if (!machine_has(isa)) continue;
    if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == name_of(isa)) return isa;
  }
  throw std::invalid_argument("BOWERBIRD_ISA is '" + std::string(wanted) +
                              "', which this machine lacks or this build does not know. Use generic, avx2, avx512 or "
                              "avx512_bf16, or unset it.");
}

}  // namespace bowerbird::pair
