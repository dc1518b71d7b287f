#include "table/index_file.hpp"

#include <cstring>

namespace bowerbird::embedding {
namespace {

struct ShardSize {
  std::uint32_t buckets;
  std::uint32_t keys;
};

std::uint64_t wide_mask(std::uint64_t shards) {
  std::uint64_t wide = 0;
  while (shards > wide + 1) wide = 2 * wide + 1;
  return wide;
}

}  // namespace

void write_index(TableFileWriter& file, const TableIndex& index) {
  std::vector<ShardSize> sizes;
  for (const IndexShard& shard : index.shards()) sizes.push_back({shard.buckets, shard.keys});
  write_all(file, Section::kShards, sizes);
  file.begin(Section::kUnits);
  for (const IndexShard& shard : index.shards()) {
    for (std::size_t unit = 0; unit < shard.unit_count(); ++unit) file.write(shard.units[unit], kUnitBytes);
  }
  file.end();
}

std::vector<IndexShard> shards_of(const TableFile& file) {
  const std::uint64_t count = file.bytes(Section::kShards) / sizeof(ShardSize);
  if (count == 0) file.damaged("has no index");
  const std::byte* sizes = file.data(Section::kShards);
  auto* unit = reinterpret_cast<IndexBucket*>(const_cast<std::byte*>(file.data(Section::kUnits)));
  std::vector<IndexShard> shards(count);
  std::uint64_t units = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    ShardSize size;
    std::memcpy(&size, sizes + i * sizeof(size), sizeof(size));
    shards[i].buckets = size.buckets;
    shards[i].keys = size.keys;
    const std::size_t held = shards[i].unit_count();
    if (size.buckets % kUnitBuckets != 0 || held == 0 || held > IndexShard::kMostUnits) file.damaged("has a damaged index");
    units += held;
    if (units * kUnitBytes > file.bytes(Section::kUnits)) file.damaged("has a damaged index");
    for (std::size_t at = 0; at < held; ++at, unit += kUnitBuckets) shards[i].units[at] = unit;
  }
  file.expect(Section::kUnits, units * kUnitBytes);
  return shards;
}

IndexView view_of(const std::vector<IndexShard>& shards, std::uint64_t salt) {
  return {shards.data(), shards.size(), wide_mask(shards.size()), salt};
}

}  // namespace bowerbird::embedding
