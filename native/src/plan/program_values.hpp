// What the parts of Program share: numbers as bits, a key's state at a time, what a match found, an empty sequence.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "plan/columns.hpp"
#include "plan/plan.hpp"
#include "state/layout.hpp"

namespace bowerbird {

inline double number(std::uint64_t bits) { return std::bit_cast<double>(bits); }
inline std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

// The state of an aggregate in a block, or null where the key has none at this time.
inline const std::byte* state_of(const Place& place, const std::byte* block, std::int64_t time) {
  const std::byte* state = block == nullptr ? nullptr : place.find(block);
  return state == nullptr || place.is_forgotten(state, time) ? nullptr : state;
}

struct Found {
  double count = 0;
  double all = 0;
  std::int64_t latest = std::numeric_limits<std::int64_t>::min();
};

inline double match_value(const Found& found, What what, std::int64_t time) {
  switch (what) {
    case What::kCount: return found.count;
    case What::kFraction: return found.all == 0 ? kNaN : found.count / found.all;
    default: return found.count == 0 ? kNaN : seconds_between(found.latest, time);
  }
}

inline Ragged ragged_like(const Feature& feature) {
  Ragged ragged;
  ragged.offsets.push(0);
  for (const bool is_category : feature.field_is_category) {
    if (is_category) {
      ragged.keys.emplace_back();
    } else {
      ragged.numbers.emplace_back();
    }
  }
  return ragged;
}

}  // namespace bowerbird
