// What the pair program asks of an instruction set: plain functions over tiles.
//
// A tile holds up to `tile` candidates. A matrix of it is stored feature by feature: row r is one column of the user's
// matrix, its `tile` numbers are the candidates. So a weight is a scalar that meets whole vectors, a concatenation is
// a list of rows, and sums over a candidate's features are sums of vectors. Rows are units of 32 bits: a float, two
// bfloat16 or int16 of neighbouring features, or four uint8 of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pair/isa.hpp"

namespace bowerbird::pair {

enum class Unit { kFloat, kBf16, kInt8, kInt16 };
constexpr std::size_t values_in(Unit unit) { return unit == Unit::kFloat ? 1 : unit == Unit::kInt8 ? 4 : 2; }
constexpr bool is_integer(Unit unit) { return unit == Unit::kInt8 || unit == Unit::kInt16; }

enum class Function {
  kNone, kRelu, kLeakyRelu, kPrelu, kGelu, kGeluTanh, kSilu, kSigmoid, kTanh, kElu, kSoftplus, kDice, kExp, kLog, kSqrt,
  kRsqrt, kNeg, kAbs, kSquare, kClamp, kScaleShift
};

// A function of one value; `arrays` are parameters per row, `numbers` those of all rows.
struct Map {
  Function function = Function::kNone;
  const float* arrays[3] = {nullptr, nullptr, nullptr};
  float numbers[2] = {0.0f, 0.0f};
};

// Consecutive rows of an operand.
struct Segment {
  const void* data;
  std::size_t groups;
};

// out = map(weights · operand + bias + adds), times factor plus after where they are given, for `outputs` rows. Weights are packed by blocks of `block` outputs, then 4, 2, 1:
// [block][group][output] units; or, tiled, by 16 outputs and 16 groups: [block][step][output][group], with zeros beyond the last
// ones, and an operand of one segment. Null pointers stand for what is absent.
struct Product {
  Unit unit;
  bool tiled;
  const std::uint32_t* weights;
  std::size_t outputs;
  const Segment* segments;
  std::size_t segment_count;
  std::size_t vectors;
  const float* bias;
  const float* const* row_adds;  // each [outputs], the same for every candidate
  std::size_t row_add_count;
  const float* const* tile_adds;  // each [outputs][tile]
  std::size_t tile_add_count;
  Map map;
  const float* factor;  // [outputs][tile], with `after` or not at all
  const float* after;
  const float* weight_scale;  // of integer units, [outputs]
  const float* weight_sum;    // of integer units, [outputs]: sums of the whole weights
  const float* lane_scale;    // of integer units, [tile]
  const float* lane_zero;     // of integer units, [tile]; null where all are 0
  float* out;                 // [outputs][tile]
  std::uint32_t* halves;      // bfloat16 of neighbouring outputs, [outputs / 2 rounded up][tile]
  float* range;               // least then greatest of the outputs and 0, [2][tile]; updated
};

// Rows of an operand, float32, gathered from wherever they are.
struct Rows {
  const float* const* rows;
  std::size_t count;
  std::size_t vectors;
};

enum class Format { kFp32, kFp16, kBf16, kInt8 };

// Candidates' rows as they are stored; `places` null: rows [0, count) in order.
struct Stored {
  Format format;
  const void* values;
  const float* scales;
  const std::int64_t* places;
  std::size_t width;
};

enum class Binary { kAdd, kSub, kMul, kDiv, kMaximum, kMinimum };
enum class Reduction { kSum, kMean, kMax };

// out[o] over `count` rows that begin at o · outer and lie `inner` apart.
struct Reduce {
  Reduction kind;
  const float* in;
  float* out;
  std::size_t outputs, outer, count, inner;
  std::size_t vectors;
};

// out[i][j] = out[i][j] · before[i] + scale · sum over k of left[i][k] · right[k][j], each candidate with matrices of its
// own; distances are in rows. `before` null: 0.
struct Multiply {
  const float* left;
  const float* right;
  float* out;
  std::size_t rows, inner, columns;
  std::size_t left_row, left_inner, right_inner, right_column, out_row;
  float scale;
  const float* before;
  std::size_t before_row;
  std::size_t vectors;
};

struct Kernels {
  std::size_t lanes;
  std::size_t tile;   // candidates
  std::size_t block;  // outputs
  Unit bf16, int8;   // units in which products of these precisions are computed
  bool tile_registers;  // whether there are any, see tile_registers.hpp

