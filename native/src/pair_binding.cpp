#include "pair_binding.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "pair_peak.hpp"
#include "pair_program.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using AnyMatrix = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu, nb::ro>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Answer = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

template <typename Enum>
Enum named(const std::map<std::string, Enum>& names, const nb::handle& name) {
  const auto found = names.find(nb::cast<std::string>(name));
  require(found != names.end(), "unknown name " + nb::cast<std::string>(name));
  return found->second;
}

const std::map<std::string, pair::Function> kFunctions{
    {"none", pair::Function::kNone}, {"relu", pair::Function::kRelu}, {"leaky_relu", pair::Function::kLeakyRelu},
    {"prelu", pair::Function::kPrelu}, {"gelu", pair::Function::kGelu}, {"gelu_tanh", pair::Function::kGeluTanh},
    {"silu", pair::Function::kSilu}, {"sigmoid", pair::Function::kSigmoid}, {"tanh", pair::Function::kTanh},
    {"elu", pair::Function::kElu}, {"softplus", pair::Function::kSoftplus}, {"dice", pair::Function::kDice},
    {"exp", pair::Function::kExp}, {"log", pair::Function::kLog}, {"sqrt", pair::Function::kSqrt},
    {"rsqrt", pair::Function::kRsqrt}, {"neg", pair::Function::kNeg}, {"abs", pair::Function::kAbs},
    {"square", pair::Function::kSquare}, {"clamp", pair::Function::kClamp}, {"scale_shift", pair::Function::kScaleShift}};
const std::map<std::string, pair::Op> kOps{
    {"linear", pair::Op::kLinear}, {"binary", pair::Op::kBinary}, {"map", pair::Op::kMap},
    {"multiply_add", pair::Op::kMultiplyAdd}, {"layer_norm", pair::Op::kLayerNorm}, {"softmax", pair::Op::kSoftmax},
    {"reduce", pair::Op::kReduce}, {"concat", pair::Op::kConcat}, {"slice", pair::Op::kSlice},
    {"weighted_sum", pair::Op::kWeightedSum}, {"dot", pair::Op::kDot}, {"field_dots", pair::Op::kFieldDots},
    {"target_attention", pair::Op::kTargetAttention}, {"attention", pair::Op::kAttention}};
const std::map<std::string, pair::Precision> kPrecisions{
    {"fp32", pair::Precision::kFp32}, {"bf16", pair::Precision::kBf16}, {"int8", pair::Precision::kInt8}};
const std::map<std::string, pair::Source> kSources{{"item", pair::Source::kItem}, {"request", pair::Source::kRequest},
                                                   {"sequence", pair::Source::kSequence}, {"step", pair::Source::kStep}};
const std::map<std::string, pair::Binary> kBinaries{
    {"add", pair::Binary::kAdd}, {"sub", pair::Binary::kSub}, {"mul", pair::Binary::kMul}, {"div", pair::Binary::kDiv},
    {"maximum", pair::Binary::kMaximum}, {"minimum", pair::Binary::kMinimum}};
const std::map<std::string, pair::Reduction> kReductions{
    {"sum", pair::Reduction::kSum}, {"mean", pair::Reduction::kMean}, {"max", pair::Reduction::kMax}};
const std::map<std::string, pair::Format> kFormats{{"fp32", pair::Format::kFp32}, {"fp16", pair::Format::kFp16},
                                                   {"bf16", pair::Format::kBf16}, {"int8", pair::Format::kInt8}};

std::vector<float> floats(const nb::handle& given) {
  if (given.is_none()) return {};
  const auto array = nb::cast<Floats>(given);
  return {array.data(), array.data() + array.size()};
}

pair::MapSpec map_of(const nb::dict& given, std::size_t width) {
  pair::MapSpec map;
  map.function = named(kFunctions, given["function"]);
  for (const nb::handle each : nb::cast<nb::list>(given["arrays"])) {
    map.arrays.push_back(floats(each));
    require(map.arrays.back().size() == width, "a function's parameters have another width");
  }
  const auto numbers = nb::cast<std::vector<float>>(given["numbers"]);
  std::copy_n(numbers.begin(), std::min<std::size_t>(numbers.size(), 2), map.numbers);
  return map;
}

pair::LayerSpec layer_of(const nb::dict& given) {
  const auto weight = nb::cast<Matrix>(given["weight"]);
  pair::LayerSpec layer;
  layer.outputs = weight.shape(0), layer.inputs = weight.shape(1);
  layer.weight.assign(weight.data(), weight.data() + weight.size());
  layer.bias = floats(given["bias"]);
  require(layer.bias.empty() || layer.bias.size() == layer.outputs, "a bias has another width");
  layer.map = map_of(given, layer.outputs);
  layer.precision = named(kPrecisions, given["precision"]);
  return layer;
}

template <typename T>
T field(const nb::dict& given, const char* name, T otherwise) {
  return given.contains(name) ? nb::cast<T>(given[name]) : otherwise;
}

