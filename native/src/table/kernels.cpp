#include "table/kernels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "table/numbers.hpp"

#if defined(__x86_64__) && !defined(BOWERBIRD_ONE_ISA)
#include <immintrin.h>
#define BOWERBIRD_SETS 1
#define BOWERBIRD_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define BOWERBIRD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi,bmi2,popcnt,prefer-vector-width=512")))
#else
#define BOWERBIRD_SETS 0
#endif

namespace bowerbird::embedding {
namespace {

constexpr std::size_t kAhead = 48;       // rows asked for before they are needed
constexpr std::size_t kStepPiece = 16;   // rows with their states that are asked for side by side
constexpr std::size_t kFindPiece = 128;  // buckets, likewise
constexpr unsigned kLastSlot = 1U << (IndexBucket::kSlots - 1);

typedef float Block __attribute__((vector_size(4 * kBlock)));
typedef float HalfBlock __attribute__((vector_size(2 * kBlock)));
typedef float QuarterBlock __attribute__((vector_size(kBlock)));

template <Precision precision>
constexpr std::size_t kWidth = precision == Precision::kFloat32 ? 4 : 2;

template <OptimiserKind kind>
constexpr std::size_t kStateArrays = kind == OptimiserKind::kAdagrad ? 1 : kind == OptimiserKind::kAdam || kind == OptimiserKind::kFtrl ? 2 : 0;

// ---- one set of functions for each instruction set ----------------------------------------------

namespace plain {
unsigned matches(const IndexBucket& bucket, std::uint64_t key) {
  unsigned found = 0;
  for (unsigned i = 0; i < IndexBucket::kSlots; ++i) found |= static_cast<unsigned>(bucket.keys[i] == key) << i;
  return found;
}
}  // namespace plain

#define BOWERBIRD_SET plain
#define BOWERBIRD_TARGET
#include "table/kernels.inl"

#if BOWERBIRD_SETS
namespace avx2 {
BOWERBIRD_AVX2 inline unsigned matches(const IndexBucket& bucket, std::uint64_t key) {
  const __m256i four = _mm256_load_si256(reinterpret_cast<const __m256i*>(bucket.keys));
  const __m256i equal = _mm256_cmpeq_epi64(four, _mm256_set1_epi64x(static_cast<long long>(key)));
  const auto found = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal)));
  return found | static_cast<unsigned>(bucket.keys[4] == key) << 4;
}
}  // namespace avx2

#define BOWERBIRD_SET avx2
#define BOWERBIRD_TARGET BOWERBIRD_AVX2
#include "table/kernels.inl"

namespace avx512 {
BOWERBIRD_AVX512 inline unsigned matches(const IndexBucket& bucket, std::uint64_t key) {
  const __m512i line = _mm512_load_si512(&bucket);
  return _mm512_mask_cmpeq_epi64_mask(0x1F, line, _mm512_set1_epi64(static_cast<long long>(key)));
}
}  // namespace avx512

#define BOWERBIRD_SET avx512
#define BOWERBIRD_TARGET BOWERBIRD_AVX512
#include "table/kernels.inl"
#endif

std::vector<TableKernels> usable() {
  std::vector<TableKernels> found{plain::kernels("plain")};
#if BOWERBIRD_SETS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) found.push_back(avx2::kernels("avx2"));
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq")) {
    found.push_back(avx512::kernels("avx512"));
  }
#endif
  return found;
}

const std::vector<TableKernels>& all_kernels() {
  static const std::vector<TableKernels> found = usable();
  return found;
}

}  // namespace

const TableKernels& table_kernels(const std::string& name) {
  if (name.empty()) return all_kernels().back();
  for (const TableKernels& kernels : all_kernels()) {
    if (kernels.name == name) return kernels;
  }
  throw std::invalid_argument("this processor has no instruction set " + name);
}

std::vector<std::string> table_instruction_sets() {
  std::vector<std::string> names;
  for (const TableKernels& kernels : all_kernels()) names.push_back(kernels.name);
  return names;
}

void store_weights(Precision precision, const float* from, std::size_t count, std::byte* to) {
  if (precision == Precision::kFloat32) {
    std::memcpy(to, from, 4 * count);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t bits = precision == Precision::kFloat16 ? float16_of(from[i]) : bfloat16_of(from[i]);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

}  // namespace bowerbird::embedding
