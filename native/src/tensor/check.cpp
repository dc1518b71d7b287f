// What a program promises before it runs: no step leaves its values.
#include <stdexcept>
#include <string>

#include "tensor/program.hpp"

namespace bowerbird::tensor {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("A step of a tensor program ") + what + ".");
}

// Dimensions that an operand's rows have behind its strides: contiguous, so many floats.
void within(const Plan& plan, const Operand& operand, std::size_t rank, const Shape& shape, std::size_t row) {
  require(operand.value < plan.values.size(), "names no value");
  std::size_t last = operand.offset + row;
  for (std::size_t dim = 0; dim < rank; ++dim) {
    require(shape[dim] > 0, "walks over nothing");
    require(operand.strides[dim] >= 0, "has a stride below 0");
    last += (shape[dim] - 1) * static_cast<std::size_t>(operand.strides[dim]);
  }
  require(last <= plan.values[operand.value].size, "reads or writes beyond a value");
}

void check_step(const Plan& plan, const StepSpec& step) {
  require(step.rank >= 1 && step.rank <= kRank, "has too many dimensions, or none");
  const Source to = plan.values.at(step.out.value).source;
  require(to == Source::kStep || to == Source::kAnswers, "writes to what is given");
  const Shape& shape = step.shape;
  const std::size_t rank = step.rank;
  switch (step.op) {
    case Op::kPointwise:
      require(step.in.size() == inputs_of(step.element), "has another number of inputs than its function");
      for (const Operand& each : step.in) within(plan, each, rank, shape, 1);
      return within(plan, step.out, rank, shape, 1);
    case Op::kReduce:
      require(step.reduced >= 1 && step.reduced <= rank, "reduces other dimensions than it has");
      within(plan, step.in.at(0), rank, shape, 1);
      return within(plan, step.out, rank - step.reduced, shape, 1);
    case Op::kSoftmax:
    case Op::kLayerNorm:
      require(step.weight.empty() || step.weight.size() == shape[rank - 1], "has a weight of another width");
      require(step.bias.empty() || step.bias.size() == shape[rank - 1], "has a bias of another width");
      within(plan, step.in.at(0), rank - 1, shape, shape[rank - 1]);
      return within(plan, step.out, rank - 1, shape, shape[rank - 1]);
    case Op::kLinear:
      require(rank == 3 && step.weight.size() == shape[1] * shape[2], "has a weight of another shape");
      require(step.bias.empty() || step.bias.size() == shape[1], "has a bias of another width");
      within(plan, step.in.at(0), 1, shape, shape[2]);
      return within(plan, step.out, 1, shape, shape[1]);
    case Op::kProduct: {
      require(rank >= 3 && step.in.size() == 2, "is no product of two matrices");
      Shape second = shape;
      second[rank - 3] = shape[rank - 1], second[rank - 2] = shape[rank - 2];
      within(plan, step.in[0], rank - 2, shape, shape[rank - 1]);
      within(plan, step.in[1], rank - 1, second, 1);
      return within(plan, step.out, rank - 2, shape, shape[rank - 2]);
    }
    case Op::kAttention: {
      require(rank == 5 && (step.in.size() == 3 || step.in.size() == 4), "is no attention over keys and values");
      const Shape keys{shape[0], shape[2]};
      within(plan, step.in[0], 2, shape, shape[3]);
      within(plan, step.in[1], 2, keys, shape[3]);
      within(plan, step.in[2], 2, keys, shape[4]);
      if (step.in.size() == 4) within(plan, step.in[3], 1, {shape[2]}, 1);
      return within(plan, step.out, 2, shape, shape[4]);
    }
  }
}

}  // namespace

void check(const Plan& plan) {
  for (const ValueSpec& value : plan.values) {
    if (value.source == Source::kConstant) require(value.numbers.size() == value.size, "has a constant of another size");
    if (value.source == Source::kAnswers) require(value.size == plan.answers, "has answers of another size");
    const bool stands = value.source == Source::kStep || value.source == Source::kTruths;
    require(!stands || value.offset + value.size <= plan.floats, "has a value beyond its memory");
  }
  for (const StepSpec& step : plan.steps) check_step(plan, step);
}

}  // namespace bowerbird::tensor
