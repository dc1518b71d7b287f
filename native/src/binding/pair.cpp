#include "binding/pair.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>
#include <string>

#include "base/require.hpp"
#include "pair/peak.hpp"
#include "pair/program.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using AnyArray = nb::ndarray<nb::c_contig, nb::device::cpu, nb::ro>;
using Answer = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <typename Enum>
Enum named(const std::map<std::string, Enum>& names, const nb::handle& name) {
  const auto found = names.find(nb::cast<std::string>(name));
  if (found == names.end()) throw std::invalid_argument("unknown name " + nb::cast<std::string>(name));
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
    {"layer_norm", pair::Op::kLayerNorm}, {"softmax", pair::Op::kSoftmax},
    {"reduce", pair::Op::kReduce}, {"concat", pair::Op::kConcat}, {"slice", pair::Op::kSlice},
    {"weighted_sum", pair::Op::kWeightedSum}, {"dot", pair::Op::kDot}, {"field_dots", pair::Op::kFieldDots},
    {"take", pair::Op::kTake}, {"product", pair::Op::kProduct}, {"field_attention", pair::Op::kFieldAttention},
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

pair::Strides strides_of(const nb::handle& given) {
  const auto [batch, row, column] = nb::cast<std::array<std::size_t, 3>>(given);
  return {batch, row, column};
}

pair::StepSpec step_of(const nb::dict& given, const std::vector<pair::ValueSpec>& values) {
  pair::StepSpec step;
  step.op = named(kOps, given["op"]);
  step.out = nb::cast<std::size_t>(given["out"]);
  step.in = nb::cast<std::vector<std::size_t>>(given["in"]);
  step.adds = field<std::vector<std::size_t>>(given, "adds", {});
  if (given.contains("factor")) {
    step.factor = nb::cast<std::size_t>(given["factor"]);
    step.after = nb::cast<std::size_t>(given["after"]);
  }
  step.layers = field<std::vector<std::size_t>>(given, "layers", {});
  if (step.op == pair::Op::kMap) step.map = map_of(given, values.at(step.out).width);
  if (given.contains("binary")) step.binary = named(kBinaries, given["binary"]);
  if (given.contains("reduction")) step.reduction = named(kReductions, given["reduction"]);
  step.group = field<std::size_t>(given, "group", 0);
  step.across = field(given, "across", false);
  step.places = field<std::vector<std::size_t>>(given, "places", {});
  if (given.contains("left")) {
    const auto sizes = nb::cast<std::array<std::size_t, 4>>(given["sizes"]);
    step.batch = sizes[0], step.rows = sizes[1], step.inner = sizes[2], step.columns = sizes[3];
    step.left = strides_of(given["left"]), step.right = strides_of(given["right"]);
  }
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
  PairProgram(const nb::list& values, const nb::list& layers, const nb::list& steps, std::vector<std::size_t> outputs)
      : plan_(plan_of(values, layers, steps, std::move(outputs))), program_(plan_, pair::chosen_isa()) {
    for (pair::StepSpec& step : plan_.steps) {
      keep_sequences(step);
      step = {};
    }
    plan_.layers.clear();  // the program holds the weights
  }

  std::string isa() const { return pair::name_of(program_.isa()); }
  std::size_t scratch_bytes() const { return program_.scratch_bytes(); }
  std::size_t tile() const { return program_.tile(); }

  void run(const nb::list& inputs, std::size_t count, std::size_t threads, const std::vector<Answer>& answers) const {
    std::vector<pair::Given> given(plan_.values.size());
    std::size_t value = 0;
    for (const nb::handle each : inputs) read_input(each, count, value, given), ++value;
    require(value == given.size() || plan_.values[value].source == pair::Source::kStep, "an input is not given");
    for (const auto& together : sequences_) {
      for (const std::size_t each : together) {
        require(given[each].length == given[together[0]].length, "sequences have different lengths");
      }
    }
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
  static pair::Plan plan_of(const nb::list& values, const nb::list& layers, const nb::list& steps,
                            std::vector<std::size_t> outputs) {
    pair::Plan plan;
    for (const nb::handle each : layers) plan.layers.push_back(layer_of(nb::cast<nb::dict>(each)));
    for (const nb::handle each : values) plan.values.push_back({named(kSources, each[0]), nb::cast<std::size_t>(each[1])});
    for (const nb::handle each : steps) plan.steps.push_back(step_of(nb::cast<nb::dict>(each), plan.values));
    plan.outputs = std::move(outputs);
    return plan;
  }

  // The sequences that a step reads position by position.
  void keep_sequences(const pair::StepSpec& step) {
    if (step.op != pair::Op::kTargetAttention && step.op != pair::Op::kAttention) return;
    std::vector<std::size_t> together{step.keys, step.values};
    if (step.op == pair::Op::kTargetAttention) together.push_back(step.keys_part);
    if (step.mask) together.push_back(*step.mask);
    sequences_.push_back(std::move(together));
  }

  // Nothing is converted: a copy would be gone before the program reads it.
  static AnyArray array_of(const nb::handle& given) {
    AnyArray array;
    require(nb::try_cast(given, array, false), "an input is no contiguous array");
    return array;
  }

  // An array, or of stored rows (values, format, scales or None, a place per candidate).
  void read_input(const nb::handle& input, std::size_t count, std::size_t value, std::vector<pair::Given>& given) const {
    require(value < given.size() && plan_.values[value].source != pair::Source::kStep, "there are more inputs than values");
    const pair::ValueSpec& spec = plan_.values[value];
    const bool stored = nb::isinstance<nb::tuple>(input);
    const AnyArray array = array_of(stored ? nb::handle(input[0]) : input);
    const std::size_t last = array.ndim() == 0 ? 1 : array.shape(array.ndim() - 1);
    require(array.size() % spec.width == 0 && (array.ndim() == 1 || last == spec.width),
            "an input has another width than its value");
    const std::size_t rows = array.size() / spec.width;
    if (stored) return read_stored(nb::cast<nb::tuple>(input), array, rows, count, given[value].stored, spec);
    require(array.dtype() == nb::dtype<float>(), "an input is not float32");
    const auto* data = static_cast<const float*>(array.data());
    if (spec.source == pair::Source::kItem) {
      require(rows == count, "an input has another number of rows than candidates");
      given[value].stored = {pair::Format::kFp32, data, nullptr, nullptr, spec.width};
      return;
    }
    require(spec.source == pair::Source::kSequence || rows == 1, "a request's row is not one row");
    given[value].row = data;
    given[value].length = rows;
  }

  static void read_stored(const nb::tuple& input, const AnyArray& array, std::size_t rows, std::size_t count,
                          pair::Stored& stored, const pair::ValueSpec& spec) {
    require(spec.source == pair::Source::kItem, "a request's input is stored rows");
    stored = {named(kFormats, input[1]), array.data(), nullptr, nullptr, spec.width};
    if (!input[2].is_none()) {
      const AnyArray scales = array_of(input[2]);
      require(scales.dtype() == nb::dtype<float>() && scales.size() == rows, "scales are not one per row");
      stored.scales = static_cast<const float*>(scales.data());
    }
    const std::size_t bytes = stored.format == pair::Format::kFp32 ? 4 : stored.format == pair::Format::kInt8 ? 1 : 2;
    require(array.itemsize() == bytes, "stored rows have another type than their format");
    require((stored.scales != nullptr) == (stored.format == pair::Format::kInt8), "int8 rows, and only they, have scales");
    const AnyArray places = array_of(input[3]);
    require(places.dtype() == nb::dtype<std::int64_t>() && places.size() == count, "places are not one per candidate");
    stored.places = static_cast<const std::int64_t*>(places.data());
    for (std::size_t i = 0; i < count; ++i) {
      require(stored.places[i] >= 0 && stored.places[i] < static_cast<std::int64_t>(rows), "a place is beyond the rows");
    }
  }

  pair::Plan plan_;
  pair::Program program_;
  std::vector<std::vector<std::size_t>> sequences_;
};

double peak_of(const nb::str& precision) {
  const pair::Precision wanted = named(kPrecisions, precision);
  const nb::gil_scoped_release release;
  return pair::multiply_adds_a_second(wanted, pair::kernels_of(pair::chosen_isa()));
}

}  // namespace

void bind_pair(nb::module_& module) {
  nb::class_<PairProgram>(module, "PairProgram")
      .def(nb::init<const nb::list&, const nb::list&, const nb::list&, std::vector<std::size_t>>(), "values"_a, "layers"_a,
           "steps"_a, "outputs"_a)
      .def_prop_ro("isa", &PairProgram::isa)
      .def_prop_ro("tile", &PairProgram::tile)
      .def_prop_ro("scratch_bytes", &PairProgram::scratch_bytes)
      .def("run", &PairProgram::run, "inputs"_a, "count"_a, "threads"_a, "answers"_a);
  module.def("pair_peak", &peak_of, "precision"_a);
  module.def("pair_isa", [] { return std::string(pair::name_of(pair::chosen_isa())); });
  module.def("pair_unused_amx", &pair::unused_amx);
}

}  // namespace bowerbird
