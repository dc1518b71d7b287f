#include "table_kernels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "table_numbers.hpp"

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

// What is written here once is compiled into a function for each instruction set: the bodies take its target with them.
#define BOWERBIRD_BODY [[gnu::always_inline]] inline

constexpr std::size_t kAhead = 12;

using Block = std::array<float, kBlock>;

template <Precision precision>
BOWERBIRD_BODY float read_weight(const std::byte* at) {
  if constexpr (precision == Precision::kFloat32) {
    float value;
    std::memcpy(&value, at, 4);
    return value;
  } else {
    std::uint16_t bits;
    std::memcpy(&bits, at, 2);
    return precision == Precision::kFloat16 ? float_of_float16(bits) : float_of_bfloat16(bits);
  }
}

template <Precision precision>
constexpr std::size_t kWidth = precision == Precision::kFloat32 ? 4 : 2;

template <Precision precision>
BOWERBIRD_BODY void load(const std::byte* from, std::size_t count, float* to) {
  if (count == kBlock) {
    for (std::size_t i = 0; i < kBlock; ++i) to[i] = read_weight<precision>(from + i * kWidth<precision>);
  } else {
    for (std::size_t i = 0; i < count; ++i) to[i] = read_weight<precision>(from + i * kWidth<precision>);
    for (std::size_t i = count; i < kBlock; ++i) to[i] = 0.0F;
  }
}

template <Precision precision>
BOWERBIRD_BODY std::uint16_t halved(float value, bool stochastic, std::uint64_t stream, std::size_t position) {
  if constexpr (precision == Precision::kFloat16) {
    return stochastic ? float16_of(value, chance_at(stream, position)) : float16_of(value);
  } else {
    return stochastic ? bfloat16_of(value, chance_at(stream, position)) : bfloat16_of(value);
  }
}

template <Precision precision>
BOWERBIRD_BODY void store(const float* from, std::size_t count, std::byte* to, bool stochastic, std::uint64_t stream, std::size_t position) {
  if constexpr (precision == Precision::kFloat32) {
    if (count == kBlock) {
      std::memcpy(to, from, 4 * kBlock);
    } else {
      std::memcpy(to, from, 4 * count);
    }
  } else {
    std::array<std::uint16_t, kBlock> bits;
    if (stochastic) {
      for (std::size_t i = 0; i < kBlock; ++i) bits[i] = halved<precision>(from[i], true, stream, position + i);
    } else {
      for (std::size_t i = 0; i < kBlock; ++i) bits[i] = halved<precision>(from[i], false, stream, position + i);
    }
    if (count == kBlock) {
      std::memcpy(to, bits.data(), 2 * kBlock);
    } else {
      std::memcpy(to, bits.data(), 2 * count);
    }
  }
}

BOWERBIRD_BODY void load_floats(const float* from, std::size_t count, float* to) {
  load<Precision::kFloat32>(reinterpret_cast<const std::byte*>(from), count, to);
}

BOWERBIRD_BODY void store_floats(const float* from, std::size_t count, float* to) {
  store<Precision::kFloat32>(from, count, reinterpret_cast<std::byte*>(to), false, 0, 0);
}

BOWERBIRD_BODY float sum_of(Block lanes) {
  for (std::size_t half = kBlock / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// ---- lookups -----------------------------------------------------------------------------------

template <Precision precision>
BOWERBIRD_BODY void take_rows(const RowsView& rows, const std::int64_t* numbers, std::size_t count, float* out) {
  const std::size_t dimension = rows.layout.dimension;
  for (std::size_t i = 0; i < std::min(kAhead, count); ++i) rows.prefetch_weights(static_cast<std::uint64_t>(numbers[i]));
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) rows.prefetch_weights(static_cast<std::uint64_t>(numbers[i + kAhead]));
    const std::byte* from = rows.weights(static_cast<std::uint64_t>(numbers[i]));
    float* to = out + i * dimension;
    if constexpr (precision == Precision::kFloat32) {
      if (dimension == kBlock) {
        std::memcpy(to, from, 4 * kBlock);
      } else {
        std::memcpy(to, from, 4 * dimension);
      }
    } else {
      Block block;
      for (std::size_t at = 0; at < dimension; at += kBlock) {
        const std::size_t width = std::min(kBlock, dimension - at);
        load<precision>(from + at * kWidth<precision>, width, block.data());
        store_floats(block.data(), width, to + at);
      }
    }
  }
}

