// A linear layer's products on tile registers, whoever multiplies them: the processor (AmxRegisters) or an imitation.
// For AVX-512 with BW and BF16 alone.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <memory>
#include <new>

#include "base/team.hpp"
#include "dense/linear.hpp"
#include "pair/kernels.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::tiled {

using pair::kSide;
using pair::sides;
constexpr std::size_t kStep = 2 * kSide;      // factors that one multiplication of registers adds up
constexpr __mmask32 kAll = 0xffffffffu;        // its lanes
constexpr std::size_t kUnits = kSide * kSide;  // of a register, each a pair of bfloat16
constexpr std::size_t kRows = 2 * kSide;      // rows that are multiplied together
constexpr std::size_t kTask = 4 * kRows;      // rows of a task
constexpr std::size_t kPacked = 256;          // rows whose factors of a weight gradient are packed together
constexpr std::size_t kLeastRows = 2048;      // of a weight gradient's blocks of rows
constexpr std::size_t kMostBlocks = 32, kMostSums = std::size_t{1} << 24;  // of these; their sums

constexpr std::size_t steps_of(std::size_t count) { return (count + kStep - 1) / kStep; }

template <typename T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : values_(static_cast<T*>(::operator new(count * sizeof(T), kLine))) {}
  T* data() const { return values_.get(); }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(T* values) const { ::operator delete(values, kLine); }
  };
  std::unique_ptr<T, Free> values_;
};

using Units = Buffer<std::uint32_t>;

// The set-up that the thread had before is put back: other libraries may count on theirs.
template <typename Registers>
struct Opened {
  Opened() { Registers::open(); }
  ~Opened() { Registers::close(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
};

// The first `count` lanes, all where there are more.
inline __mmask32 first(std::size_t count) { return _bzhi_u32(0xffffffffu, static_cast<unsigned>(std::min(count, kStep))); }

// Sixteen values, of which those of the mask are there, as bfloat16 in the lower halves of sixteen units.
inline __m512i halves_of(const BFloat16* values, __mmask16 there) {
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, values));
}
inline __m512i halves_of(const float* values, __mmask16 there) {
  const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(there, values));
  return _mm512_cvtepu16_epi32(reinterpret_cast<const __m256i&>(rounded));
}

// Units of two rows' values at the same places: the first row's below the second's; a null row is of zeros.
template <typename T>
inline __m512i paired(const T* lower, const T* upper, __mmask16 there) {
  const __m512i low = lower == nullptr ? _mm512_setzero_si512() : halves_of(lower, there);
  const __m512i high = upper == nullptr ? _mm512_setzero_si512() : halves_of(upper, there);
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// Units of one row's values side by side, of which those of the mask are there.
inline __m512i units_of(const BFloat16* values, __mmask32 there) { return _mm512_maskz_loadu_epi16(there, values); }
inline __m512i units_of(const float* values, __mmask32 there) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there), values);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> kSide), values + kSide);
  const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<const __m512i&>(rounded);
}

// Row i's unit j becomes row j's unit i.
inline void transpose(__m512i (&rows)[kSide]) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
#pragma GCC unroll 4
  for (std::size_t round = 1; round < kSide; round *= 2) {
    __m512i next[kSide];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kSide / 2; ++i) {
      next[2 * i] = _mm512_permutex2var_epi32(rows[i], low, rows[i + kSide / 2]);
      next[2 * i + 1] = _mm512_permutex2var_epi32(rows[i], high, rows[i + kSide / 2]);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kSide; ++i) rows[i] = next[i];
  }
}

inline void store_rows(const __m512i (&rows)[kSide], std::uint32_t* to) {
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kSide; ++i) _mm512_storeu_si512(to + i * kSide, rows[i]);
}

template <typename Registers, int kSums, int kLeft, int kRight>
inline void multiply() {
  Registers::template multiply<pair::Unit::kBf16, kSums, kLeft, kRight>();
}

// Sums of two by two registers, 0 to 3, over steps of factors: `left` by rows, `right` by columns. Fewer where kDown or
// kAcross is 1.
template <typename Registers, int kDown, int kAcross>
inline void add_up(const std::uint32_t* left, std::size_t left_rows, std::size_t left_second, std::size_t left_step,
                   const std::uint32_t* right, std::size_t right_second, std::size_t steps) {
  for (std::size_t step = 0; step < steps; ++step) {
    Registers::template load<4>(left + step * left_step, left_rows);
    Registers::template load<6>(right + step * kUnits, kSide);
    multiply<Registers, 0, 4, 6>();
    if constexpr (kAcross == 2) {
      Registers::template load<7>(right + right_second + step * kUnits, kSide);
      multiply<Registers, 1, 4, 7>();
    }
    if constexpr (kDown == 2) {
      Registers::template load<5>(left + left_second + step * left_step, left_rows);
      multiply<Registers, 2, 5, 6>();
      if constexpr (kAcross == 2) multiply<Registers, 3, 5, 7>();
    }
  }
}

