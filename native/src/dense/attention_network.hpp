// Target attention over a sequence in training on tile registers: samples pass all of it while they are in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

// Some columns of all events and the first of the query's columns that they meet: float32 [samples, length, width], or
// the rows of a table [..., width] whose numbers are `rows`, [samples, length].
struct EventPart {
  static constexpr std::size_t kUnmet = SIZE_MAX;
  const float* values;
  std::size_t width;
  std::size_t query;
  const std::int32_t* rows = nullptr;

  const float* event(std::size_t place) const {
    return values + (rows == nullptr ? place : static_cast<std::size_t>(rows[place])) * width;
  }
};

// float32 [outputs, inputs] and [outputs]; the first layer has no bias.
struct ScorerLayer {
  std::size_t inputs;
  std::size_t outputs;
  const float* weights;
  const float* bias;
};

// An event's weight is the score of its columns, end to end, and of their products with the query, after layers with
// rectifiers; the first adds the sample's shift. With `scaled` it is divided by the root of the number of events.
// Each column of the query is met once. Events that the mask leaves out are not read.
struct AttentionNetwork {
  std::size_t samples;
  std::size_t length;
  std::vector<EventPart> parts;
  const bool* mask;  // [samples, length]
  const float* query;
  std::size_t query_width;
  const float* shift;  // [samples, outputs of the first layer]
  std::vector<ScorerLayer> layers;
  const float* score;       // [outputs of the last layer]
  const float* score_bias;  // one
  bool scaled;

  std::size_t width() const { return layers.front().inputs - query_width; }
};

// Laid out as what they are gradients of; null parts are not wanted, and the first bias is null. Gradients of a table's
// rows are added to what is there.
struct AttentionGradients {
  std::vector<float*> parts;
  float* query;
  float* shift;
  std::vector<float*> weights;
  std::vector<float*> biases;
  float* score;
  float* score_bias;
};

// Both are for machines that have tile registers alone (see has_tiles). `out` is the sum of events by their weights,
// float32 [samples, width of all parts]. Factors of products are rounded to bfloat16.
void attention_forward(const AttentionNetwork& network, float* out, std::size_t threads);

// From the gradient of `out`. Nothing is kept of the way forth: what is between is made again. Samples are added up in
// chunks that the shape alone decides: any number of threads gives the same bits.
void attention_backward(const AttentionNetwork& network, const float* gradient, const AttentionGradients& of,
                        std::size_t threads);

}  // namespace bowerbird
