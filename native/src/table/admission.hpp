// Which new keys get a row: those that a counting filter has seen often enough, or that a draw picks.
//
// The filter is a blocked counting Bloom filter with conservative updates (Fan et al., 2000; Estan and Varghese, 2002; Putze et
// al., 2007): a key's counters stand in one cache line. When `filter_keys` new keys were counted, all counts halve, a line at a
// time as it is next met, so that memory and error stay bounded for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "table/config.hpp"

namespace bowerbird::embedding {

class AdmissionFilter {
 public:
  static constexpr std::uint32_t kMost = 255;

  AdmissionFilter(const Admission& admission, std::uint64_t seed);

  std::size_t bytes() const { return lines_.size() * sizeof(Line); }
  void prefetch(std::uint64_t key) const;
  // Counts a key `times` more times; whether it is to be admitted now. `call` differs from call to call.
  bool admits(std::uint64_t key, std::uint32_t times, std::uint64_t call);

  // What a snapshot keeps.
  std::vector<std::byte> dump() const;
  void adopt(const std::vector<std::byte>& dumped);

 private:
  static constexpr std::size_t kCounters = 62;
  struct alignas(64) Line {
    std::uint8_t counters[kCounters];
    std::uint16_t era;
  };
  static_assert(sizeof(Line) == 64);

  Line& line_of(std::uint64_t hash) { return lines_[static_cast<std::size_t>(((hash & 0xFFFFFFFFULL) * lines_.size()) >> 32)]; }
  void age(Line& line) const;
  // Returns how often the key was counted before.
  std::uint32_t count(std::uint64_t key, std::uint32_t times);

  Admission admission_;
  std::uint64_t salt_;
  unsigned hashes_ = 1;
  std::uint16_t era_ = 0;
  std::uint64_t new_keys_ = 0;
  std::vector<Line> lines_;
};

}  // namespace bowerbird::embedding