// ---- rows times weights -------------------------------------------------------------------------------------------------

// Weights as right factors: registers [column block][step]. A unit holds two neighbours of what is added up.
struct Right {
  std::size_t columns, steps;
  Units units;
  Right(std::size_t columns_, std::size_t summed)
      : columns(columns_), steps(steps_of(summed)), units(sides(columns_) * steps_of(summed) * kUnits) {}
  std::uint32_t* at(std::size_t block, std::size_t step) const { return units.data() + (block * steps + step) * kUnits; }
};

// Columns are outputs, inputs are added up.
inline void pack_outputs(const Linear& layer, const Right& right, std::size_t block) {
  for (std::size_t step = 0; step < right.steps; ++step) {
    __m512i rows[kSide];
    for (std::size_t i = 0; i < kSide; ++i) {
      const std::size_t output = block * kSide + i, input = step * kStep;
      const __mmask32 there = first(output < layer.outputs ? layer.inputs - input : 0);
      rows[i] = units_of(layer.weights + output * layer.inputs + input, there);
    }
    transpose(rows);
    store_rows(rows, right.at(block, step));
  }
}

// Columns are inputs, outputs are added up.
inline void pack_inputs(const Linear& layer, const Right& right, std::size_t block) {
  const std::size_t input = block * kSide;
  const auto there = static_cast<__mmask16>(first(layer.inputs - input));
  for (std::size_t step = 0; step < right.steps; ++step) {
    for (std::size_t i = 0; i < kSide; ++i) {
      const std::size_t output = step * kStep + 2 * i;
      const float* const lower = output < layer.outputs ? layer.weights + output * layer.inputs + input : nullptr;
      const float* const upper = output + 1 < layer.outputs ? lower + layer.inputs : nullptr;
      _mm512_storeu_si512(right.at(block, step) + i * kSide, paired(lower, upper, there));
    }
  }
}

// Sums of a row, of which those of the mask are wanted, become results; what is whole is stored whole.
inline __m512i store_sums(const float* sums, __mmask32 wanted, const float* bias, BFloat16* out) {
  __m512 low = _mm512_load_ps(sums), high = _mm512_load_ps(sums + kSide);
  if (bias != nullptr) {
    low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(static_cast<__mmask16>(wanted), bias));
    high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(static_cast<__mmask16>(wanted >> kSide), bias + kSide));
  }
  const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
  const auto& units = reinterpret_cast<const __m512i&>(rounded);
  wanted == kAll ? _mm512_storeu_si512(out, units) : _mm512_mask_storeu_epi16(out, wanted, units);
  return units;
}

inline void store_sums(const float* sums, __mmask32 wanted, const float*, float* out) {
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>(wanted), _mm512_load_ps(sums));
  _mm512_mask_storeu_ps(out + kSide, static_cast<__mmask16>(wanted >> kSide), _mm512_load_ps(sums + kSide));
}

// Multiplies 32 rows by 32 columns, those from `column` on; rows of their sums are `distance` apart.
template <typename Registers>
void multiply_columns(const std::uint32_t* left, const Right& right, std::size_t column, float* sums,
                      std::size_t distance) {
  auto* const to = reinterpret_cast<std::uint32_t*>(sums);
  const std::size_t across = right.steps * kSide, second = right.steps * kUnits;
  Registers::template zero<0>(), Registers::template zero<1>();
  Registers::template zero<2>(), Registers::template zero<3>();
  const std::uint32_t* const factors = right.at(column / kSide, 0);
  if (column + kSide < right.columns) {
    add_up<Registers, 2, 2>(left, across, kSide * across, kSide, factors, second, right.steps);
  } else {
    add_up<Registers, 2, 1>(left, across, kSide * across, kSide, factors, second, right.steps);
  }
  Registers::template store<0>(to, distance), Registers::template store<1>(to + kSide, distance);
  Registers::template store<2>(to + kSide * distance, distance);
  Registers::template store<3>(to + kSide * distance + kSide, distance);
}

