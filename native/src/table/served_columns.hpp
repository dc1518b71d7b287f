// Columns of keys, each of a table of its own, looked up by one call: a request has dozens of a few keys each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "table/served.hpp"

namespace bowerbird::embedding {

class ServedColumns {
 public:
  // The tables of the columns in their order, which must outlive this.
  explicit ServedColumns(std::vector<const ServedTable*> tables) : tables_(std::move(tables)) {}

  std::size_t columns() const { return tables_.size(); }
  // How many numbers the rows of all columns have, given each column's length.
  std::size_t floats(const std::vector<std::size_t>& lengths) const;

  // Keys, rows and vectors of the columns stand end to end, `lengths[i]` of column i.
  void find(const std::uint64_t* keys, const std::vector<std::size_t>& lengths, std::int64_t* rows) const;
  void take(const std::int64_t* rows, const std::vector<std::size_t>& lengths, float* out) const;

 private:
  std::vector<const ServedTable*> tables_;
};

}  // namespace bowerbird::embedding
