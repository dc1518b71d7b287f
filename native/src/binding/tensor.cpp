#include "binding/tensor.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "tensor/program.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Given = nb::ndarray<nb::c_contig, nb::device::cpu, nb::ro>;
using Places = nb::ndarray<const std::int64_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Answers = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename Enum>
using Names = std::unordered_map<std::string, Enum>;

const Names<tensor::Source> kSources{
    {"numbers", tensor::Source::kNumbers}, {"truths", tensor::Source::kTruths}, {"constant", tensor::Source::kConstant},
    {"step", tensor::Source::kStep}, {"answers", tensor::Source::kAnswers}};
const Names<tensor::Op> kOps{
    {"pointwise", tensor::Op::kPointwise}, {"reduce", tensor::Op::kReduce}, {"softmax", tensor::Op::kSoftmax},
    {"layer_norm", tensor::Op::kLayerNorm}, {"linear", tensor::Op::kLinear}, {"product", tensor::Op::kProduct},
    {"attention", tensor::Op::kAttention}};
const Names<tensor::Reduction> kReductions{
    {"sum", tensor::Reduction::kSum}, {"mean", tensor::Reduction::kMean}, {"max", tensor::Reduction::kMax}};
const Names<tensor::Weight> kWeights{{"fp32", tensor::Weight::kFp32}, {"bf16", tensor::Weight::kBf16}};
const Names<tensor::Element> kElements{
    {"copy", tensor::Element::kCopy}, {"relu", tensor::Element::kRelu}, {"leaky_relu", tensor::Element::kLeakyRelu},
    {"gelu", tensor::Element::kGelu}, {"gelu_tanh", tensor::Element::kGeluTanh}, {"silu", tensor::Element::kSilu},
    {"sigmoid", tensor::Element::kSigmoid}, {"tanh", tensor::Element::kTanh}, {"elu", tensor::Element::kElu},
    {"softplus", tensor::Element::kSoftplus}, {"exp", tensor::Element::kExp}, {"log", tensor::Element::kLog},
    {"log1p", tensor::Element::kLog1p}, {"sqrt", tensor::Element::kSqrt}, {"rsqrt", tensor::Element::kRsqrt},
    {"reciprocal", tensor::Element::kReciprocal}, {"neg", tensor::Element::kNeg}, {"abs", tensor::Element::kAbs},
    {"square", tensor::Element::kSquare}, {"sign", tensor::Element::kSign}, {"clamp", tensor::Element::kClamp},
    {"scale_shift", tensor::Element::kScaleShift}, {"not", tensor::Element::kNot}, {"is_nan", tensor::Element::kIsNan},
    {"nan_to_num", tensor::Element::kNanToNum}, {"add", tensor::Element::kAdd}, {"sub", tensor::Element::kSub},
    {"mul", tensor::Element::kMul}, {"div", tensor::Element::kDiv}, {"maximum", tensor::Element::kMaximum},
    {"minimum", tensor::Element::kMinimum}, {"eq", tensor::Element::kEqual}, {"ne", tensor::Element::kUnequal},
    {"lt", tensor::Element::kLess}, {"le", tensor::Element::kLessEqual}, {"gt", tensor::Element::kGreater},
    {"ge", tensor::Element::kGreaterEqual}, {"and", tensor::Element::kAnd}, {"or", tensor::Element::kOr},
    {"where", tensor::Element::kWhere}};

template <typename Enum>
Enum named(const Names<Enum>& names, const nb::handle& given) {
  const auto name = nb::cast<std::string>(given);
  const auto found = names.find(name);
  if (found == names.end()) throw std::invalid_argument("unknown name " + name);
  return found->second;
}

std::vector<float> floats(const nb::handle& given) {
  if (given.is_none()) return {};
  const auto array = nb::cast<Floats>(given);
  return {array.data(), array.data() + array.size()};
}

template <typename To>
std::size_t fill(const nb::handle& given, To& to) {
  const auto values = nb::cast<std::vector<typename To::value_type>>(given);
  if (values.size() > to.size()) throw std::invalid_argument("a step has too many dimensions or numbers");
  std::copy(values.begin(), values.end(), to.begin());
  return values.size();
}

// (value, offset, strides)
tensor::Operand operand_of(const nb::handle& given) {
  tensor::Operand operand{nb::cast<std::size_t>(given[0]), nb::cast<std::size_t>(given[1]), {}};
  fill(given[2], operand.strides);
  return operand;
}

tensor::StepSpec step_of(const nb::dict& given) {
  tensor::StepSpec step;
  step.op = named(kOps, given["op"]);
  step.rank = fill(given["shape"], step.shape);
  step.out = operand_of(given["out"]);
  for (const nb::handle each : nb::cast<nb::list>(given["in"])) step.in.push_back(operand_of(each));
  if (given.contains("element")) step.element = named(kElements, given["element"]);
  if (given.contains("numbers")) fill(given["numbers"], step.numbers);
  if (given.contains("reduction")) step.reduction = named(kReductions, given["reduction"]);
  if (given.contains("reduced")) step.reduced = nb::cast<std::size_t>(given["reduced"]);
  if (given.contains("weight")) step.weight = floats(given["weight"]);
  if (given.contains("bias")) step.bias = floats(given["bias"]);
  if (given.contains("stored")) step.stored = named(kWeights, given["stored"]);
  if (given.contains("number")) step.number = nb::cast<float>(given["number"]);
  return step;
}

