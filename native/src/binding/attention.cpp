#include "binding/attention.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "binding/dense_arrays.hpp"
#include "dense/attention_network.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace bowerbird {
namespace {

using Floats = Lent<float, nb::c_contig, nb::device::cpu>;
using Rows = Lent<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Mask = Lent<bool, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Parts = std::vector<Floats>;
using PartRows = std::vector<std::optional<Rows>>;
using Meets = std::vector<std::int64_t>;
using Matrices = std::vector<Matrix>;
using Columns = std::vector<Column>;

// A layer less biases than weights: the first has none.
struct Scorer {
  Matrices weights;
  Columns biases;
  Column score, score_bias;
};

// Where events are rows of a table, the rows are as many as the mask and all there.
void require_fit(const Floats& part, const std::optional<Rows>& rows, const Mask& mask) {
  if (!rows) {
    require(part.ndim() == 3 && part.shape(0) == mask.shape(0) && part.shape(1) == mask.shape(1) && part.shape(2) > 0,
            "parts of events differ in shape");
    return;
  }
  require(part.ndim() == 2 && part.shape(1) > 0 && rows->shape(0) == mask.shape(0) && rows->shape(1) == mask.shape(1),
          "parts of events differ in shape");
  const std::int32_t* const numbers = rows->data();
  const auto end = static_cast<std::uint32_t>(std::min<std::size_t>(part.shape(0), INT32_MAX));
  const std::size_t count = rows->size();
  bool inside = true;
  for (std::size_t i = 0; i < count; ++i) inside &= static_cast<std::uint32_t>(numbers[i]) < end;
  require(inside, "a row is beyond the table");
}

std::vector<EventPart> parts_of(const Parts& parts, const PartRows& rows, const Meets& meets, const Mask& mask,
                                std::size_t query_width) {
  require(!parts.empty() && parts.size() == meets.size() && parts.size() == rows.size(),
          "parts and what they meet go together");
  std::vector<EventPart> found;
  std::vector<bool> met(query_width, false);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    require_fit(parts[i], rows[i], mask);
    const std::size_t width = parts[i].shape(parts[i].ndim() - 1);
    const std::size_t begin = meets[i] < 0 ? EventPart::kUnmet : static_cast<std::size_t>(meets[i]);
    found.push_back({parts[i].data(), width, begin, rows[i] ? rows[i]->data() : nullptr});
    if (begin == EventPart::kUnmet) continue;
    require(begin < query_width && width <= query_width - begin, "meetings do not fit");
    for (std::size_t at = begin; at < begin + width; ++at) {
      require(!met[at], "a column of the query is met twice");
      met[at] = true;
    }
  }
  require(std::find(met.begin(), met.end(), false) == met.end(), "meetings do not cover the query");
  return found;
}

std::vector<ScorerLayer> layers_of(const Scorer& scorer, std::size_t inputs) {
  require(!scorer.weights.empty() && scorer.biases.size() + 1 == scorer.weights.size(), "weights and biases go together");
  std::vector<ScorerLayer> found;
  for (std::size_t i = 0; i < scorer.weights.size(); ++i) {
    const std::size_t outputs = scorer.weights[i].shape(0);
    require(outputs > 0 && scorer.weights[i].shape(1) == inputs, "weights do not fit");
    require(i == 0 || scorer.biases[i - 1].shape(0) == outputs, "a column's length is not the width");
    found.push_back({inputs, outputs, scorer.weights[i].data(), i == 0 ? nullptr : scorer.biases[i - 1].data()});
    inputs = outputs;
  }
  require(scorer.score.shape(0) == inputs && scorer.score_bias.shape(0) == 1, "a column's length is not the width");
  return found;
}

AttentionNetwork checked(const Parts& parts, const PartRows& rows, const Meets& meets, const Mask& mask,
                         const Matrix& query, const Matrix& shift, const Scorer& scorer, bool scaled) {
  AttentionNetwork network{};
  network.samples = mask.shape(0), network.length = mask.shape(1);
  require(network.samples > 0 && network.length > 0, "values are empty");
  network.query_width = query.shape(1);
  network.parts = parts_of(parts, rows, meets, mask, network.query_width);
  std::size_t inputs = network.query_width;
  for (const EventPart& part : network.parts) inputs += part.width;
  network.layers = layers_of(scorer, inputs);
  require(query.shape(0) == network.samples && shift.shape(0) == network.samples &&
              shift.shape(1) == network.layers.front().outputs,
          "arrays differ in shape");
  network.mask = mask.data(), network.query = query.data(), network.shift = shift.data();
  network.score = scorer.score.data(), network.score_bias = scorer.score_bias.data();
  network.scaled = scaled;
  return network;
}

