// What a tensor program asks of an instruction set: plain functions over float32 numbers that lie at strides.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "pair/isa.hpp"

namespace bowerbird::tensor {

constexpr std::size_t kRank = 6;  // the most dimensions that a step walks over

// Functions of one, two or three numbers; truth values are 1 and 0.
enum class Element {
  kCopy, kRelu, kLeakyRelu, kGelu, kGeluTanh, kSilu, kSigmoid, kTanh, kElu, kSoftplus, kExp, kLog, kLog1p, kSqrt, kRsqrt,
  kReciprocal, kNeg, kAbs, kSquare, kSign, kClamp, kScaleShift, kNot, kIsNan, kNanToNum,
  kAdd, kSub, kMul, kDiv, kMaximum, kMinimum, kEqual, kUnequal, kLess, kLessEqual, kGreater, kGreaterEqual, kAnd, kOr,
  kWhere
};
constexpr std::size_t inputs_of(Element element) {
  return element == Element::kWhere ? 3 : element >= Element::kAdd ? 2 : 1;
}

enum class Reduction { kSum, kMean, kMax };

// Strides, in floats, by dimension; a stride of 0 repeats a number.
using Strides = std::array<std::ptrdiff_t, kRank>;
using Shape = std::array<std::size_t, kRank>;

struct In {
  const float* data = nullptr;
  Strides strides{};
};

struct Out {
  float* data = nullptr;
  Strides strides{};
};

// out = element(in...) over a shape of `rank` dimensions, one at least.
struct Pointwise {
  Element element;
  std::size_t rank;
  Shape shape;
  std::array<In, 3> in;
  Out out;
  std::array<float, 3> numbers;
};

// The last `reduced` dimensions of `in` vanish in `out`, whose strides of them are 0.
struct Reduce {
  Reduction reduction;
  std::size_t rank, reduced;
  Shape shape;
  In in;
  Out out;
};

// A function of each row along the last dimension; `weight` and `bias` are [width] or null.
struct Rows {
  std::size_t rank;
  Shape shape;
  In in;
  Out out;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float epsilon = 0.0f;
};

enum class Weight { kFp32, kBf16 };

// out [rows, outputs] = in [rows, inputs] times a packed matrix, plus bias. The matrix is packed by panels of
// `panel` outputs, the last one filled up with zeros to whole vectors: [panel][input][output]. Rows of `in` and `out`
// are contiguous and lie a stride apart. The bias is filled up as the last panel is, or null.
struct Dense {
  Weight weight;
  const void* matrix;
  std::size_t rows, inputs, outputs;
  const float* in;
  std::ptrdiff_t in_stride;
  float* out;
  std::ptrdiff_t out_stride;
  const float* bias;
  bool rectified;
};

struct Kernels {
  std::size_t lanes;
  std::size_t panel;  // outputs

  void (*pointwise)(const Pointwise&);
  void (*reduce)(const Reduce&);
  void (*softmax)(const Rows&);
  void (*layer_norm)(const Rows&);
  void (*dense)(const Dense&);
  // Packs a matrix [inputs, outputs] of any strides for `dense` in float32.
  void (*pack)(const float* matrix, std::ptrdiff_t input_stride, std::ptrdiff_t output_stride, std::size_t inputs,
               std::size_t outputs, float* packed);
};

const Kernels& kernels_of(pair::Isa isa);

}  // namespace bowerbird::tensor
