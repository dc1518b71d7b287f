// Values reached from rows of slots, through attributes of what the slots identify; each lookup is made once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/plan.hpp"
#include "state/shards.hpp"

namespace bowerbird {

// A table's attributes: which word of an entity's block holds which slot.
struct AttributeTable {
  Keys keys;
  std::vector<int> words;            // by slot of the table's own plan: offset in bytes, or -1
  std::uint32_t bytes = 0;           // of a block
};

// Where the rows' slots are: slot s of row i is `slots[s * columns + index(i)]`.
struct RowSource {
  const std::uint64_t* slots;
  std::size_t columns;          // 1 with `single`
  const std::uint32_t* rows;    // null: rows first, first + 1, …
  std::size_t first;
  std::size_t count;
  int candidate_slot = -1;      // live: this slot comes from `candidates`, the others are the request's
  const std::uint64_t* candidates = nullptr;

  void gather(int slot, std::uint64_t* out) const;
};

class PathSet {
 public:
  // Where a table's attributes are; asked once for each table while paths are added.
  struct Resolver {
    virtual ~Resolver() = default;
    // The table and the byte offset of the attribute in a block.
    virtual std::pair<const AttributeTable*, int> attribute(const Hop& hop) const = 0;
  };

  // Returns the number of the path's value.
  int add(const Path& path, const std::vector<Slot>& slots, const Resolver& resolver);
  // The blocks that hold the vectors of a path that ends in a vector: number of the lookup, and the byte offset.
  std::pair<int, int> add_vector(const Path& path, const std::vector<Slot>& slots, const Resolver& resolver);
  std::size_t size() const { return values_.size(); }

  // Scratch space of an evaluation: value v of row i is `values[v * count + i]`.
  struct Space {
    std::vector<std::uint64_t> values;
    std::vector<const std::byte*> blocks;
  };
  // Another evaluation at the same position, which may have looked up the same keys.
  struct Known {
    const PathSet* paths;
    const Space* space;
    std::size_t count;
  };
  void evaluate(const RowSource& rows, std::int64_t lsn, Space& space, const std::vector<Known>& known = {}) const;

 private:
  struct Lookup {
    int input;  // value
    const AttributeTable* table;
  };
  struct Value {
    int slot;    // of the row, or
    int lookup;  // of a block
    int offset;
    std::uint64_t missing;
  };
  int add_value(Value value);
  int add_lookup(int input, const AttributeTable* table);
  // The blocks of these keys, where an evaluation looked up exactly them; or null.
  static const std::byte* const* known_blocks(const std::vector<Known>& known, const AttributeTable* table, const std::uint64_t* keys,
                                              std::size_t count);

  std::vector<Lookup> lookups_;
  std::vector<Value> values_;
  std::vector<std::pair<bool, int>> order_;  // (is a lookup, index)
};

}  // namespace bowerbird
