// The tensor kernels for AVX2; CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA avx2
#include "tensor/table.hpp"
