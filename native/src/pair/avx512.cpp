// The pair kernels for AVX-512 F, BW, DQ, VL (x86-64-v4); CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA avx512
#include "pair/table.hpp"
