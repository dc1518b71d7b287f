// The table of one instruction set's kernels; included last by each tensor_ISA.cpp.
#pragma once

#include "tensor/dense.hpp"

namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA {

extern const Kernels kernels;
const Kernels kernels{
    .lanes = kLanes,
    .panel = kPanel,
    .pointwise = pointwise,
    .reduce = reduce,
    .softmax = softmax,
    .layer_norm = layer_norm,
    .dense = dense,
    .pack = pack,
};

}  // namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA
