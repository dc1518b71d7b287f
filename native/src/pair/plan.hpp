// A pair program as Python gives it: values by number, and the steps between them in order.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pair/kernels.hpp"

namespace bowerbird::pair {

enum class Source { kItem, kRequest, kSequence, kStep };

struct ValueSpec {
  Source source;
  std::size_t width;
};

enum class Precision { kFp32, kBf16, kInt8 };

struct MapSpec {
  Function function = Function::kNone;
  std::vector<std::vector<float>> arrays;  // [width] each
  float numbers[2] = {0.0f, 0.0f};
};

struct LayerSpec {
  std::size_t outputs = 0, inputs = 0;
  std::vector<float> weight;  // [outputs, inputs]
  std::vector<float> bias;    // [outputs] or empty
  MapSpec map;
  Precision precision = Precision::kFp32;
};

enum class Op {
  kLinear, kBinary, kMap, kLayerNorm, kSoftmax, kReduce, kConcat, kSlice, kTake, kWeightedSum, kDot, kFieldDots,
  kProduct, kFieldAttention, kTargetAttention, kAttention
};

// Matrices in the rows of a value: distances between neighbours, in rows.
struct Strides {
  std::size_t batch = 0, row = 0, column = 0;
};

// Fields that an operation does not know stay as they are here.
struct StepSpec {
  Op op = Op::kLinear;
  std::size_t out = 0;
  std::vector<std::size_t> in;
  std::vector<std::size_t> adds;         // linear
  std::optional<std::size_t> factor, after;  // linear: both or none
  std::vector<std::size_t> layers;       // of the plan; linear: one; target attention: all
  MapSpec map;                           // map
  Binary binary = Binary::kAdd;          // binary
  Reduction reduction = Reduction::kSum; // reduce
  std::size_t group = 0;                 // softmax, reduce: columns of a group; field dots, field attention: of a field; slice: the first
  bool across = false;                   // reduce
  std::vector<std::size_t> places;       // take: columns of the inputs side by side
  std::size_t batch = 1, rows = 0, inner = 0, columns = 0;  // product
  Strides left, right;                   // product
  std::vector<float> weight, bias;       // layer norm
  float number = 0.0f;                   // layer norm: epsilon; all attentions: scale
  std::size_t heads = 1;                 // attention, field attention
  bool softmax = false;                  // target attention
  std::size_t keys = 0, values = 0;      // both attentions
  std::size_t keys_part = 0;             // target attention
  std::optional<std::size_t> mask;       // both attentions
};

struct Plan {
  std::vector<ValueSpec> values;
  std::vector<LayerSpec> layers;
  std::vector<StepSpec> steps;
  std::vector<std::size_t> outputs;
};

// What one run is given for a value: stored rows, a request's row, or a sequence [length, width].
struct Given {
  Stored stored{};
  const float* row = nullptr;
  std::size_t length = 0;
};

}  // namespace bowerbird::pair
