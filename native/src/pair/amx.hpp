// The pair kernels for AVX-512 with BF16 and VNNI whose products of bfloat16 and bytes use tile registers.
#pragma once

#include <string>

#include "pair/kernels.hpp"

namespace bowerbird::pair {

bool processor_has_amx();

// Why the processor's tile registers cannot be used: it or its operating system lacks them, or they compute another answer than
// the vectors do. Empty where they can: then this process may use them, in all of its threads. Found out once, on a
// processor with AVX-512, BF16 and VNNI.
const std::string& amx_refusal();

// Tile registers of the processor, to be used only where nothing is refused.
const Kernels& amx_kernels();

// The same products on registers that are plain memory, with the processor's rules and roundings: slow, for tests alone.
const Kernels& amx_emulated_kernels();

// Whether both kernels compute the same bits for whole numbers, which no order of sums rounds.
bool computes_as(const Kernels& tiles, const Kernels& vectors);

}  // namespace bowerbird::pair
