// A tensor program: what is computed once per request, as steps over tensors of fixed shapes, in one call.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "pair/kernels.hpp"
#include "tensor/kernels.hpp"

namespace bowerbird::tensor {

enum class Source { kNumbers, kTruths, kConstant, kStep, kAnswers };

// `numbers` hold a constant; `offset` is where the value of a step, or of truths as numbers, stands in the memory of a
// run, in floats.
struct ValueSpec {
  Source source;
  std::size_t size;
  std::size_t offset = 0;
  std::vector<float> numbers;
};

struct Operand {
  std::size_t value = 0;
  std::size_t offset = 0;
  Strides strides{};
};

enum class Op { kPointwise, kReduce, kSoftmax, kLayerNorm, kLinear, kProduct, kAttention };

// Fields that an operation does not know stay as they are here. Shapes: of what a pointwise step, a softmax or a norm
// walks over; of a reduction's input; linear [rows, outputs, inputs]; product [..., rows, outputs, inputs], attention
// [heads, rows, positions, key width, value width]. Operands have strides of: linear [row], product [..., row, column],
// attention [head, row], a mask [position]; all else as the shape.
struct StepSpec {
  Op op = Op::kPointwise;
  std::size_t rank = 0;
  Shape shape{};
  Operand out;
  std::vector<Operand> in{};
  Element element = Element::kCopy;  // pointwise, and what a linear step does with its sums
  std::array<float, 3> numbers{};
  Reduction reduction = Reduction::kSum;
  std::size_t reduced = 0;
  std::vector<float> weight{}, bias{};  // linear [outputs, inputs], [outputs]; norm [width]
  Weight stored = Weight::kFp32;    // linear
  float number = 0.0f;              // norm: epsilon; attention: scale
};

struct Plan {
  std::vector<ValueSpec> values;
  std::vector<StepSpec> steps;
  std::size_t floats = 0;   // of a run's memory
  std::size_t answers = 0;  // of one request
};

// Throws std::invalid_argument where a step would read or write beyond a value.
void check(const Plan& plan);

class Run;

class Step {
 public:
  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual ~Step() = default;
  virtual void run(const Run& run) const = 0;
};

class Program {
 public:
  Program(const Plan& plan, pair::Isa isa);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Computes `count` requests one after another: `given` are float32 or one-byte truths [count, size] by input, in the
  // order of the values; `answers` float32 [count, answers]. May be called by several threads at once.
  void run(const void* const* given, std::size_t count, float* answers) const;

  pair::Isa isa() const { return isa_; }
  std::size_t scratch_bytes() const { return floats_ * sizeof(float); }

 private:
  pair::Isa isa_;
  const Kernels& kernels_;
  const pair::Kernels& tiles_;
  std::vector<ValueSpec> values_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::size_t floats_, answers_;
};

}  // namespace bowerbird::tensor