pair::StepSpec step_of(const nb::dict& given, const std::vector<pair::ValueSpec>& values) {
  pair::StepSpec step;
  step.op = named(kOps, given["op"]);
  step.out = nb::cast<std::size_t>(given["out"]);
  step.in = nb::cast<std::vector<std::size_t>>(given["in"]);
  step.adds = field<std::vector<std::size_t>>(given, "adds", {});
  if (given.contains("layers")) {
    for (const nb::handle each : nb::cast<nb::list>(given["layers"])) step.layers.push_back(layer_of(nb::cast<nb::dict>(each)));
  }
  if (step.op == pair::Op::kMap) step.map = map_of(given, values.at(step.out).width);
  if (given.contains("binary")) step.binary = named(kBinaries, given["binary"]);
  if (given.contains("reduction")) step.reduction = named(kReductions, given["reduction"]);
  step.group = field<std::size_t>(given, "group", 0);
  step.across = field(given, "across", false);
  if (given.contains("weight")) step.weight = floats(given["weight"]);
  if (given.contains("bias")) step.bias = floats(given["bias"]);
  step.number = field(given, "number", 0.0f);
  step.heads = field<std::size_t>(given, "heads", 1);
  step.softmax = field(given, "softmax", false);
  step.keys = field<std::size_t>(given, "keys", 0);
  step.values = field<std::size_t>(given, "values", 0);
  step.keys_part = field<std::size_t>(given, "keys_part", 0);
  if (given.contains("mask")) step.mask = nb::cast<std::size_t>(given["mask"]);
  return step;
}

// A program with what its runs are checked against.
class PairProgram {
 public:
  PairProgram(const nb::list& values, const nb::list& steps, std::vector<std::size_t> outputs)
      : plan_(plan_of(values, steps, std::move(outputs))), program_(plan_, pair::chosen_isa()) {
    for (pair::StepSpec& step : plan_.steps) step = {};  // the program holds the weights
  }

  std::string isa() const { return pair::name_of(program_.isa()); }
  std::size_t scratch_bytes() const { return program_.scratch_bytes(); }
  std::size_t tile() const { return program_.tile(); }

  void run(const nb::list& inputs, std::size_t count, std::size_t threads, const std::vector<Answer>& answers) const {
    std::vector<pair::Given> given(plan_.values.size());
    for (const nb::handle each : inputs) read_input(nb::cast<nb::tuple>(each), count, given);
    require(answers.size() == plan_.outputs.size(), "answers are not one per output");
    std::vector<float*> places;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      require(answers[i].shape(0) == count && answers[i].shape(1) == plan_.values[plan_.outputs[i]].width,
              "an answer has another shape than its output");
      places.push_back(answers[i].data());
    }
    const nb::gil_scoped_release release;
    program_.run(given.data(), count, threads, places.data());
  }

 private:
  static pair::Plan plan_of(const nb::list& values, const nb::list& steps, std::vector<std::size_t> outputs) {
    pair::Plan plan;
    for (const nb::handle each : values) plan.values.push_back({named(kSources, each[0]), nb::cast<std::size_t>(each[1])});
    for (const nb::handle each : steps) plan.steps.push_back(step_of(nb::cast<nb::dict>(each), plan.values));
    plan.outputs = std::move(outputs);
    return plan;
  }

  // (value, matrix of a request) or (value, stored rows, format, scales or None, places or None)
  void read_input(const nb::tuple& input, std::size_t count, std::vector<pair::Given>& given) const {
    const auto value = nb::cast<std::size_t>(input[0]);
    const pair::ValueSpec& spec = plan_.values.at(value);
    const auto rows = nb::cast<AnyMatrix>(input[1]);
    require(rows.shape(1) == spec.width, "an input has another width than its value");
    if (spec.source != pair::Source::kItem) {
      require(rows.dtype() == nb::dtype<float>(), "a request's input is not float32");
      require(spec.source == pair::Source::kSequence || rows.shape(0) == 1, "a request's row is not one row");
      given[value].row = static_cast<const float*>(rows.data());
      given[value].length = rows.shape(0);
      return;
    }
    pair::Stored& stored = given[value].stored;
    stored = {named(kFormats, input[2]), rows.data(), nullptr, nullptr, spec.width};
    if (!input[3].is_none()) {
      const auto scales = nb::cast<Vector>(input[3]);
      require(scales.shape(0) == rows.shape(0), "scales are not one per row");
      stored.scales = scales.data();
    }
    const std::size_t bytes = stored.format == pair::Format::kFp32 ? 4 : stored.format == pair::Format::kInt8 ? 1 : 2;
    require(rows.itemsize() == bytes, "stored rows have another type than their format");
    require((stored.scales != nullptr) == (stored.format == pair::Format::kInt8), "int8 rows, and only they, have scales");
    if (input[4].is_none()) {
      require(rows.shape(0) == count, "an input has another number of rows than candidates");
      return;
    }
    const auto places = nb::cast<Places>(input[4]);
    require(places.shape(0) == count, "places are not one per candidate");
    for (std::size_t i = 0; i < count; ++i) {
      require(places.data()[i] >= 0 && places.data()[i] < static_cast<std::int64_t>(rows.shape(0)), "a place is beyond the rows");
    }
    stored.places = places.data();
  }

  pair::Plan plan_;
  pair::Program program_;
};

double peak_of(const nb::str& precision) {
  const pair::Precision wanted = named(kPrecisions, precision);
  const nb::gil_scoped_release release;
  return pair::multiply_adds_a_second(wanted, pair::kernels_of(pair::chosen_isa()));
}

}  // namespace

void bind_pair(nb::module_& module) {
  nb::class_<PairProgram>(module, "PairProgram")
      .def(nb::init<const nb::list&, const nb::list&, std::vector<std::size_t>>(), "values"_a, "steps"_a, "outputs"_a)
      .def_prop_ro("isa", &PairProgram::isa)
      .def_prop_ro("tile", &PairProgram::tile)
      .def_prop_ro("scratch_bytes", &PairProgram::scratch_bytes)
      .def("run", &PairProgram::run, "inputs"_a, "count"_a, "threads"_a, "answers"_a);
  module.def("pair_peak", &peak_of, "precision"_a);
  module.def("pair_isa", [] { return std::string(pair::name_of(pair::chosen_isa())); });
}

}  // namespace bowerbird
