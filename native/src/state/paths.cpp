#include "state/paths.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "state/states.hpp"

namespace bowerbird {

void RowSource::gather(int slot, std::uint64_t* out) const {
  if (slot == candidate_slot) {
    std::copy(candidates + first, candidates + first + count, out);
    return;
  }
  const std::uint64_t* column = slots + static_cast<std::size_t>(slot) * columns;
  if (candidate_slot >= 0) {
    std::fill(out, out + count, column[0]);
  } else if (rows == nullptr) {
    std::copy(column + first, column + first + count, out);
  } else {
    for (std::size_t i = 0; i < count; ++i) out[i] = column[rows[i]];
  }
}

int PathSet::add_value(Value value) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const Value& held = values_[i];
    if (held.slot == value.slot && held.lookup == value.lookup && held.offset == value.offset) return static_cast<int>(i);
  }
  values_.push_back(value);
  order_.emplace_back(false, static_cast<int>(values_.size()) - 1);
  return static_cast<int>(values_.size()) - 1;
}

int PathSet::add_lookup(int input, const AttributeTable* table) {
  for (std::size_t i = 0; i < lookups_.size(); ++i) {
    if (lookups_[i].input == input && lookups_[i].table == table) return static_cast<int>(i);
  }
  lookups_.push_back({input, table});
  order_.emplace_back(true, static_cast<int>(lookups_.size()) - 1);
  return static_cast<int>(lookups_.size()) - 1;
}

int PathSet::add(const Path& path, const std::vector<Slot>& slots, const Resolver& resolver) {
  int value = add_value({path.slot, -1, 0, 0});
  for (const Hop& hop : path.hops) {
    const auto [table, offset] = resolver.attribute(hop);
    const bool is_category = slots[static_cast<std::size_t>(hop.slot)].is_category;
    value = add_value({-1, add_lookup(value, table), offset, is_category ? kMissingKey : std::bit_cast<std::uint64_t>(kNaN)});
  }
  return value;
}

std::pair<int, int> PathSet::add_vector(const Path& path, const std::vector<Slot>& slots, const Resolver& resolver) {
  Path stem = path;
  stem.hops.pop_back();
  const int entity = add(stem, slots, resolver);
  const auto [table, offset] = resolver.attribute(path.hops.back());
  return {add_lookup(entity, table), offset};
}

const std::byte* const* PathSet::known_blocks(const std::vector<Known>& known, const AttributeTable* table, const std::uint64_t* keys,
                                              std::size_t count) {
  for (const Known& one : known) {
    if (one.count != count) continue;
    for (std::size_t i = 0; i < one.paths->lookups_.size(); ++i) {
      const Lookup& lookup = one.paths->lookups_[i];
      const std::uint64_t* looked_up = one.space->values.data() + static_cast<std::size_t>(lookup.input) * count;
      if (lookup.table == table && std::equal(keys, keys + count, looked_up)) return one.space->blocks.data() + i * count;
    }
  }
  return nullptr;
}

void PathSet::evaluate(const RowSource& rows, std::int64_t lsn, Space& space, const std::vector<Known>& known) const {
  const std::size_t count = rows.count;
  space.values.resize(values_.size() * count);
  space.blocks.resize(lookups_.size() * count);
  for (const auto& [is_lookup, index] : order_) {
    if (is_lookup) {
      const Lookup& lookup = lookups_[static_cast<std::size_t>(index)];
      const std::uint64_t* keys = &space.values[static_cast<std::size_t>(lookup.input) * count];
      const std::byte** blocks = &space.blocks[static_cast<std::size_t>(index) * count];
      const std::byte* const* found = known_blocks(known, lookup.table, keys, count);
      if (found == nullptr) {
        lookup.table->keys.find_all(keys, count, lsn, blocks);
      } else {
        std::copy_n(found, count, blocks);
      }
      continue;
    }
    const Value& value = values_[static_cast<std::size_t>(index)];
    std::uint64_t* out = &space.values[static_cast<std::size_t>(index) * count];
    if (value.slot >= 0) {
      rows.gather(value.slot, out);
      continue;
    }
    const std::byte* const* blocks = &space.blocks[static_cast<std::size_t>(value.lookup) * count];
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = blocks[i] == nullptr ? value.missing : load<std::uint64_t>(blocks[i] + value.offset);
    }
  }
}

}  // namespace bowerbird
