// The pair kernels for AVX2 with FMA (x86-64-v3); CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA avx2
#include "pair/table.hpp"