BOWERBIRD_BODY void take_any(const RowsView& rows, Precision precision, const std::int64_t* numbers, std::size_t count, float* out) {
  switch (precision) {
    case Precision::kFloat32: return take_rows<Precision::kFloat32>(rows, numbers, count, out);
    case Precision::kFloat16: return take_rows<Precision::kFloat16>(rows, numbers, count, out);
    case Precision::kBfloat16: return take_rows<Precision::kBfloat16>(rows, numbers, count, out);
  }
}

template <Precision precision>
BOWERBIRD_BODY void pool_bag(const RowsView& rows, const PoolJob& job, std::int64_t begin, std::int64_t end, float* out) {
  const std::size_t dimension = rows.layout.dimension;
  const float share = job.mode == PoolMode::kMean && end > begin ? 1.0F / static_cast<float>(end - begin) : 1.0F;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    Block sum{};
    Block block;
    for (std::int64_t i = begin; i < end; ++i) {
      load<precision>(rows.weights(static_cast<std::uint64_t>(job.rows[i])) + at * kWidth<precision>, width, block.data());
      const float weight = job.weights == nullptr ? 1.0F : job.weights[i];
      for (std::size_t k = 0; k < kBlock; ++k) sum[k] += weight * block[k];
    }
    for (std::size_t k = 0; k < kBlock; ++k) sum[k] *= share;
    store_floats(sum.data(), width, out + at);
  }
}

template <Precision precision>
BOWERBIRD_BODY void pool_bags(const RowsView& rows, const PoolJob& job, float* out) {
  std::int64_t asked = job.offsets[0];
  const std::int64_t last = job.offsets[job.bags];
  for (std::size_t bag = 0; bag < job.bags; ++bag) {
    const std::int64_t end = job.offsets[bag + 1];
    const std::int64_t wanted = std::min(last, end + static_cast<std::int64_t>(kAhead));
    for (; asked < wanted; ++asked) rows.prefetch_weights(static_cast<std::uint64_t>(job.rows[asked]));
    pool_bag<precision>(rows, job, job.offsets[bag], end, out + bag * rows.layout.dimension);
  }
}

BOWERBIRD_BODY void pool_any(const RowsView& rows, Precision precision, const PoolJob& job, float* out) {
  switch (precision) {
    case Precision::kFloat32: return pool_bags<Precision::kFloat32>(rows, job, out);
    case Precision::kFloat16: return pool_bags<Precision::kFloat16>(rows, job, out);
    case Precision::kBfloat16: return pool_bags<Precision::kBfloat16>(rows, job, out);
  }
}

BOWERBIRD_BODY void draw_any(std::uint64_t stream, float scale, std::size_t count, float* out) {
  const float factor = coin_scale(scale);
  std::size_t at = 0;
  for (; at + kBlock <= count; at += kBlock) {
    for (std::size_t i = 0; i < kBlock; ++i) out[at + i] = static_cast<float>(coins_at(stream, at + i)) * factor;
  }
  for (; at < count; ++at) out[at] = static_cast<float>(coins_at(stream, at)) * factor;
}

// ---- steps -------------------------------------------------------------------------------------

// What a row's summed gradient is multiplied by so that its norm is at most the clip.
BOWERBIRD_BODY float clip_factor(const UpdateJob& job, const float* summed) {
  const std::size_t dimension = job.rows.layout.dimension;
  Block squares{};
  Block block;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    load_floats(summed + at, std::min(kBlock, dimension - at), block.data());
    for (std::size_t k = 0; k < kBlock; ++k) squares[k] += block[k] * block[k];
  }
  const float norm = std::sqrt(sum_of(squares));
  return norm > job.optimiser->clip ? job.optimiser->clip / norm : 1.0F;
}

