// Which instruction sets the pair kernels are compiled for, and which one this machine should run.
#pragma once

#include <string>

namespace bowerbird::pair {

// The last one computes as kAmx does, in software and slowly; it is for tests and nobody's best.
enum class Isa { kGeneric, kAvx2, kAvx512, kAvx512Bf16, kAmx, kAmxEmulated };

const char* name_of(Isa isa);

// The best one that the machine has, or the one that BOWERBIRD_ISA names. Throws std::invalid_argument where that is unknown
// or cannot run here.
Isa chosen_isa();

// Why the processor's AMX is not used although nothing else was asked for; empty where there is none or it is used.
std::string unused_amx();

}  // namespace bowerbird::pair
