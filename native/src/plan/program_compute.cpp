// What is computed for a row: from a key's block, and from other values.
#include "plan/program.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "plan/program_values.hpp"

namespace bowerbird {
namespace {

constexpr std::int64_t kHour = 3'600'000'000;
constexpr std::int64_t kDay = 24 * kHour;
std::int64_t local_time(const Node& zone, std::int64_t time) {
  const auto after = std::upper_bound(zone.instants.begin(), zone.instants.end(), time);
  const std::size_t at = after == zone.instants.begin() ? 0 : static_cast<std::size_t>(after - zone.instants.begin() - 1);
  return time + zone.offsets[at];
}

std::uint64_t hour_key(const Node& zone, std::int64_t time) {
  const std::int64_t hours = floor_divide(local_time(zone, time), kHour);
  return key_integer(hours - 24 * floor_divide(hours, 24));
}

std::uint64_t weekday_key(const Node& zone, std::int64_t time) {
  const std::int64_t days = floor_divide(local_time(zone, time), kDay) + 3;  // 1970-01-01 was a Thursday
  return key_integer(days - 7 * floor_divide(days, 7));
}

std::uint64_t bucket_key(const std::vector<double>& boundaries, double value) {
  if (std::isnan(value)) return kMissingKey;
  return key_integer(std::upper_bound(boundaries.begin(), boundaries.end(), value) - boundaries.begin());
}

double signed_log1p(double value) { return value < 0 ? -std::log1p(-value) : std::log1p(value); }

double clip(double value, double low, double high) {
  if (value < low) return low;
  return value > high ? high : value;
}

Found find_in_sequence(const std::byte* state, std::size_t field, std::uint64_t wanted) {
  Found found;
  const std::size_t size = Sequence::head(state).size;
  found.all = static_cast<double>(size);
  if (wanted == kMissingKey) return found;
  const std::uint64_t* words = Sequence::column(state, 1 + field);
  const std::int64_t* times = Sequence::times(state);
  for (std::size_t i = 0; i < size; ++i) {
    if (words[i] != wanted) continue;
    found.count += 1;
    found.latest = std::max(found.latest, times[i]);
  }
  return found;
}

Found find_in_top(const std::byte* state, std::uint64_t wanted) {
  Found found;
  const Top::Entry* entries = Top::entries(state);
  for (std::size_t i = 0; i < Top::head(state).size; ++i) {
    found.all += static_cast<double>(entries[i].count);
    if (entries[i].key != wanted || wanted == kMissingKey) continue;
    found.count = static_cast<double>(entries[i].count);
    found.latest = entries[i].latest;
  }
  return found;
}

}  // namespace

void Program::allocate(Values& values, std::size_t rows) const {
  const std::size_t nodes = plan_.nodes.size();
  values.columns.resize(nodes, nullptr);
  values.rows.resize(nodes, 0);
  values.storage.resize(nodes * rows);
  for (std::size_t i = 0; i < nodes; ++i) {
    values.columns[i] = values.storage.data() + i * rows;
    values.rows[i] = rows;
  }
}

void Program::compute(int index, Values& values) const {
  const Node& node = plan_.nodes[static_cast<std::size_t>(index)];
  std::uint64_t* out = values.columns[static_cast<std::size_t>(index)];
  const std::size_t rows = values.rows[static_cast<std::size_t>(index)];
  const auto input = [&](std::size_t i) { return values.columns[static_cast<std::size_t>(node.inputs[i])]; };
  const auto step = [&](std::size_t i) { return values.rows[static_cast<std::size_t>(node.inputs[i])] == 1 ? std::size_t{0} : std::size_t{1}; };
  const auto unary = [&](auto function) {
    const std::uint64_t* a = input(0);
    const std::size_t sa = step(0);
    for (std::size_t i = 0; i < rows; ++i) out[i] = function(number(a[i * sa]));
  };
  const auto binary = [&](auto function) {
    const std::uint64_t *a = input(0), *b = input(1);
    const std::size_t sa = step(0), sb = step(1);
    for (std::size_t i = 0; i < rows; ++i) out[i] = bits(function(number(a[i * sa]), number(b[i * sb])));
  };
  switch (node.operation) {
    case Operation::kRate: {
      const double prior = node.numbers[0] * node.numbers[1];
      const double strength = node.numbers[1];
      return binary([=](double above, double count) {
        const double below = count + strength;
        return below > 0 ? (above + prior) / below : kNaN;
      });
    }
    case Operation::kRatio: return binary([](double a, double b) { return b == 0 ? kNaN : a / b; });
    case Operation::kDifference: return binary([](double a, double b) { return a - b; });
    case Operation::kLog1p: return unary([](double a) { return bits(signed_log1p(a)); });
    case Operation::kClip: return unary([&](double a) { return bits(clip(a, node.numbers[0], node.numbers[1])); });
    case Operation::kAffine: return unary([&](double a) { return bits((a - node.numbers[0]) / node.numbers[1]); });
    case Operation::kBucketise: return unary([&](double a) { return bucket_key(node.numbers, a); });
    case Operation::kAge: {
      const std::uint64_t* a = input(0);
      const std::size_t sa = step(0);
      for (std::size_t i = 0; i < rows; ++i) {
        out[i] = bits(static_cast<double>(values.time(i)) / kMicrosecondsPerSecond - number(a[i * sa]));
      }
      return;
    }
    case Operation::kCross: {
      std::fill(out, out + rows, kCrossSeed);
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        const std::uint64_t* a = input(k);
        const std::size_t sa = step(k);
        for (std::size_t i = 0; i < rows; ++i) out[i] = cross_step(out[i], a[i * sa]);
      }
      for (std::size_t i = 0; i < rows; ++i) out[i] = not_missing(out[i]);
      return;
    }
    case Operation::kHour:
      for (std::size_t i = 0; i < rows; ++i) out[i] = hour_key(node, values.time(i));
      return;
    case Operation::kWeekday:
      for (std::size_t i = 0; i < rows; ++i) out[i] = weekday_key(node, values.time(i));
      return;
    default: return;
  }
}