// Multiplies 32 rows by all columns and calls take(column, sums [32, 32]) for each 32 columns.
template <typename Registers, typename Take>
void multiply_rows(const std::uint32_t* left, const Right& right, const Take& take) {
  alignas(64) float sums[kRows * kRows];
  for (std::size_t column = 0; column < right.columns; column += kRows) {
    multiply_columns<Registers>(left, right, column, sums, kRows);
    take(column, sums);
  }
}

// Calls task(first row, rows, room for their factors) for each 32 rows, in tasks of some of them.
template <typename Registers, typename Task>
void for_rows(std::size_t rows, std::size_t width, std::size_t threads, const Task& task) {
  run_team(threads, (rows + kTask - 1) / kTask, [&](std::size_t number) {
    const Opened<Registers> opened;
    const Units room(kRows * steps_of(width) * kSide);
    const std::size_t last = std::min(rows, (number + 1) * kTask);
    for (std::size_t row = number * kTask; row < last; row += kRows) task(row, std::min(kRows, rows - row), room.data());
  });
}

// Values as they are, [rows, width].
template <typename T>
struct PlainRows {
  const T* values;
  std::size_t width;

  struct Row {
    const T* values;
    // Thirty-two values, of which those of the mask are there.
    __m512i units(std::size_t column, __mmask32 there) const { return units_of(values + column, there); }
  };
  Row row(std::size_t number) const { return {values + number * width}; }

  // Sixteen values of a row.
  __m512i halves(std::size_t row, std::size_t column, __mmask16 there) const {
    return halves_of(values + row * width + column, there);
  }
};

// Where sums become results, rows of `width` values that begin `stride` apart, with a bias where there is one.
template <typename T>
struct StoredRows {
  T* out;
  std::size_t width, stride;
  const float* bias;

  // Takes `count` rows' sums of 32 columns.
  void take(std::size_t row, std::size_t count, std::size_t column, const float* sums) const {
    const __mmask32 wanted = first(width - column);
    const float* const added = bias == nullptr ? nullptr : bias + column;
    T* to = out + row * stride + column;
    for (std::size_t i = 0; i < count; ++i, to += stride) store_sums(sums + i * kRows, wanted, added, to);
  }
};

// Rows as left factors, 32 of them; those beyond the last one are of zeros.
template <typename Source>
void fill_rows(const Source& source, std::size_t row, std::size_t count, std::size_t width, std::uint32_t* to) {
  const std::size_t whole = width / kStep, steps = steps_of(width);
  const __mmask32 rest = first(width - whole * kStep);
  for (std::size_t i = 0; i < count; ++i, to += steps * kSide) {
    const auto values = source.row(row + i);
    for (std::size_t step = 0; step < whole; ++step) _mm512_store_si512(to + step * kSide, values.units(step * kStep, kAll));
    if (rest != 0) _mm512_store_si512(to + whole * kSide, values.units(whole * kStep, rest));
  }
  std::fill_n(to, (kRows - count) * steps * kSide, 0u);
}

// Gives `target` the products of `source`'s rows and `right`.
template <typename Registers, typename Source, typename Target>
void rows_product(const Source& source, std::size_t rows, std::size_t width, const Right& right, const Target& target,
                  std::size_t threads) {
  for_rows<Registers>(rows, width, threads, [&](std::size_t row, std::size_t count, std::uint32_t* room) {
    fill_rows(source, row, count, width, room);
    multiply_rows<Registers>(room, right, [&](std::size_t column, const float* sums) { target.take(row, count, column, sums); });
  });
}

inline Right packed_outputs(const Linear& layer, std::size_t threads) {
  Right right(layer.outputs, layer.inputs);
  run_team(threads, sides(layer.outputs), [&](std::size_t block) { pack_outputs(layer, right, block); });
  return right;
}

inline Right packed_inputs(const Linear& layer, std::size_t threads) {
  Right right(layer.inputs, layer.outputs);
  run_team(threads, sides(layer.inputs), [&](std::size_t block) { pack_inputs(layer, right, block); });
  return right;
}

template <typename Registers, typename T>
void forward(const Linear& layer, const T* x, const float* bias, BFloat16* out, std::size_t threads) {
  const StoredRows<BFloat16> target{out, layer.outputs, layer.outputs, bias};
  rows_product<Registers>(PlainRows<T>{x, layer.inputs}, layer.rows, layer.inputs, packed_outputs(layer, threads), target,
                          threads);
}

template <typename Registers, typename T>
void input_gradient(const Linear& layer, const BFloat16* gradient, T* of_x, std::size_t threads) {
  const StoredRows<T> target{of_x, layer.inputs, layer.inputs, nullptr};
  const PlainRows<BFloat16> source{gradient, layer.outputs};
  rows_product<Registers>(source, layer.rows, layer.outputs, packed_inputs(layer, threads), target, threads);
}