// The gradient that a step sees: clipped, with the L2 term; none at all of a row that no entry is of. FTRL has its L2 in the step.
template <OptimiserKind kind>
BOWERBIRD_BODY void gradient_of(const UpdateJob& job, const float* summed, std::size_t at, std::size_t width, float factor,
                                const float* weights, float* gradient) {
  if (summed == nullptr) {
    for (std::size_t k = 0; k < kBlock; ++k) gradient[k] = 0.0F;
  } else {
    load_floats(summed + at, width, gradient);
  }
  if (factor != 1.0F) {
    for (std::size_t k = 0; k < kBlock; ++k) gradient[k] *= factor;
  }
  if constexpr (kind != OptimiserKind::kFtrl) {
    const float l2 = job.optimiser->l2;
    if (l2 != 0.0F) {
      for (std::size_t k = 0; k < kBlock; ++k) gradient[k] += l2 * weights[k];
    }
  }
}

// One block's step; `first` and `second` are the optimiser's state there, `rate` is the row's where the rows have one.
template <OptimiserKind kind>
BOWERBIRD_BODY void step(const UpdateJob& job, float rate, const float* __restrict gradient, float* __restrict weights,
                         float* __restrict first, float* __restrict second) {
  const Optimiser& by = *job.optimiser;
  if constexpr (kind == OptimiserKind::kSgd || kind == OptimiserKind::kRowWiseAdagrad) {
    for (std::size_t k = 0; k < kBlock; ++k) weights[k] -= rate * gradient[k];
  } else if constexpr (kind == OptimiserKind::kAdagrad) {
    for (std::size_t k = 0; k < kBlock; ++k) {
      first[k] += gradient[k] * gradient[k];
      weights[k] -= rate * gradient[k] / (std::sqrt(first[k]) + by.epsilon);
    }
  } else if constexpr (kind == OptimiserKind::kAdam) {
    const float less1 = 1.0F - by.beta1;
    const float less2 = 1.0F - by.beta2;
    for (std::size_t k = 0; k < kBlock; ++k) {
      first[k] += less1 * (gradient[k] - first[k]);
      second[k] = by.beta2 * second[k] + less2 * (gradient[k] * gradient[k]);
      weights[k] -= job.step_size * first[k] / (std::sqrt(second[k]) / job.root_correction + by.epsilon);
    }
  } else {
    const float inverse = 1.0F / rate;
    for (std::size_t k = 0; k < kBlock; ++k) {
      const float before = std::sqrt(second[k]);
      second[k] += gradient[k] * gradient[k];
      const float root = std::sqrt(second[k]);
      first[k] += gradient[k] - (root - before) * inverse * weights[k];
      const float size = std::fabs(first[k]) - by.l1;
      const float moved = -std::copysign(size, first[k]) / ((by.beta + root) * inverse + by.l2);
      weights[k] = size > 0.0F ? moved : 0.0F;
    }
  }
}

template <OptimiserKind kind>
constexpr std::size_t kStateArrays = kind == OptimiserKind::kAdagrad ? 1 : kind == OptimiserKind::kAdam || kind == OptimiserKind::kFtrl ? 2 : 0;

// Adds the mean square of the row's gradient to its state and returns the rate of its step.
template <Precision precision>
BOWERBIRD_BODY float row_wise_rate(const UpdateJob& job, std::uint32_t number, const float* summed, float factor) {
  const std::size_t dimension = job.rows.layout.dimension;
  const std::byte* row = job.rows.weights(number);
  Block squares{};
  Block weights;
  Block gradient;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    load<precision>(row + at * kWidth<precision>, width, weights.data());
    gradient_of<OptimiserKind::kRowWiseAdagrad>(job, summed, at, width, factor, weights.data(), gradient.data());
    for (std::size_t k = 0; k < kBlock; ++k) squares[k] += gradient[k] * gradient[k];
  }
  auto* state = reinterpret_cast<float*>(job.rows.state(number));
  *state += sum_of(squares) / static_cast<float>(dimension);
  return job.learning_rate / (std::sqrt(*state) + job.optimiser->epsilon);
}