std::uint64_t Program::key(const Locate& locate, const Values& values, std::size_t row) const {
  return family_key(locate.keys, [&](int node) { return values.at(node, row); });
}

std::uint64_t Program::read_block(const BlockRead& read, const std::byte* block, std::int64_t time, std::int32_t tile,
                                  std::uint64_t wanted) const {
  const Place& place = *read.place;
  const Aggregate& aggregate = *place.aggregate;
  if (read.counts_tiles) {
    const std::byte* state = block == nullptr ? nullptr : place.find(block);
    return bits(state == nullptr ? 0.0 : static_cast<double>(Tiles::count(state, aggregate.reach, tile)));
  }
  const std::byte* state = state_of(place, block, time);
  switch (read.operation) {
    case Operation::kRead: {
      if (aggregate.kind == AggregateKind::kTiles) {
        const Moments moments = state == nullptr ? Moments{} : Tiles::read(state, aggregate, tile);
        return bits(moments_value(moments, read.what, aggregate.scale));
      }
      if (aggregate.kind == AggregateKind::kTotal) {
        const Moments moments = state == nullptr ? Moments{} : Total::read(state, place.parts);
        return bits(moments_value(moments, read.what, aggregate.scale));
      }
      if (aggregate.kind == AggregateKind::kDecayed) {
        if (state == nullptr) return bits(read.what == What::kMean ? kNaN : 0.0);
        return bits(Decayed::read(state, aggregate, read.what, time));
      }
      const std::int64_t at = state == nullptr ? 0 : load<std::int64_t>(state);
      return bits(at == 0 ? kNaN : seconds_between(at, time));
    }
    case Operation::kLatest: {
      const std::size_t size = state == nullptr ? 0 : Sequence::head(state).size;
      if (size == 0) return read.is_category ? kMissingKey : bits(kNaN);
      return Sequence::column(state, 1 + static_cast<std::size_t>(read.field))[Sequence::at(Sequence::head(state), size - 1)];
    }
    case Operation::kMatch: {
      if (state == nullptr) return bits(match_value({}, read.what, time));
      const Found found = read.of_top ? find_in_top(state, wanted) : find_in_sequence(state, static_cast<std::size_t>(read.field), wanted);
      return bits(match_value(found, read.what, time));
    }
    default: return 0;
  }
}

void Program::emit_sequence(const BlockRead& read, const Feature& feature, const std::byte* block, std::int64_t time, Ragged& out) const {
  const std::byte* state = state_of(*read.place, block, time);
  if (state == nullptr) return out.add_row();
  if (read.operation == Operation::kTop) {
    std::vector<Top::Entry> best(Top::entries(state), Top::entries(state) + Top::head(state).size);
    const std::size_t count = std::min<std::size_t>(read.length, best.size());
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count), best.end(), Top::before);
    for (std::size_t i = count; i-- > 0;) {
      out.keys.front().push(best[i].key);
      out.numbers.front().push(static_cast<float>(best[i].count));
      out.age.push(static_cast<float>(seconds_between(best[i].latest, time)));
    }
    return out.add_row();
  }
  const Sequence::Head& head = Sequence::head(state);
  const std::size_t count = head.size;
  const std::size_t upper = std::min<std::size_t>(count, head.capacity - head.oldest);  // before the ring turns round
  const auto each = [&](std::size_t field, auto* to, auto convert) {
    const std::uint64_t* words = Sequence::column(state, field);
    for (std::size_t i = 0; i < upper; ++i) to[i] = convert(words[head.oldest + i]);
    for (std::size_t i = upper; i < count; ++i) to[i] = convert(words[i - upper]);
  };
  std::size_t key = 0;
  std::size_t plain = 0;
  for (std::size_t field = 0; field < feature.field_is_category.size(); ++field) {
    if (feature.field_is_category[field]) {
      each(1 + field, out.keys[key++].extend(count), [](std::uint64_t word) { return word; });
    } else {
      each(1 + field, out.numbers[plain++].extend(count), [](std::uint64_t word) { return static_cast<float>(number(word)); });
    }
  }
  each(0, out.age.extend(count),
       [time](std::uint64_t word) { return static_cast<float>(seconds_between(static_cast<std::int64_t>(word), time)); });
  out.add_row();
}

}  // namespace bowerbird