// ---- the weights' gradient ----------------------------------------------------------------------------------------------

// Packed factors' product over their rows: sums [down, across], filled up to whole registers.
template <typename Registers>
class PackedProduct {
 public:
  PackedProduct(std::size_t down, std::size_t across) : down_(down), across_(across) {}

  // Adds to the sums, or begins them.
  void run(const std::uint32_t* left, const std::uint32_t* right, std::size_t steps, bool adds, std::uint32_t* sums) const {
    std::size_t side = 0;
    for (; side + 1 < down_; side += 2) multiply_row<2>(left + side * steps * kUnits, right, steps, adds, sums, side);
    if (side < down_) multiply_row<1>(left + side * steps * kUnits, right, steps, adds, sums, side);
  }

 private:
  std::size_t stride() const { return across_ * kSide; }

  template <int kDown>
  void multiply_row(const std::uint32_t* left, const std::uint32_t* right, std::size_t steps, bool adds,
                    std::uint32_t* sums, std::size_t side) const {
    std::uint32_t* const to = sums + side * kSide * stride();
    std::size_t column = 0;
    for (; column + 1 < across_; column += 2) {
      add_to<kDown, 2>(left, right + column * steps * kUnits, steps, adds, to + column * kSide);
    }
    if (column < across_) add_to<kDown, 1>(left, right + column * steps * kUnits, steps, adds, to + column * kSide);
  }

  template <int kSums>
  static void begin(bool adds, const std::uint32_t* from, std::size_t distance) {
    adds ? Registers::template load<kSums>(from, distance) : Registers::template zero<kSums>();
  }

  template <int kDown, int kAcross>
  void add_to(const std::uint32_t* left, const std::uint32_t* right, std::size_t steps, bool adds,
              std::uint32_t* to) const {
    std::uint32_t* const below = to + kSide * stride();
    begin<0>(adds, to, stride());
    if constexpr (kAcross == 2) begin<1>(adds, to + kSide, stride());
    if constexpr (kDown == 2) begin<2>(adds, below, stride());
    if constexpr (kDown == 2 && kAcross == 2) begin<3>(adds, below + kSide, stride());
    add_up<Registers, kDown, kAcross>(left, kSide, steps * kUnits, kUnits, right, steps * kUnits, steps);
    Registers::template store<0>(to, stride());
    if constexpr (kAcross == 2) Registers::template store<1>(to + kSide, stride());
    if constexpr (kDown == 2) Registers::template store<2>(below, stride());
    if constexpr (kDown == 2 && kAcross == 2) Registers::template store<3>(below + kSide, stride());
  }

  std::size_t down_, across_;
};

// Results' gradients that are there already, [rows, width]; see WeightProduct.
struct GivenGradient {
  struct Room {};
  const BFloat16* values;
  std::size_t width;

  PlainRows<BFloat16> rows(const Room&, std::size_t row, std::size_t) const { return {values + row * width, width}; }
};

// Sums over one block of rows: the weights' gradient [outputs, inputs], both filled up to whole registers, and the bias's.
// `Gradient` gives its rows when they are needed, in a task's Room; `Source` the layer's inputs.
template <typename Registers, typename Gradient, typename Source>
class WeightProduct {
 public:
  WeightProduct(const Linear& layer, const Gradient& gradient, const Source& x, bool with_bias)
      : layer_(layer), gradient_(gradient), x_(x), with_bias_(with_bias), down_(sides(layer.outputs)),
        across_(sides(layer.inputs)), block_(std::max(kLeastRows, rows_of_most())),
        blocks_((layer.rows + block_ - 1) / block_), sums_(blocks_ * each()), biases_(blocks_ * down_ * kSide) {}

  void run(std::size_t threads, float* of_weights, float* of_bias) const {
    run_team(threads, blocks_, [this](std::size_t block) { add_block(block); });
    run_team(threads, down_, [&](std::size_t side) { total(side, of_weights, of_bias); });
  }

 private:
  std::size_t rows_of_most() const {
    const std::size_t most = std::clamp(kMostSums / each(), std::size_t{1}, kMostBlocks);
    return ((layer_.rows + most - 1) / most + kTask - 1) / kTask * kTask;
  }
  std::size_t each() const { return down_ * across_ * kUnits; }
  std::size_t stride() const { return across_ * kSide; }