  void (*product)(const Product&);
  // What follows the sums of outputs [row, row + count) in a product: float32, or int32 of integer units, [count][tile].
  // Null where no tile registers are beside these vectors.
  void (*finish)(const Product&, std::size_t row, std::size_t count, const std::uint32_t* sums);
  // What a thread does before its first tiled product and after its last. Null without tile registers.
  void (*open)();
  void (*close)();
  void (*map)(const Map&, float* rows, std::size_t count, std::size_t vectors);  // in place
  // Null where bf16 is another unit.
  void (*to_halves)(const Rows&, std::uint32_t* out);
  void (*scale_to_halves)(const float* rows, const float* factors, std::size_t count, std::size_t vectors,
                          std::uint32_t* out);
  // Widens range [2][tile] by the rows' values.
  void (*widen_range)(const Rows&, float* range);
  // Takes range, writes the candidates' scales and zero points and the uint8 or int16 units.
  void (*quantise)(const Rows&, const float* range, float* scale, float* zero, std::uint32_t* out);
  // Columns [first, first + count) of candidates [candidate, candidate + size) become rows; spare lanes become 0.
  void (*gather)(const Stored&, std::size_t candidate, std::size_t size, std::size_t first, std::size_t count,
                 float* rows);
  void (*spread)(const float* values, std::size_t count, std::size_t vectors, float* rows);
  // Rows become columns of `out`, whose rows are `width` long.
  void (*scatter)(const float* rows, std::size_t count, std::size_t size, float* out, std::size_t width);
  // The step of an operand is the distance of its rows: 0 where one row serves all.
  void (*binary)(Binary, const float* a, std::size_t a_step, const float* b, std::size_t b_step, std::size_t count,
                 std::size_t vectors, float* out);
  // out[r] = rows[r] * factors[r]
  void (*scale_rows)(const float* rows, const float* factors, std::size_t count, std::size_t vectors, float* out);
  void (*reduce)(const Reduce&);
  void (*dot)(const float* a, const float* b, std::size_t count, std::size_t vectors, float* out);
  void (*softmax)(const float* in, std::size_t count, std::size_t vectors, float* out);
  void (*layer_norm)(const float* in, const float* weight, const float* bias, float epsilon, std::size_t count,
                     std::size_t vectors, float* out);
  // out[r] = sum over e of gates[e] * experts[e][r]
  void (*weighted_sum)(const float* gates, const float* const* experts, std::size_t count, std::size_t width,
                       std::size_t vectors, float* out);
  void (*multiply)(const Multiply&);
  // scores[p] = scale * sum over r of query[r] * keys[p][r]
  void (*scores)(const float* query, const float* const* keys, std::size_t positions, std::size_t width, float scale,
                 std::size_t vectors, float* scores);
  // Online softmax: turns scores into powers relative to the greatest so far; state is [3][tile]: greatest, sum, and
  // by what earlier sums must be multiplied.
  void (*soften)(float* scores, std::size_t positions, std::size_t vectors, float* state);
  // out[r] = out[r] * rescale + sum over p of scores[p] * values[p][r]; rescale null: 1.
  void (*pool)(const float* scores, const float* const* values, std::size_t positions, std::size_t width,
               const float* rescale, std::size_t vectors, float* out);
  // rows[r] /= divisor, which is a row.
  void (*divide)(float* rows, std::size_t count, const float* divisor, std::size_t vectors);
  // Sums of `rounds` products each, all in registers; returns how many multiply-adds that were. `units` [block][tile] are
  // what they begin with, and the first of them become a total. Null where what it takes says nothing.
  std::size_t (*spin)(Unit, std::size_t rounds, std::uint32_t* units);
};

const Kernels& kernels_of(Isa isa);

}  // namespace bowerbird::pair
