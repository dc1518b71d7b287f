// Which instruction sets the pair kernels are compiled for, and which one this machine should run.
#pragma once

namespace bowerbird::pair {

enum class Isa { kGeneric, kAvx2, kAvx512, kAvx512Bf16 };

const char* name_of(Isa isa);

// The best one that the machine has, or the one that BOWERBIRD_ISA names (generic, avx2, avx512, avx512_bf16). Throws
// std::invalid_argument where that is unknown or the machine lacks it.
Isa chosen_isa();

}  // namespace bowerbird::pair
