// The pair kernels for any machine; CMakeLists.txt holds the flags.
#define BOWERBIRD_PAIR_ISA generic
#include "pair/table.hpp"
