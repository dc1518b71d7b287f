// Rows of a matrix: gathering them, and adding gradients to them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bfloat16.hpp"

namespace bowerbird {

// out[i] = table[places[i]], each `width` floats.
void gather_rows(const float* table, const std::int64_t* places, std::size_t count, std::size_t width, float* out,
                 std::size_t threads);

// table[places[i]] += values[i], in the order of i for each row: the same sums for every number of threads.
// `stride` is the distance between values' rows, in elements.
void scatter_rows(const float* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads);
void scatter_rows(const BFloat16* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads);

}  // namespace bowerbird
