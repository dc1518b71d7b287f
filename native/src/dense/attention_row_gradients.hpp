// The gradients of events that are rows of tables, on their way to the tables' gradients.
// For AVX-512 with BW and BF16 alone.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/team.hpp"
#include "dense/attention_network.hpp"
#include "dense/linear_tiles.hpp"

namespace bowerbird::tiled {

// Those of a chunk's samples, one an event that is there.
class AttentionRowGradients {
 public:
  AttentionRowGradients(const AttentionNetwork& network, const AttentionGradients& of, std::size_t samples)
      : network_(network), of_(of) {
    for (std::size_t part = 0; part < network.parts.size(); ++part) {
      values_.emplace_back(wanted(part) ? samples * network.length * network.parts[part].width : 0);
    }
  }

  static bool there(const AttentionNetwork& network) {
    return std::ranges::any_of(network.parts, [](const EventPart& part) { return part.rows != nullptr; });
  }

  // Where the gradients of a part's next events begin.
  float* next(std::size_t part) const { return values_[part].data() + places_.size() * network_.parts[part].width; }
  void keep(const std::vector<std::size_t>& places) { places_.insert(places_.end(), places.begin(), places.end()); }
  void clear() { places_.clear(); }

  // Adds to the rows that are a lane's.
  void add(std::size_t lane, std::size_t lanes) const {
    for (std::size_t part = 0; part < values_.size(); ++part) {
      if (wanted(part)) add_part(part, lane, lanes);
    }
  }

 private:
  static constexpr std::size_t kAhead = 32;  // events between a prefetch and its use

  bool wanted(std::size_t part) const { return network_.parts[part].rows != nullptr && of_.parts[part] != nullptr; }

  void add_part(std::size_t number, std::size_t lane, std::size_t lanes) const {
    const EventPart& part = network_.parts[number];
    const float* const values = values_[number].data();
    float* const table = of_.parts[number];
    const std::vector<std::size_t> events = events_of(part, lane, lanes);
    const auto to = [&](std::size_t event) {
      return table + static_cast<std::size_t>(part.rows[places_[event]]) * part.width;
    };
    for (std::size_t i = 0; i < events.size(); ++i) {
      const std::size_t later = events[std::min(i + kAhead, events.size() - 1)];
      _mm_prefetch(to(later), _MM_HINT_T0);
      if (lanes > 1) _mm_prefetch(values + later * part.width, _MM_HINT_T0);
      add_row(values + events[i] * part.width, part.width, to(events[i]));
    }
  }

  // Which events' rows are a lane's.
  std::vector<std::size_t> events_of(const EventPart& part, std::size_t lane, std::size_t lanes) const {
    std::vector<std::size_t> events(places_.size());
    std::size_t count = 0;
    for (std::size_t event = 0; event < places_.size(); ++event) {
      events[count] = event;
      count += std::size_t{lane_of(part.rows[places_[event]], lanes) == lane};
    }
    events.resize(count);
    return events;
  }

  // Spreads rows without a division.
  static std::size_t lane_of(std::int32_t row, std::size_t lanes) {
    return (static_cast<std::uint32_t>(row) * 2654435761u * std::uint64_t{lanes}) >> 32;
  }

  static void add_row(const float* from, std::size_t width, float* to) {
    for (std::size_t at = 0; at < width; at += kSide) {
      const auto there = static_cast<__mmask16>(first(width - at));
      const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(there, to + at), _mm512_maskz_loadu_ps(there, from + at));
      _mm512_mask_storeu_ps(to + at, there, sum);
    }
  }

  const AttentionNetwork& network_;
  const AttentionGradients& of_;
  std::vector<Buffer<float>> values_;  // each part's by event
  std::vector<std::size_t> places_;    // of events
};

// Adds chunks' gradients up, in their order for each row: the same sums for every number of threads.
inline void add_up(std::span<AttentionRowGradients> chunks, std::size_t threads) {
  run_team(threads, threads, [&](std::size_t lane) {
    for (const AttentionRowGradients& chunk : chunks) chunk.add(lane, threads);
  });
  for (AttentionRowGradients& chunk : chunks) chunk.clear();
}

}  // namespace bowerbird::tiled
