// The table of one instruction set's kernels; included last by each pair_ISA.cpp.
#pragma once

#include "pair/columns.hpp"
#include "pair/multiply.hpp"
#include "pair/operand.hpp"
#include "pair/positions.hpp"
#include "pair/product.hpp"
#include "pair/spin.hpp"
#include "pair/tiles.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {

extern const Kernels kernels;
const Kernels kernels{
    .lanes = kLanes,
    .tile = kTile,
    .block = kBlock,
#if defined(BOWERBIRD_PAIR_DOTS)
    .bf16 = Unit::kBf16,
    .int8 = Unit::kInt8,
#else
    .bf16 = Unit::kFloat,
    .int8 = Unit::kInt16,
#endif
    .tile_registers = false,
    .product = product,
#if defined(BOWERBIRD_PAIR_DOTS)
    .finish = finish,
#else
    .finish = nullptr,
#endif
    .open = nullptr,
    .close = nullptr,
    .map = map_rows,
#if defined(BOWERBIRD_PAIR_DOTS)
    .to_halves = to_halves,
    .scale_to_halves = scale_to_halves,
#else
    .to_halves = nullptr,
    .scale_to_halves = nullptr,
#endif
    .widen_range = widen_range,
    .quantise = quantise,
    .gather = gather,
    .spread = spread,
    .scatter = scatter,
    .binary = binary,
    .scale_rows = scale_rows,
    .reduce = reduce,
    .dot = dot,
    .softmax = softmax,
    .layer_norm = layer_norm,
    .weighted_sum = weighted_sum,
    .multiply = multiply,
    .scores = scores,
    .soften = soften,
    .pool = pool,
    .divide = divide,
    .spin = spin,
};

}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