template <OptimiserKind kind, Precision precision>
BOWERBIRD_BODY void step_row(const UpdateJob& job, std::uint32_t number, const float* summed) {
  const std::size_t dimension = job.rows.layout.dimension;
  const float factor = job.optimiser->clip > 0.0F && summed != nullptr ? clip_factor(job, summed) : 1.0F;
  float rate = job.learning_rate;
  if constexpr (kind == OptimiserKind::kRowWiseAdagrad) rate = row_wise_rate<precision>(job, number, summed, factor);
  std::byte* row = job.rows.weights(number);
  auto* state = reinterpret_cast<float*>(job.rows.state(number));
  const bool draws = precision != Precision::kFloat32 && job.stochastic;
  const std::uint64_t stream = draws ? stream_of(job.stream, number) : 0;
  Block weights, gradient, first, second;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    load<precision>(row + at * kWidth<precision>, width, weights.data());
    if constexpr (kStateArrays<kind> > 0) load_floats(state + at, width, first.data());
    if constexpr (kStateArrays<kind> > 1) load_floats(state + dimension + at, width, second.data());
    gradient_of<kind>(job, summed, at, width, factor, weights.data(), gradient.data());
    step<kind>(job, rate, gradient.data(), weights.data(), first.data(), second.data());
    store<precision>(weights.data(), width, row + at * kWidth<precision>, draws, stream, at);
    if constexpr (kStateArrays<kind> > 0) store_floats(first.data(), width, state + at);
    if constexpr (kStateArrays<kind> > 1) store_floats(second.data(), width, state + dimension + at);
  }
  job.rows.stamps(number).version = job.version;
}

template <OptimiserKind kind, Precision precision>
BOWERBIRD_BODY void update_rows(const UpdateJob& job, const RowGroups& groups) {
  const auto& all = groups.groups();
  const auto prefetch = [&](std::size_t i) __attribute__((always_inline)) {
    job.rows.prefetch_to_write(all[i].row);
  };
  for (std::size_t i = 0; i < std::min(kAhead, all.size()); ++i) prefetch(i);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i + kAhead < all.size()) prefetch(i + kAhead);
    step_row<kind, precision>(job, all[i].row, groups.gradient(all[i]));
  }
}

template <Precision precision>
BOWERBIRD_BODY void update_of(const UpdateJob& job, const RowGroups& groups) {
  switch (job.optimiser->kind) {
    case OptimiserKind::kSgd: return update_rows<OptimiserKind::kSgd, precision>(job, groups);
    case OptimiserKind::kAdagrad: return update_rows<OptimiserKind::kAdagrad, precision>(job, groups);
    case OptimiserKind::kRowWiseAdagrad: return update_rows<OptimiserKind::kRowWiseAdagrad, precision>(job, groups);
    case OptimiserKind::kAdam: return update_rows<OptimiserKind::kAdam, precision>(job, groups);
    case OptimiserKind::kFtrl: return update_rows<OptimiserKind::kFtrl, precision>(job, groups);
  }
}

BOWERBIRD_BODY void update_any(const UpdateJob& job, Precision precision, const RowGroups& groups) {
  switch (precision) {
    case Precision::kFloat32: return update_of<Precision::kFloat32>(job, groups);
    case Precision::kFloat16: return update_of<Precision::kFloat16>(job, groups);
    case Precision::kBfloat16: return update_of<Precision::kBfloat16>(job, groups);
  }
}

