// The tensor kernels for AVX-512; CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA avx512
#include "tensor/table.hpp"
