#include "bulk/keys.hpp"

#include <algorithm>

#include "base/clones.hpp"

namespace bowerbird {
namespace {

BOWERBIRD_CLONES void mix_all(const std::uint64_t* keys, std::size_t count, std::uint64_t* hashes) {
  for (std::size_t i = 0; i < count; ++i) hashes[i] = mix(keys[i]);
}

BOWERBIRD_CLONES void cross_all(const std::uint64_t* keys, std::size_t count, std::uint64_t* states, std::uint8_t* missing) {
  for (std::size_t i = 0; i < count; ++i) {
    missing[i] |= keys[i] == kMissingKey ? 1 : 0;
    states[i] = cross_step(states[i], keys[i]);
  }
}

BOWERBIRD_CLONES void finish_all(std::size_t count, std::uint64_t* states, const std::uint8_t* missing) {
  for (std::size_t i = 0; i < count; ++i) states[i] = mix(missing[i] != 0 ? kMissingKey : not_missing(states[i]));
}

}  // namespace

void hash_family_keys(const std::vector<const std::uint64_t*>& parts, std::size_t count, std::uint64_t* hashes) {
  if (parts.empty()) {
    std::fill_n(hashes, count, mix(1));
    return;
  }
  if (parts.size() == 1) return mix_all(parts.front(), count, hashes);
  std::vector<std::uint8_t> missing(count, 0);
  std::fill_n(hashes, count, kCrossSeed);
  for (const std::uint64_t* part : parts) cross_all(part, count, hashes, missing.data());
  finish_all(count, hashes, missing.data());
}

}  // namespace bowerbird
