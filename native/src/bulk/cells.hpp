// What a bulk replay keeps of each read of one key: a cell of numbers, and the places of its sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/scratch.hpp"
#include "plan/columns.hpp"
#include "plan/program.hpp"
#include "state/operation_log.hpp"

namespace bowerbird {

// Sequences' entries by bucket: words of one entry side by side, its time first.
struct BulkList {
  const Program::BlockRead* read;
  std::size_t words;                         // of an entry
  std::vector<Buffer<std::uint64_t>> words_of;  // by bucket
};

// A sequence while its key's operations run: what was written of it, and what has changed since.
struct ListTrack {
  std::uint64_t place = 0;     // first entry << 24 | entries, as it stands in a cell
  std::uint32_t appended = 0;  // events that only came behind the others
  bool rewritten = false;
};

// The reads of one lookup of a plan.
class BulkCells {
 public:
  static constexpr std::uint32_t kLengthBits = 24;

  BulkCells(const Program& program, std::size_t locate, std::size_t buckets, std::vector<BulkList>& lists);

  std::size_t locate() const { return locate_; }
  // Of a cell, at most.
  std::size_t bytes() const { return bytes_of(kWidest); }
  std::size_t wanted_words() const { return wanted_.size(); }

  // Notes where the next read's key lies; kNowhere where it has none.
  static constexpr std::size_t kNowhere = ~std::size_t{0};
  void note(std::size_t bucket) { where_.push(bucket == kNowhere ? 0 : static_cast<std::uint16_t>(bucket + 1)); }
  // The values that matches look for, as they follow the operation.
  void write_wanted(const Program::Values& values, std::size_t row, std::byte* to) const;

  // A bucket's cells, one after another as its reads come, in blocks that each begin with the next one's address.
  struct Chain {
    std::byte* next = nullptr;
    std::uint32_t left = 0;
    std::uint32_t bytes = 0;
    std::byte* block = nullptr;
  };
  // The bytes that counts take in a bucket's cells, none of which is negative or more than `most`.
  static constexpr std::uint8_t kWidest = 4;
  static std::uint8_t width_for(std::size_t most) { return most <= 0xFF ? 1 : most <= 0xFFFF ? 2 : kWidest; }
  Chain open(std::size_t bucket, std::uint8_t width) {
    widths_[bucket + 1] = width;
    return {nullptr, 0, static_cast<std::uint32_t>(bytes_of(width)), nullptr};
  }
  std::byte* append(std::size_t bucket, Chain& chain, Pool& pool) {
    if (chain.left == 0) open_block(bucket, chain, pool);
    std::byte* cell = chain.next;
    chain.next += chain.bytes;
    --chain.left;
    return cell;
  }

  void fill_empty(std::uint8_t width, std::byte* cell) const {
    const std::size_t bytes = bytes_of(width);
    for (std::size_t at = 0; at < bytes; at += 4) store(cell + at, load<std::uint32_t>(empty_.data() + at));
  }
  // Where a cell's counts begin.
  std::byte* counts_in(std::byte* cell) const { return cell + fixed_; }
  // What a key's state gives at a time: its windows' counts, and the rest.
  void fill_counts(Scratch& scratch, const std::int32_t* tiles, std::uint8_t width, std::byte* cell) const;
  void fill_rest(Scratch& scratch, std::int64_t time, const std::int32_t* tiles, const std::byte* wanted, std::vector<BulkList>& lists,
                 std::vector<ListTrack>& tracks, std::size_t bucket, std::byte* cell) const;
  bool has_rest() const { return !others_.empty() || !lists_.empty(); }

  // A window's count, whatever it becomes. A cell's counts stand side by side in this order.
  struct Count {
    std::size_t place;
    std::int64_t reach;
    std::size_t clock;
  };
  const std::vector<Count>& counts() const { return counted_; }

  // The features among numbers that emit() fills.
  std::vector<std::size_t> numbers() const;
  // The cells of the next reads, in the reads' order.
  void take(std::size_t count);
  // Numbers and values of rows [begin, begin + count) of those taken; features' rows begin at `first`.
  void emit(std::size_t begin, std::size_t count, std::size_t first, Columns& out, Program::Values& values) const;
  void emit_sequences(const std::int64_t* times, const std::vector<BulkList>& lists, Columns& out) const;

 private:
  struct Other {
    const Program::BlockRead* read;
    std::size_t offset;
    bool wide;
    std::size_t wanted;  // among the wanted words
  };
  struct List {
    std::size_t number;  // among the family's lists
    std::size_t offset;
    std::vector<std::size_t> features;  // among sequences
  };
  void add_list(const Program::BlockRead& read, std::size_t buckets, std::vector<BulkList>& lists);
  void add_value(const Program::BlockRead& read, bool wide, const std::vector<bool>& is_word);
  std::size_t bytes_of(std::uint8_t width) const { return fixed_ + (counted_.size() * width + 3) / 4 * 4; }
  void open_block(std::size_t bucket, Chain& chain, Pool& pool);
  std::uint32_t cells_in_block(std::size_t bytes) const;
  void put(std::byte* cell, std::size_t offset, bool wide, std::uint64_t value) const;
  std::uint64_t write_list(const Program::BlockRead& read, Scratch& scratch, std::int64_t time, BulkList& list, ListTrack& track,
                           std::size_t bucket) const;

  const Program& program_;
  std::size_t locate_;
  std::size_t fixed_ = 0;  // bytes of a cell before its counts
  std::vector<Count> counted_;
  std::vector<Other> others_;
  std::vector<List> lists_;
  std::vector<int> wanted_;                                      // nodes
  using Shown = std::vector<std::pair<std::size_t, std::size_t>>;  // (feature among numbers, or node; offset)
  Shown numbers_, values_;              // floats, and words
  Shown count_numbers_, count_values_;  // counts: their number in place of an offset
  std::vector<std::byte> empty_;
  Buffer<std::uint16_t> where_;         // by read: bucket + 1, or 0
  std::vector<std::uint8_t> widths_;    // by bucket + 1
  std::vector<std::byte*> firsts_;      // by bucket + 1
  std::vector<Chain> cursors_;          // by bucket + 1
  std::vector<const std::byte*> taken_;  // cells of the rows being emitted
  const std::uint16_t* taken_where_ = nullptr;
  std::size_t next_ = 0;  // read to be taken
};

}  // namespace bowerbird
