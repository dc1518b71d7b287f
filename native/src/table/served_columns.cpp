#include "table/served_columns.hpp"

namespace bowerbird::embedding {

std::size_t ServedColumns::floats(const std::vector<std::size_t>& lengths) const {
  std::size_t total = 0;
  for (std::size_t i = 0; i < tables_.size(); ++i) total += lengths[i] * tables_[i]->dimension();
  return total;
}

void ServedColumns::find(const std::uint64_t* keys, const std::vector<std::size_t>& lengths, std::int64_t* rows) const {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    tables_[i]->find(keys, lengths[i], rows);
    keys += lengths[i];
    rows += lengths[i];
  }
}

void ServedColumns::take(const std::int64_t* rows, const std::vector<std::size_t>& lengths, float* out) const {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    tables_[i]->take(rows, lengths[i], out);
    rows += lengths[i];
    out += lengths[i] * tables_[i]->dimension();
  }
}

}  // namespace bowerbird::embedding