  void add_block(std::size_t block) const {
    const Opened<Registers> opened;
    float* const sums = sums_.data() + block * each();
    float* const bias = biases_.data() + block * down_ * kSide;
    std::fill_n(bias, down_ * kSide, 0.0f);
    const std::size_t most = kPacked / kStep * kUnits;
    const Units left(down_ * most), right(across_ * most);
    const PackedProduct<Registers> product(down_, across_);
    const typename Gradient::Room room;
    const std::size_t last = std::min(layer_.rows, (block + 1) * block_);
    const std::size_t begin = block * block_;
    for (std::size_t row = begin; row < last; row += kPacked) {
      const std::size_t rows = std::min(kPacked, last - row), steps = steps_of(rows);
      const PlainRows<BFloat16> gradient = gradient_.rows(room, row, rows);
      for (std::size_t side = 0; side < down_; ++side) {
        pack_gradient(gradient, rows, side, left.data() + side * steps * kUnits, bias + side * kSide);
      }
      for (std::size_t side = 0; side < across_; ++side) pack_inputs(row, rows, side, right.data() + side * steps * kUnits);
      product.run(left.data(), right.data(), steps, row > begin, reinterpret_cast<std::uint32_t*>(sums));
    }
  }

  // Two rows' values side by side, sixteen of each; what is beyond the last row is zero.
  template <typename Values>
  static __m512i pair_at(const Values& values, std::size_t row, std::size_t last, std::size_t width, std::size_t column) {
    const auto there = static_cast<__mmask16>(first(width - column));
    const __m512i lower = row < last ? values.halves(row, column, there) : _mm512_setzero_si512();
    const __m512i upper = row + 1 < last ? values.halves(row + 1, column, there) : _mm512_setzero_si512();
    return _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16));
  }

  // Registers by step: row i is output i's gradients, pairs of rows of the batch side by side.
  void pack_gradient(const PlainRows<BFloat16>& gradient, std::size_t rows, std::size_t side, std::uint32_t* to,
                     float* bias) const {
    __m512 total = _mm512_loadu_ps(bias);
    for (std::size_t step = 0; step < steps_of(rows); ++step) {
      __m512i units[kSide];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kSide; ++i) {
        units[i] = pair_at(gradient, step * kStep + 2 * i, rows, layer_.outputs, side * kSide);
      }
      if (with_bias_) {
        for (const __m512i pair : units) {
          total = _mm512_add_ps(total, _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)));
          total = _mm512_add_ps(total, _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32(-65536))));
        }
      }
      transpose(units);
      store_rows(units, to + step * kUnits);
    }
    _mm512_storeu_ps(bias, total);
  }

  void pack_inputs(std::size_t row, std::size_t rows, std::size_t side, std::uint32_t* to) const {
    for (std::size_t step = 0; step < steps_of(rows); ++step) {
      for (std::size_t i = 0; i < kSide; ++i) {
        const __m512i pair = pair_at(x_, row + step * kStep + 2 * i, row + rows, layer_.inputs, side * kSide);
        _mm512_storeu_si512(to + step * kUnits + i * kSide, pair);
      }
    }
  }

  // Adds the blocks up, in their order, for sixteen outputs.
  void total(std::size_t side, float* of_weights, float* of_bias) const {
    const std::size_t last = std::min(layer_.outputs, (side + 1) * kSide);
    for (std::size_t output = side * kSide; output < last; ++output) {
      float* const to = of_weights + output * layer_.inputs;
      std::copy_n(sums_.data() + output * stride(), layer_.inputs, to);
      for (std::size_t block = 1; block < blocks_; ++block) {
        const float* const more = sums_.data() + block * each() + output * stride();
        for (std::size_t i = 0; i < layer_.inputs; ++i) to[i] += more[i];
      }
      if (of_bias == nullptr) continue;
      of_bias[output] = 0.0f;
      for (std::size_t block = 0; block < blocks_; ++block) of_bias[output] += biases_.data()[block * down_ * kSide + output];
    }
  }

  const Linear& layer_;
  const Gradient& gradient_;
  const Source& x_;
  bool with_bias_;
  std::size_t down_, across_, block_, blocks_;
  Buffer<float> sums_, biases_;
};

template <typename Registers, typename T>
void weight_gradient(const Linear& layer, const BFloat16* gradient, const T* x, float* of_weights, float* of_bias,
                     std::size_t threads) {
  const PlainRows<T> source{x, layer.inputs};
  const GivenGradient given{gradient, layer.outputs};
  WeightProduct<Registers, GivenGradient, PlainRows<T>>(layer, given, source, of_bias != nullptr)
      .run(threads, of_weights, of_bias);
}

}  // namespace bowerbird::tiled
