// What is done for many rows of a request at once, compiled for each instruction set; the machine's best is chosen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bowerbird {

// One part of a key: a value for each row, or one for all of them.
struct KeyPart {
  const std::uint64_t* column;
  bool single;
};

// A window that is counted in the blocks of many keys: how many events, as the bits of a double.
struct TileWindow {
  std::size_t place;  // of the aggregate in its family
  std::int64_t reach;
  std::int32_t last;  // the tile of the time of the read
  std::uint64_t* counts;
};

struct RowKernels {
  std::string name;
  // `mix` of each key.
  void (*hash)(const std::uint64_t* keys, std::size_t count, std::uint64_t* hashes);
  // `family_key` of each row.
  void (*keys)(const KeyPart* parts, std::size_t part_count, std::size_t count, std::uint64_t* keys);
  // All windows of one block after another; 0 where there is no block.
  void (*count_tiles)(const TileWindow* windows, std::size_t window_count, const std::byte* const* blocks, std::size_t count);
};

// The best ones that the machine has, unless others were chosen.
const RowKernels& row_kernels();
std::vector<std::string> row_instruction_sets();
// Chooses an instruction set for the whole process; empty: the best one.
void use_instruction_set(const std::string& name);

}  // namespace bowerbird
