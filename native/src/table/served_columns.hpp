// Columns of keys, each of a table of its own, looked up by one call: a request has dozens of a few keys each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "table/served.hpp"

namespace bowerbird::embedding {

class ServedColumns {
 public:
  // The tables of the columns in their order, which must outlive this.
  explicit ServedColumns(std::vector<const ServedTable*> tables) : tables_(std::move(tables)) {}

  std::size_t columns() const { return tables_.size(); }
  // How many numbers a row of every column has together.
  std::size_t width() const;

  // Keys and rows are [columns, count]; the vectors of the columns, [count, dimension] each, stand end to end.
  void find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const;
  void take(const std::int64_t* rows, std::size_t count, float* out) const;

 private:
  std::vector<const ServedTable*> tables_;
};

}  // namespace bowerbird::embedding
