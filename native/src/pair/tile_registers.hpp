// Tile registers (AMX): matrices of 16 rows of 16 units, which one instruction multiplies.
#pragma once

#include <cstddef>

namespace bowerbird::pair {

constexpr std::size_t kSide = 16;            // rows of a tile register, and 32-bit units of a row
constexpr std::size_t kCandidates = 3 * kSide;  // of a tile, wherever products use tile registers

constexpr std::size_t sides(std::size_t count) { return (count + kSide - 1) / kSide; }

// Whether a product by `outputs` and `groups` takes fewer cycles on tile registers, for a vector of candidates, by what Intel's
// optimisation manual says of them (nothing was measured): 16 for each 16 outputs by 16 groups, however few of them there are,
// and as many for storing and for reading the sums, against one for an output and a group of vectors. It looks at the weights
// alone, so that a candidate's answer does not depend on its companions.
constexpr bool suits_tile_registers(std::size_t outputs, std::size_t groups) {
  return sides(outputs) * (sides(groups) + 2) * kSide < outputs * groups;
}

}  // namespace bowerbird::pair
