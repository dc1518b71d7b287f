#include "table/row_hash.hpp"

#include <algorithm>

#include "base/clones.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::uint64_t kPrime = 0x9E3779B97F4A7C15;
// Odd numbers whose products mix bits well (Steele, Lea and Flood, 2014).
constexpr std::uint64_t kFirst = 0xBF58476D1CE4E5B9;
constexpr std::uint64_t kSecond = 0x94D049BB133111EB;

template <typename Element>
BOWERBIRD_INLINE void add(const Element* column, std::size_t rows, std::uint64_t start, std::uint64_t* hashes) {
  for (std::size_t row = 0; row < rows; ++row) {
    std::uint64_t bits = static_cast<std::uint64_t>(column[row]) + start;
    bits = (bits ^ (bits >> 32)) * kFirst;
    bits = (bits ^ (bits >> 32)) * kSecond;
    hashes[row] += bits ^ (bits >> 32);
  }
}

BOWERBIRD_CLONES void add_column(const void* column, std::size_t width, std::size_t rows, std::uint64_t start, std::uint64_t* hashes) {
  if (width == 8) return add(static_cast<const std::uint64_t*>(column), rows, start, hashes);
  if (width == 4) return add(static_cast<const std::uint32_t*>(column), rows, start, hashes);
  add(static_cast<const std::uint8_t*>(column), rows, start, hashes);
}

}  // namespace

void hash_rows(const std::vector<HashedColumns>& columns, std::size_t rows, std::uint64_t* hashes) {
  std::fill_n(hashes, rows, 0);
  std::uint64_t start = 0;
  for (const HashedColumns& each : columns) {
    const auto* column = static_cast<const std::byte*>(each.data);
    for (std::size_t i = 0; i < each.columns; ++i, column += rows * each.width) add_column(column, each.width, rows, start += kPrime, hashes);
  }
}

}  // namespace bowerbird::embedding
