// The pair kernels for AVX-512 with VNNI and BF16; CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA avx512_bf16
#include "pair/table.hpp"
