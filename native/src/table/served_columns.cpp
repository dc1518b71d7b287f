#include "table/served_columns.hpp"

namespace bowerbird::embedding {

std::size_t ServedColumns::width() const {
  std::size_t total = 0;
  for (const ServedTable* table : tables_) total += table->dimension();
  return total;
}

void ServedColumns::find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const {
  for (const ServedTable* table : tables_) {
    table->find(keys, count, rows);
    keys += count;
    rows += count;
  }
}

void ServedColumns::take(const std::int64_t* rows, std::size_t count, float* out) const {
  for (const ServedTable* table : tables_) {
    table->take(rows, count, out);
    rows += count;
    out += count * table->dimension();
  }
}

}  // namespace bowerbird::embedding