BOWERBIRD_BODY void sweep_any(const UpdateJob& job, const RowGroups& groups, std::size_t lane, std::size_t lanes) {
  for (std::uint64_t number = 0; number < job.rows.rows; ++number) {
    const auto row = static_cast<std::uint32_t>(number);
    if (lanes > 1 && RowGroups::lane_of(row, lanes) != lane) continue;
    if (job.rows.stamps(row).version == 0) continue;
    const RowGroups::Group* group = groups.find(row);
    step_row<OptimiserKind::kAdam, Precision::kFloat32>(job, row, group == nullptr ? nullptr : groups.gradient(*group));
  }
}

// ---- finding -----------------------------------------------------------------------------------

constexpr std::size_t kFindAhead = 32;

unsigned matches_plain(const IndexBucket& bucket, std::uint64_t key) {
  unsigned found = 0;
  for (unsigned i = 0; i < IndexBucket::kSlots; ++i) found |= static_cast<unsigned>(bucket.keys[i] == key) << i;
  return found;
}

#define BOWERBIRD_SET plain
#define BOWERBIRD_TARGET
#include "table_find.inl"

#if BOWERBIRD_SETS
BOWERBIRD_AVX2 inline unsigned matches_avx2(const IndexBucket& bucket, std::uint64_t key) {
  const __m256i four = _mm256_load_si256(reinterpret_cast<const __m256i*>(bucket.keys));
  const __m256i equal = _mm256_cmpeq_epi64(four, _mm256_set1_epi64x(static_cast<long long>(key)));
  const auto found = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal)));
  return found | static_cast<unsigned>(bucket.keys[4] == key) << 4;
}

BOWERBIRD_AVX512 inline unsigned matches_avx512(const IndexBucket& bucket, std::uint64_t key) {
  const __m512i line = _mm512_load_si512(&bucket);
  return _mm512_mask_cmpeq_epi64_mask(0x1F, line, _mm512_set1_epi64(static_cast<long long>(key)));
}

#define BOWERBIRD_SET avx2
#define BOWERBIRD_TARGET BOWERBIRD_AVX2
#include "table_find.inl"

#define BOWERBIRD_SET avx512
#define BOWERBIRD_TARGET BOWERBIRD_AVX512
#include "table_find.inl"
#endif

// ---- one set of functions for each instruction set ----------------------------------------------

#define BOWERBIRD_KERNELS(SET, TARGET)                                                                                          \
  TARGET void take_##SET(const RowsView& rows, Precision precision, const std::int64_t* numbers, std::size_t count, float* out) { \
    take_any(rows, precision, numbers, count, out);                                                                             \
  }                                                                                                                             \
  TARGET void pool_##SET(const RowsView& rows, Precision precision, const PoolJob& job, float* out) {                           \
    pool_any(rows, precision, job, out);                                                                                        \
  }                                                                                                                             \
  TARGET void draw_##SET(std::uint64_t stream, float scale, std::size_t count, float* out) { draw_any(stream, scale, count, out); } \
  TARGET void update_##SET(const UpdateJob& job, Precision precision, const RowGroups& groups) { update_any(job, precision, groups); } \
  TARGET void sweep_##SET(const UpdateJob& job, const RowGroups& groups, std::size_t lane, std::size_t lanes) {                 \
    sweep_any(job, groups, lane, lanes);                                                                                        \
  }                                                                                                                             \
  TableKernels kernels_##SET() { return {#SET, find_##SET, take_##SET, pool_##SET, draw_##SET, update_##SET, sweep_##SET}; }

BOWERBIRD_KERNELS(plain, )
#if BOWERBIRD_SETS
BOWERBIRD_KERNELS(avx2, BOWERBIRD_AVX2)
BOWERBIRD_KERNELS(avx512, BOWERBIRD_AVX512)
#endif

std::vector<TableKernels> usable() {
  std::vector<TableKernels> found{kernels_plain()};
#if BOWERBIRD_SETS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) found.push_back(kernels_avx2());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq")) {
    found.push_back(kernels_avx512());
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