void require_pooled(const Matrix& pooled, const AttentionNetwork& network) {
  require(pooled.shape(0) == network.samples && pooled.shape(1) == network.width(), "arrays differ in shape");
}

void forward(const Parts& parts, const PartRows& rows, const Meets& meets, Mask mask, Matrix query, Matrix shift,
             const Matrices& weights, const Columns& biases, Column score, Column score_bias, bool scaled, Matrix out,
             std::size_t threads) {
  const Scorer scorer{weights, biases, score, score_bias};
  const AttentionNetwork network = checked(parts, rows, meets, mask, query, shift, scorer, scaled);
  require_pooled(out, network);
  const nb::gil_scoped_release release;
  attention_forward(network, out.data(), threads);
}

bool is_like(const Floats& left, const Floats& right) {
  return left.ndim() == right.ndim() && std::equal(left.shape_ptr(), left.shape_ptr() + left.ndim(), right.shape_ptr());
}

AttentionGradients gradients(const std::vector<std::optional<Floats>>& of_parts, const Parts& parts, const Matrix& query,
                             const Matrix& shift, const Scorer& scorer, const AttentionNetwork& network) {
  AttentionGradients of{};
  require(of_parts.size() == parts.size(), "gradients are of other parts");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    require(!of_parts[i] || is_like(*of_parts[i], parts[i]), "arrays differ in shape");
    of.parts.push_back(of_parts[i] ? of_parts[i]->data() : nullptr);
  }
  const std::vector<ScorerLayer> layers = layers_of(scorer, network.layers.front().inputs);
  require(layers.size() == network.layers.size(), "gradients are of other layers");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    require(layers[i].outputs == network.layers[i].outputs, "gradients are of other layers");
    of.weights.push_back(scorer.weights[i].data());
    of.biases.push_back(i == 0 ? nullptr : scorer.biases[i - 1].data());
  }
  require(query.shape(0) == network.samples && query.shape(1) == network.query_width &&
              shift.shape(0) == network.samples && shift.shape(1) == layers.front().outputs,
          "arrays differ in shape");
  of.query = query.data(), of.shift = shift.data(), of.score = scorer.score.data();
  of.score_bias = scorer.score_bias.data();
  return of;
}

void backward(const Parts& parts, const PartRows& rows, const Meets& meets, Mask mask, Matrix query, Matrix shift,
              const Matrices& weights, const Columns& biases, Column score, Column score_bias, bool scaled, Matrix gradient,
              const std::vector<std::optional<Floats>>& of_parts, Matrix of_query, Matrix of_shift,
              const Matrices& of_weights, const Columns& of_biases, Column of_score, Column of_score_bias,
              std::size_t threads) {
  const Scorer scorer{weights, biases, score, score_bias};
  const Scorer of_scorer{of_weights, of_biases, of_score, of_score_bias};
  const AttentionNetwork network = checked(parts, rows, meets, mask, query, shift, scorer, scaled);
  require_pooled(gradient, network);
  const AttentionGradients of = gradients(of_parts, parts, of_query, of_shift, of_scorer, network);
  const nb::gil_scoped_release release;
  attention_backward(network, gradient.data(), of, threads);
}

}  // namespace

void bind_attention(nb::module_& module) {
  module.def("attention_forward", &forward, array("parts"), array("rows"), "meets"_a, array("mask"), array("query"),
             array("shift"), array("weights"), array("biases"), array("score"), array("score_bias"), "scaled"_a,
             array("out"), "threads"_a = 1);
  module.def("attention_backward", &backward, array("parts"), array("rows"), "meets"_a, array("mask"), array("query"),
             array("shift"), array("weights"), array("biases"), array("score"), array("score_bias"), "scaled"_a,
             array("gradient"), array("of_parts"), array("of_query"), array("of_shift"), array("of_weights"),
             array("of_biases"), array("of_score"), array("of_score_bias"), "threads"_a = 1);
}

}  // namespace bowerbird
