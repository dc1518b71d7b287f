#include "table/admission.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "table/numbers.hpp"

namespace bowerbird::embedding {
namespace {

// Blocks fill unevenly and counts outlive one halving, so that a filter needs this much more than a plain one.
constexpr double kMargin = 2.0;

struct FilterHeader {
  std::uint64_t new_keys;
  std::uint64_t era;
};

}  // namespace

AdmissionFilter::AdmissionFilter(const Admission& admission, std::uint64_t seed) : admission_(admission), salt_(mix(seed ^ 0xF117E5)) {
  if (!admission.counts()) return;
  const double natural = std::log(1.0 / admission.filter_error);
  hashes_ = std::clamp(static_cast<unsigned>(std::lround(natural / std::log(2.0))), 1U, 8U);
  const double counters = kMargin * static_cast<double>(admission.filter_keys) * natural / (std::log(2.0) * std::log(2.0));
  lines_.resize(static_cast<std::size_t>(counters / kCounters) + 1);
}

void AdmissionFilter::prefetch(std::uint64_t key) const {
  if (!lines_.empty()) __builtin_prefetch(&const_cast<AdmissionFilter*>(this)->line_of(mix(key ^ salt_)));
}

void AdmissionFilter::age(Line& line) const {
  const auto missed = static_cast<std::uint16_t>(era_ - line.era);
  if (missed == 0) return;
  for (std::uint8_t& counter : line.counters) counter = static_cast<std::uint8_t>(missed >= 8 ? 0 : counter >> missed);
  line.era = era_;
}

std::uint32_t AdmissionFilter::count(std::uint64_t key, std::uint32_t times) {
  const std::uint64_t hash = mix(key ^ salt_);
  Line& line = line_of(hash);
  age(line);
  const std::uint64_t places = mix(hash);
  const auto place = [places](unsigned i) { return static_cast<std::size_t>((((places >> (8 * i)) & 0xFF) * kCounters) >> 8); };
  std::uint32_t before = kMost;
  for (unsigned i = 0; i < hashes_; ++i) before = std::min<std::uint32_t>(before, line.counters[place(i)]);
  const auto now = static_cast<std::uint8_t>(std::min<std::uint64_t>(std::uint64_t{before} + times, kMost));
  for (unsigned i = 0; i < hashes_; ++i) line.counters[place(i)] = std::max(line.counters[place(i)], now);
  if (before == 0 && ++new_keys_ >= admission_.filter_keys) {
    new_keys_ = 0;
    ++era_;
  }
  return before;
}

bool AdmissionFilter::admits(std::uint64_t key, std::uint32_t times, std::uint64_t call) {
  if (!admission_.counts()) return true;
  const std::uint32_t before = count(key, times);
  if (std::uint64_t{before} + times < admission_.minimum_count) return false;
  if (admission_.probability >= 1.0) return true;
  const std::uint64_t stream = stream_of(salt_, key) + (before == kMost ? mix(call) : 0);
  const auto below = static_cast<std::uint64_t>(std::ldexp(admission_.probability, 32));
  for (std::uint32_t i = 0; i < std::min(times, kMost); ++i) {
    const std::uint64_t occurrence = std::uint64_t{before} + i + 1;
    if (occurrence >= admission_.minimum_count && chance_at(stream, occurrence) < below) return true;
  }
  return false;
}

std::vector<std::byte> AdmissionFilter::dump() const {
  const FilterHeader header{new_keys_, era_};
  std::vector<std::byte> out(sizeof(header) + bytes());
  std::memcpy(out.data(), &header, sizeof(header));
  if (!lines_.empty()) std::memcpy(out.data() + sizeof(header), lines_.data(), bytes());
  return out;
}

void AdmissionFilter::adopt(const std::vector<std::byte>& dumped) {
  FilterHeader header;
  if (dumped.size() != sizeof(header) + bytes()) throw DamagedFile("the admission filter has another size than the configuration says");
  std::memcpy(&header, dumped.data(), sizeof(header));
  new_keys_ = header.new_keys;
  era_ = static_cast<std::uint16_t>(header.era);
  if (!lines_.empty()) std::memcpy(lines_.data(), dumped.data() + sizeof(header), bytes());
}

}  // namespace bowerbird::embedding
