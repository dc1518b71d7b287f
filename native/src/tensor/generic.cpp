// The tensor kernels for any machine; CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA generic
#include "tensor/table.hpp"
