// A table as servers have it: keys and rows in a file that is mapped and never written, and over it the rows that changed since.
//
// A table is immutable. A delta makes another one, which shares the file, and the rows that changed before, with it; readers go on
// with the one that they began with. A row that changes gets a number that no row had before, so that whatever was computed from the old
// row and is found by its number is not found for the new one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/key_index.hpp"
#include "table/file.hpp"
#include "table/index.hpp"
#include "table/kernels.hpp"

namespace bowerbird::embedding {

// Numbers of Precision, and int8 with a float32 scale before each row.
enum class RowFormat : std::uint32_t { kFloat32 = 0, kFloat16 = 1, kInt8 = 3 };

// What changed: vectors of keys, keys that went, and the two reserved rows (nullptr: as they were).
struct RowChanges {
  const std::uint64_t* keys;
  const float* vectors;  // [count, dimension]
  std::size_t count;
  const std::uint64_t* removed;
  std::size_t removed_count;
  const float* reserved;  // [2, dimension]
};

class ServedTable {
 public:
  static constexpr std::int64_t kGone = -1;

  // Maps a file. With `verify` all of it is read and compared with its checksums.
  ServedTable(const std::string& path, bool verify);

  // Writes a file: key i has row i + 2 of `rows` [count + 2, dimension]; keys are distinct and none is missing.
  static void write(const std::string& path, const std::uint64_t* keys, std::uint64_t count, const float* rows, std::size_t dimension,
                    RowFormat format);

  std::size_t dimension() const { return base_->file.header().dimension; }
  RowFormat format() const { return base_->format; }
  std::uint64_t keys() const { return base_->file.header().keys; }
  std::uint64_t file_bytes() const { return base_->file.header().file_bytes; }
  std::uint64_t changed_keys() const { return changed_.size(); }
  // The keys that are not as in the file, and their rows; kGone for one that went.
  const std::vector<std::uint64_t>& changed() const { return changed_keys_; }
  const std::vector<std::int64_t>& changed_rows() const { return changed_rows_; }
  std::int64_t unknown_row() const { return unknown_; }
  // What the rows over the file take.
  std::uint64_t changed_bytes() const;

  // Rows of keys: those of the missing key and of keys without a row are 0 and 1 until a delta changes them.
  void find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const;
  void take(const std::int64_t* rows, std::size_t count, float* out) const;
  // The keys and rows of the file, in row order.
  std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> file_keys() const;
  // Throws DamagedFile unless the file is what was written.
  void verify() const;

  std::unique_ptr<ServedTable> with(const RowChanges& changes) const;

 private:
  struct Base {
    Base(const std::string& path, bool verify) : file(path, verify) {}
    IndexView index() const;

    TableFile file;
    RowFormat format = RowFormat::kFloat32;
    std::size_t stride = 0;
    std::vector<IndexShard> shards;
    const std::byte* rows = nullptr;
  };
  // Rows that are written once, by whoever raises `used`, and seen by tables that know their numbers alone.
  struct Chunk {
    static constexpr std::uint64_t kRows = 1024;
    explicit Chunk(std::size_t dimension) : rows(std::make_unique<float[]>(kRows * dimension)) {}
    std::unique_ptr<float[]> rows;
    std::atomic<std::uint64_t> used{0};
  };

  ServedTable(const ServedTable&) = default;

  std::uint64_t file_rows() const { return base_->file.header().rows; }
  const float* changed_row(std::int64_t row) const {
    const auto at = static_cast<std::uint64_t>(row) - first_;
    return chunks_[at / Chunk::kRows]->rows.get() + at % Chunk::kRows * dimension();
  }
  void check_rows(const std::int64_t* rows, std::size_t count) const;
  std::int64_t add(const float* vector);
  void set(std::uint64_t key, std::int64_t row);
  // Copies the rows that are still looked up to new places, and lets the others go.
  void compact();

  std::shared_ptr<const Base> base_;
  const TableKernels* kernels_;
  KeyIndex changed_;
  std::vector<std::uint64_t> changed_keys_;  // by number in changed_
  std::vector<std::int64_t> changed_rows_;
  std::vector<std::shared_ptr<Chunk>> chunks_;
  std::uint64_t first_;  // the row that chunks begin with
  std::uint64_t next_;
  std::int64_t missing_ = kMissingRow;
  std::int64_t unknown_ = kUnknownRow;
};

}  // namespace bowerbird::embedding
