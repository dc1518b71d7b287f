#include "plan/row_kernels.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <stdexcept>

#include "base/keys.hpp"
#include "state/blocks.hpp"
#include "state/states.hpp"

#if defined(__x86_64__) && !defined(BOWERBIRD_ONE_ISA)
#include <immintrin.h>
#define BOWERBIRD_SETS 1
#define BOWERBIRD_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define BOWERBIRD_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2,popcnt,prefer-vector-width=512")))
#else
#define BOWERBIRD_SETS 0
#endif

namespace bowerbird {
namespace {

// What is written here once is compiled into a function for each instruction set: the bodies take its target with them.
#define BOWERBIRD_BODY [[gnu::always_inline]] inline

constexpr std::size_t kRows = 64;  // of a step: what is computed for them stays in the nearest cache

BOWERBIRD_BODY void hash_any(const std::uint64_t* keys, std::size_t count, std::uint64_t* hashes) {
  for (std::size_t i = 0; i < count; ++i) hashes[i] = mix(keys[i]);
}

BOWERBIRD_BODY void cross(const KeyPart& part, std::size_t first, std::size_t count, std::uint64_t* states, std::uint64_t* known) {
  const std::uint64_t* column = part.column + (part.single ? 0 : first);
  const auto step = [&](std::size_t i, std::uint64_t key) {
    known[i] &= key == kMissingKey ? 0 : ~std::uint64_t{0};
    states[i] = cross_step(states[i], key);
  };
  if (part.single) {
    const std::uint64_t key = column[0];
    for (std::size_t i = 0; i < count; ++i) step(i, key);
  } else {
    for (std::size_t i = 0; i < count; ++i) step(i, column[i]);
  }
}

BOWERBIRD_BODY void keys_any(const KeyPart* parts, std::size_t part_count, std::size_t count, std::uint64_t* keys) {
  if (part_count == 0) {
    std::fill_n(keys, count, 1);
    return;
  }
  if (part_count == 1) {
    if (parts->single) std::fill_n(keys, count, parts->column[0]);
    else std::copy_n(parts->column, count, keys);
    return;
  }
  std::array<std::uint64_t, kRows> states, known;
  for (std::size_t first = 0; first < count; first += kRows) {
    const std::size_t size = std::min(kRows, count - first);
    states.fill(kCrossSeed);
    known.fill(~std::uint64_t{0});
    for (std::size_t part = 0; part < part_count; ++part) cross(parts[part], first, size, states.data(), known.data());
    for (std::size_t i = 0; i < size; ++i) keys[first + i] = not_missing(states[i]) & known[i];
  }
}

// How many of a state's newest tiles lie in the window; those that are newer than the read are counted elsewhere.
BOWERBIRD_BODY std::size_t tiles_within(const Tiles::Head& head, std::int64_t reach, std::int64_t shift) {
  const std::int64_t left = std::clamp<std::int64_t>(reach - shift, 0, Tiles::kMostTiles);
  return static_cast<std::size_t>(std::popcount(head.bitmap & ((std::uint64_t{1} << left) - 1)));
}

constexpr std::size_t kLanes = 8;
// How far ahead a block's lines are asked for, a few at a time: more than a processor can wait for at once are dropped.
constexpr std::size_t kAhead = 8;
constexpr std::size_t kLines = 5;

// What a key has that has no state: a head without tiles, with what is loaded before its end.
constexpr std::array<std::byte, 4 * kLanes + sizeof(Tiles::Head)> kNothing{};

// `sum` gets where the tiles end and how many of the last count. At least kLanes values before the end are in the block.
template <typename Sum>
BOWERBIRD_BODY std::int64_t count_window(const TileWindow& window, const std::byte* block, Sum sum) {
  const std::size_t at = block == nullptr ? 0 : load<std::uint16_t>(block + BlockHeader::kBytes + 2 * window.place);
  const std::byte* state = at == 0 ? kNothing.data() + 4 * kLanes : block + 8 * at;
  const auto head = load<Tiles::Head>(state);
  const std::int64_t shift = static_cast<std::int64_t>(window.last) - head.newest;
  if (shift < 0) [[unlikely]] return Tiles::count(state, window.reach, window.last);
  const auto* tiles = reinterpret_cast<const std::int32_t*>(state + sizeof(Tiles::Head));
  return sum(tiles + head.size, tiles_within(head, window.reach, shift));
}

template <typename Sum>
BOWERBIRD_BODY void count_any(const TileWindow* windows, std::size_t window_count, const std::byte* const* blocks, std::size_t count, Sum sum) {
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      for (std::size_t line = 1; line < kLines; ++line) __builtin_prefetch(blocks[i + kAhead] + 64 * line);
    }
    for (std::size_t window = 0; window < window_count; ++window) {
      windows[window].counts[i] = std::bit_cast<std::uint64_t>(static_cast<double>(count_window(windows[window], blocks[i], sum)));
    }
  }
}

