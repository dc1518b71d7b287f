// The index of a table in its file: the sizes of shards, then their units, one after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "table/file.hpp"
#include "table/index.hpp"

namespace bowerbird::embedding {

template <typename T>
void write_all(TableFileWriter& file, Section which, const std::vector<T>& values) {
  file.begin(which);
  file.write(values.data(), values.size() * sizeof(T));
  file.end();
}

void write_index(TableFileWriter& file, const TableIndex& index);
// The shards of a file, their units in the file itself; throws DamagedFile.
std::vector<IndexShard> shards_of(const TableFile& file);
// A view of such shards.
IndexView view_of(const std::vector<IndexShard>& shards, std::uint64_t salt);

}  // namespace bowerbird::embedding
