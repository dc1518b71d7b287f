// The steps of a tensor program, and what they see while they run.
#pragma once

#include "pair/work.hpp"
#include "tensor/program.hpp"

namespace bowerbird::tensor {

class Run {
 public:
  Run(const Kernels& kernels, const pair::Kernels& tiles, float* const* values, pair::Scratch& scratch)
      : kernels(kernels), tiles(tiles), scratch(scratch), values_(values) {}

  float* at(const Operand& operand) const { return values_[operand.value] + operand.offset; }
  In in(const Operand& operand) const { return {at(operand), operand.strides}; }
  Out out(const Operand& operand) const { return {at(operand), operand.strides}; }

  const Kernels& kernels;
  const pair::Kernels& tiles;
  pair::Scratch& scratch;

 private:
  float* const* values_;
};

std::unique_ptr<Step> made(const StepSpec& spec, const Kernels& kernels);

}  // namespace bowerbird::tensor