// A program with what its inputs are checked against.
class TensorProgram {
 public:
  TensorProgram(const nb::list& values, const nb::list& steps, std::size_t floats, std::size_t answers)
      : answers_(answers), program_(plan_of(values, steps, floats, answers), pair::chosen_isa()) {
    for (const nb::handle each : values) {
      const auto source = named(kSources, each[0]);
      if (source == tensor::Source::kNumbers || source == tensor::Source::kTruths) {
        inputs_.push_back({nb::cast<std::size_t>(each[1]), source == tensor::Source::kTruths});
      }
    }
  }

  std::string isa() const { return pair::name_of(program_.isa()); }
  std::size_t scratch_bytes() const { return program_.scratch_bytes(); }

  void run(const nb::list& inputs, const Answers& answers) const {
    const std::size_t count = answers.shape(0);
    if (inputs.size() != inputs_.size() || answers.shape(1) != answers_) {
      throw std::invalid_argument("a tensor program is given other inputs or answers than it has");
    }
    std::vector<const void*> pointers;
    for (std::size_t i = 0; i < inputs_.size(); ++i) pointers.push_back(data_of(inputs[i], i, count));
    const nb::gil_scoped_release release;
    program_.run(pointers.data(), count, answers.data());
  }

  // Inputs that stand in a few flat parts, each for all of `rows`, end to end: `places` are (part, first number in it of
  // one row).
  void run_parts(const nb::list& given, const Places& places, std::int64_t rows, const Answers& answers) const {
    const std::size_t count = answers.shape(0);
    if (places.shape(0) != inputs_.size() || answers.shape(1) != answers_) {
      throw std::invalid_argument("a tensor program is given other inputs or answers than it has");
    }
    std::vector<Given> parts(given.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (!nb::try_cast(given[i], parts[i], false)) throw std::invalid_argument("part " + std::to_string(i) + " is no contiguous array");
    }
    std::vector<const void*> pointers;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::int64_t part = places(i, 0);
      if (part < 0 || static_cast<std::size_t>(part) >= parts.size()) throw std::invalid_argument("an input is of a part that is not there");
      pointers.push_back(within(parts[static_cast<std::size_t>(part)], places(i, 1) * rows, i, count));
    }
    const nb::gil_scoped_release release;
    program_.run(pointers.data(), count, answers.data());
  }

 private:
  struct Input {
    std::size_t size;
    bool truths;
  };

  const void* within(const Given& part, std::int64_t start, std::size_t number, std::size_t count) const {
    const auto& [size, truths] = inputs_[number];
    const bool fits = start >= 0 && static_cast<std::size_t>(start) + count * size <= part.size() &&
                      part.dtype() == (truths ? nb::dtype<bool>() : nb::dtype<float>());
    if (!fits) throw std::invalid_argument("input " + std::to_string(number) + " has another type or size than its value");
    return static_cast<const std::byte*>(part.data()) + static_cast<std::size_t>(start) * part.itemsize();
  }

  // Nothing is converted: a copy would be gone before the program reads it.
  const void* data_of(const nb::handle& input, std::size_t number, std::size_t count) const {
    Given given;
    const auto& [size, truths] = inputs_[number];
    const bool fits = nb::try_cast(input, given, false) && given.size() == count * size &&
                      given.dtype() == (truths ? nb::dtype<bool>() : nb::dtype<float>());
    if (!fits) throw std::invalid_argument("input " + std::to_string(number) + " has another type or size than its value");
    return given.data();
  }

  // Values are (source, size, offset or the numbers of a constant).
  static tensor::Plan plan_of(const nb::list& values, const nb::list& steps, std::size_t floats_of_run,
                              std::size_t answers) {
    tensor::Plan plan{{}, {}, floats_of_run, answers};
    for (const nb::handle each : values) {
      tensor::ValueSpec value{named(kSources, each[0]), nb::cast<std::size_t>(each[1]), 0, {}};
      if (value.source == tensor::Source::kConstant) {
        value.numbers = floats(each[2]);
      } else {
        value.offset = nb::cast<std::size_t>(each[2]);
      }
      plan.values.push_back(std::move(value));
    }
    for (const nb::handle each : steps) plan.steps.push_back(step_of(nb::cast<nb::dict>(each)));
    tensor::check(plan);
    return plan;
  }

  std::size_t answers_;
  tensor::Program program_;
  std::vector<Input> inputs_;
};

}  // namespace

void bind_tensor(nb::module_& module) {
  nb::class_<TensorProgram>(module, "TensorProgram")
      .def(nb::init<const nb::list&, const nb::list&, std::size_t, std::size_t>(), "values"_a, "steps"_a, "floats"_a,
           "answers"_a)
      .def_prop_ro("isa", &TensorProgram::isa)
      .def_prop_ro("scratch_bytes", &TensorProgram::scratch_bytes)
      .def("run", &TensorProgram::run, "given"_a, "answers"_a)
      .def("run_parts", &TensorProgram::run_parts, "given"_a, "places"_a.noconvert(), "rows"_a,
           "answers"_a.noconvert());
}

}  // namespace bowerbird
