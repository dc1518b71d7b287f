// One 64-bit hash of each row of several columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird::embedding {

// Columns [columns, rows] of elements of 1, 4 or 8 bytes.
struct HashedColumns {
  const void* data;
  std::size_t columns;
  std::size_t width;
};

// Rows that differ in one element alone have different hashes: an element's part of the sum is a one to one function of it,
// another one for each column, in the order in which they are given.
void hash_rows(const std::vector<HashedColumns>& columns, std::size_t rows, std::uint64_t* hashes);

}  // namespace bowerbird::embedding
