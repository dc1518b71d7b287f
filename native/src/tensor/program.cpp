#include "tensor/program.hpp"

#include "tensor/steps.hpp"

namespace bowerbird::tensor {

Program::Program(const Plan& plan, pair::Isa isa)
    : isa_(isa), kernels_(tensor::kernels_of(isa)), tiles_(pair::kernels_of(isa)), values_(plan.values), floats_(plan.floats),
      answers_(plan.answers) {
  for (const StepSpec& spec : plan.steps) steps_.push_back(made(spec, kernels_));
}

void Program::run(const void* const* given, std::size_t count, float* answers) const {
  thread_local pair::Scratch memory, scratch;
  thread_local std::vector<float*> values;
  values.assign(values_.size(), nullptr);
  float* const base = memory.floats(floats_);
  const Run now(kernels_, tiles_, values.data(), scratch);
  for (std::size_t request = 0; request < count; ++request) {
    std::size_t input = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const ValueSpec& value = values_[i];
      switch (value.source) {
        // Steps write to no input and to no constant.
        case Source::kNumbers:
          values[i] = const_cast<float*>(static_cast<const float*>(given[input++]) + request * value.size);
          break;
        case Source::kConstant: values[i] = const_cast<float*>(value.numbers.data()); break;
        case Source::kTruths: {
          const auto* truths = static_cast<const std::uint8_t*>(given[input++]) + request * value.size;
          values[i] = base + value.offset;
          for (std::size_t at = 0; at < value.size; ++at) values[i][at] = truths[at] != 0 ? 1.0f : 0.0f;
          break;
        }
        case Source::kStep: values[i] = base + value.offset; break;
        case Source::kAnswers: values[i] = answers + request * answers_; break;
      }
    }
    for (const auto& step : steps_) step->run(now);
  }
}

}  // namespace bowerbird::tensor