std::int64_t sum_plain(const std::int32_t* end, std::size_t count) {
  std::int64_t total = 0;
  for (const std::int32_t* at = end - count; at < end; ++at) total += *at;
  return total;
}

#if BOWERBIRD_SETS
BOWERBIRD_AVX2 BOWERBIRD_BODY __m256i widened(__m256i eight) {
  return _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(eight)), _mm256_cvtepi32_epi64(_mm256_extracti128_si256(eight, 1)));
}

BOWERBIRD_AVX2 BOWERBIRD_BODY std::int64_t sum_of_four(__m256i four) {
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  return _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
}

// What is masked out lies before the tiles, in memory that is at hand: the same block's.
BOWERBIRD_AVX2 BOWERBIRD_BODY __m256i last_eight(const std::int32_t* end, std::size_t count) {
  const __m256i from_end = _mm256_setr_epi32(8, 7, 6, 5, 4, 3, 2, 1);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count) + 1), from_end);
  return widened(_mm256_maskload_epi32(end - kLanes, mask));
}

BOWERBIRD_AVX2 BOWERBIRD_BODY std::int64_t sum_avx2(const std::int32_t* end, std::size_t count) {
  __m256i total = last_eight(end, count);
  for (std::size_t done = kLanes; done < count; done += kLanes) total = _mm256_add_epi64(total, last_eight(end - done, count - done));
  return sum_of_four(total);
}

// Windows have few tiles: wider vectors would be empty.
BOWERBIRD_AVX512 BOWERBIRD_BODY std::int64_t sum_avx512(const std::int32_t* end, std::size_t count) { return sum_avx2(end, count); }
#endif

#define BOWERBIRD_KERNELS(SET, TARGET)                                                                                       \
  TARGET void hash_##SET(const std::uint64_t* keys, std::size_t count, std::uint64_t* hashes) { hash_any(keys, count, hashes); } \
  TARGET void keys_##SET(const KeyPart* parts, std::size_t part_count, std::size_t count, std::uint64_t* keys) {             \
    keys_any(parts, part_count, count, keys);                                                                                \
  }                                                                                                                          \
  TARGET void count_##SET(const TileWindow* windows, std::size_t window_count, const std::byte* const* blocks, std::size_t count) { \
    count_any(windows, window_count, blocks, count,                                                                          \
              [](const std::int32_t* end, std::size_t size) TARGET { return sum_##SET(end, size); });                        \
  }                                                                                                                          \
  RowKernels kernels_##SET() { return {#SET, hash_##SET, keys_##SET, count_##SET}; }

BOWERBIRD_KERNELS(plain, )
#if BOWERBIRD_SETS
BOWERBIRD_KERNELS(avx2, BOWERBIRD_AVX2)
BOWERBIRD_KERNELS(avx512, BOWERBIRD_AVX512)
#endif

std::vector<RowKernels> usable() {
  std::vector<RowKernels> found{kernels_plain()};
#if BOWERBIRD_SETS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) found.push_back(kernels_avx2());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    found.push_back(kernels_avx512());
  }
#endif
  return found;
}

const std::vector<RowKernels>& all_kernels() {
  static const std::vector<RowKernels> found = usable();
  return found;
}

std::atomic<const RowKernels*>& chosen() {
  static std::atomic<const RowKernels*> kernels{&all_kernels().back()};
  return kernels;
}

}  // namespace

const RowKernels& row_kernels() { return *chosen().load(std::memory_order_relaxed); }

void use_instruction_set(const std::string& name) {
  const std::vector<RowKernels>& all = all_kernels();
  const auto is_wanted = [&](const RowKernels& kernels) { return kernels.name == name; };
  const auto found = name.empty() ? all.end() - 1 : std::find_if(all.begin(), all.end(), is_wanted);
  if (found == all.end()) throw std::invalid_argument("this processor has no instruction set " + name);
  chosen().store(&*found, std::memory_order_relaxed);
}

std::vector<std::string> row_instruction_sets() {
  std::vector<std::string> names;
  for (const RowKernels& kernels : all_kernels()) names.push_back(kernels.name);
  return names;
}

}  // namespace bowerbird
