// Hashes of family keys, many at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/keys.hpp"

namespace bowerbird {

// What a missing key hashes to, and no other key does.
inline constexpr std::uint64_t kMissingHash = mix(kMissingKey);

// hashes[i] = mix(family_key(parts of row i)); a part is a column of `count` values.
void hash_family_keys(const std::vector<const std::uint64_t*>& parts, std::size_t count, std::uint64_t* hashes);

}  // namespace bowerbird
