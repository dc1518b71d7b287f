// The passes of training under sanitizers, in memory of exact size, against plain loops.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "checks.hpp"
#include "dense/attention.hpp"
#include "dense/attention_network.hpp"
#include "dense/cross.hpp"
#include "dense/cross_network.hpp"
#include "dense/entropy.hpp"
#include "dense/hidden.hpp"
#include "dense/linear.hpp"
#include "dense/mlp.hpp"
#include "dense/narrow.hpp"
#include "dense/norm.hpp"
#include "dense/rows.hpp"

namespace {

using namespace bowerbird;
using namespace bowerbird::checks;

constexpr std::size_t kThreads = 3;
using Halves = std::vector<BFloat16>;
using Floats = std::vector<float>;

Halves rounded(const Floats& values) {
  Halves halves(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) store(values[i], halves[i]);
  return halves;
}

Floats widened(const Halves& values) {
  Floats floats;
  for (const BFloat16 value : values) floats.push_back(to_float(value));
  return floats;
}

void expect_near(const Floats& found, const Floats& expected, float share, const char* what) {
  float largest = 1.0f, worst = 0.0f;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::fabs(expected[i]));
    worst = std::max(worst, found[i] == found[i] ? std::fabs(found[i] - expected[i]) : INFINITY);
  }
  expect(found.size() == expected.size() && worst <= share * largest, what);
}

// Sums over k of left(i, k) right(k, j).
template <typename Left, typename Right>
Floats product(std::size_t rows, std::size_t columns, std::size_t summed, const Left& left, const Right& right) {
  Floats result(rows * columns, 0.0f);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      for (std::size_t k = 0; k < summed; ++k) result[i * columns + j] += left(i, k) * right(k, j);
    }
  }
  return result;
}

void check_linear(std::size_t rows, std::size_t inputs, std::size_t outputs) {
  const Floats x = widened(rounded(normal(rows * inputs))), weights = widened(rounded(normal(outputs * inputs)));
  const Halves gradient = rounded(normal(rows * outputs));
  const Floats back = widened(gradient), bias = normal(outputs);
  const Linear layer{rows, inputs, outputs, weights.data()};
  Halves out(rows * outputs), of_halves(rows * inputs);
  Floats of_floats(rows * inputs), of_weights(outputs * inputs), of_bias(outputs);
  linear_forward(layer, rounded(x).data(), bias.data(), out.data(), kThreads);
  Floats expected = product(rows, outputs, inputs, [&](auto i, auto k) { return x[i * inputs + k]; },
                            [&](auto k, auto j) { return weights[j * inputs + k]; });
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % outputs];
  expect_near(widened(out), expected, 0.01f, "a linear layer of halves");
  linear_forward(layer, x.data(), nullptr, out.data(), kThreads);
  linear_input_gradient(layer, gradient.data(), of_floats.data(), kThreads);
  linear_input_gradient(layer, gradient.data(), of_halves.data(), kThreads);
  const Floats of_x = product(rows, inputs, outputs, [&](auto i, auto k) { return back[i * outputs + k]; },
                              [&](auto k, auto j) { return weights[k * inputs + j]; });
  expect_near(of_floats, of_x, 1e-4f, "a linear layer's inputs, floats");
  expect_near(widened(of_halves), of_x, 0.01f, "a linear layer's inputs, halves");
  linear_weight_gradient(layer, gradient.data(), x.data(), of_weights.data(), of_bias.data(), kThreads);
  const Floats of_matrix = product(outputs, inputs, rows, [&](auto i, auto k) { return back[k * outputs + i]; },
                                   [&](auto k, auto j) { return x[k * inputs + j]; });
  const Floats of_shift = product(1, outputs, rows, [](auto, auto) { return 1.0f; },
                                  [&](auto k, auto j) { return back[k * outputs + j]; });
  expect_near(of_weights, of_matrix, 1e-4f, "a linear layer's weights");
  expect_near(of_bias, of_shift, 1e-4f, "a linear layer's bias");
}

void check_cross_network(std::size_t rows, std::size_t width) {
  const Floats first = normal(rows * width), one = normal(width * width), other = normal(width * width);
  const Floats bias = normal(width), gradient = normal(rows * width), elsewhere = normal(rows * width);
  const float* const weights[] = {one.data(), other.data()};
  const float* const biases[] = {bias.data(), bias.data()};
  const CrossLayers network{rows, width, 2, weights, biases};
  Halves given(2 * rows * width), products(2 * rows * width);
  Floats out(rows * width), of_first(rows * width), of_one(width * width), of_other(width * width);
  Floats of_bias(width), of_other_bias(width);
  float* const of_weights[] = {of_one.data(), of_other.data()};
  float* const of_biases[] = {of_bias.data(), of_other_bias.data()};
  cross_network_forward(network, first.data(), {given.data(), products.data()}, out.data(), kThreads);
  const CrossValues values{given.data(), products.data()};
  cross_network_backward(network, first.data(), values, {gradient.data(), nullptr}, of_first.data(), of_weights, of_biases,
                         kThreads);
  Floats of_both(rows * width);
  cross_network_backward(network, first.data(), values, {gradient.data(), elsewhere.data()}, of_both.data(), of_weights,
                         of_biases, kThreads);
  const Floats made = widened(products);
  Floats expected = first;
  for (std::size_t i = 0; i < 2 * rows * width; ++i) expected[i % (rows * width)] += first[i % (rows * width)] * made[i];
  expect_near(out, expected, 1e-4f, "a cross network");
  const Floats of_shift = product(1, width, rows, [](auto, auto) { return 1.0f; },
                                  [&](auto k, auto j) { return gradient[k * width + j] * first[k * width + j]; });
  expect_near(of_other_bias, of_shift, 0.02f, "a cross network's last bias");
  for (std::size_t i = 0; i < rows * width; ++i) of_first[i] += elsewhere[i];
  expect_near(of_both, of_first, 1e-4f, "gradients from elsewhere");
}

// Two parts of events, of which the second meets the query and may be rows of a table, and two layers.
struct AttentionCase {
  std::size_t samples, length, wide, met, hidden;
  bool in_table;
  std::size_t events = samples * length, width = wide + met, inputs = width + met;
  Floats first = normal(events * wide), second = normal(events * met), query = normal(samples * met);
  Floats shift = normal(samples * hidden), bias = normal(3), score = normal(3), score_bias = normal(1);
  Floats one = widened(rounded(normal(hidden * inputs))), other = widened(rounded(normal(3 * hidden)));
  std::unique_ptr<bool[]> mask{new bool[events]};
  std::unique_ptr<std::int32_t[]> rows{new std::int32_t[events]};

  AttentionNetwork network() const {
    for (std::size_t event = 0; event < events; ++event) {
      mask[event] = event % 5 != 3, rows[event] = static_cast<std::int32_t>(events - 1 - event);
    }
    return {samples, length,
            {{first.data(), wide, EventPart::kUnmet}, {second.data(), met, 0, in_table ? rows.get() : nullptr}}, mask.get(),
            query.data(), met, shift.data(),
            {{inputs, hidden, one.data(), nullptr}, {hidden, 3, other.data(), bias.data()}},
            score.data(), score_bias.data(), false};
  }

  std::size_t row(std::size_t place) const { return in_table ? events - 1 - place : place; }

  Floats event(std::size_t place) const {
    Floats values;
    for (std::size_t i = 0; i < wide; ++i) values.push_back(first[place * wide + i]);
    for (std::size_t i = 0; i < met; ++i) values.push_back(second[row(place) * met + i]);
    return values;
  }

  float weight(std::size_t place) const {
    Floats given = event(place);
    for (std::size_t i = 0; i < met; ++i) given.push_back(query[place / length * met + i] * given[wide + i]);
    given = widened(rounded(given));
    Floats between = product(1, hidden, inputs, [&](auto, auto k) { return given[k]; },
                             [&](auto k, auto i) { return one[i * inputs + k]; });
    for (std::size_t i = 0; i < hidden; ++i) between[i] = std::max(between[i] + shift[place / length * hidden + i], 0.0f);
    between = widened(rounded(between));
    const Floats last = product(1, 3, hidden, [&](auto, auto k) { return between[k]; },
                                [&](auto k, auto i) { return other[i * hidden + k]; });
    float sum = score_bias[0];
    for (std::size_t i = 0; i < 3; ++i) sum += score[i] * std::max(last[i] + bias[i], 0.0f);
    return sum;
  }
};

void check_attention(std::size_t samples, std::size_t length, std::size_t wide, std::size_t met, std::size_t hidden,
                     bool in_table = false) {
  const AttentionCase given{samples, length, wide, met, hidden, in_table};
  const AttentionNetwork network = given.network();
  const Floats gradient = normal(samples * given.width);
  Floats out(gradient.size()), of_second(given.second.size()), of_query(given.query.size()), of_shift(given.shift.size());
  Floats of_one(given.one.size()), of_other(given.other.size()), of_bias(3), of_score(3), of_score_bias(1);
  attention_forward(network, out.data(), kThreads);
  attention_backward(network, gradient.data(),
                     {{nullptr, of_second.data()}, of_query.data(), of_shift.data(), {of_one.data(), of_other.data()},
                      {nullptr, of_bias.data()}, of_score.data(), of_score_bias.data()},
                     kThreads);
  Floats expected(out.size(), 0.0f), total(1, 0.0f), absent;
  for (std::size_t place = 0; place < given.events; ++place) {
    const float* const of_event = &of_second[given.row(place) * met];
    if (!given.mask[place]) absent.insert(absent.end(), of_event, of_event + met);
    if (!given.mask[place]) continue;
    const Floats event = given.event(place);
    const float weight = given.weight(place);
    for (std::size_t i = 0, at = place / length * given.width; i < given.width; ++i, ++at) {
      expected[at] += weight * event[i];
      total[0] += event[i] * gradient[at];
    }
  }
  expect_near(out, expected, 0.01f, "target attention");
  expect_near(of_score_bias, total, 1e-3f, "the gradient of target attention's score");
  expect_near(absent, Floats(absent.size(), 0.0f), 0.0f, "the gradient of events that are not there");
}

// Two layers with gradients, in memory of exact size.
struct Hidden {
  explicit Hidden(std::size_t rows, std::size_t inputs, std::size_t outputs)
      : weights(normal(outputs * inputs)), bias(normal(outputs)), gain(normal(outputs)), offset(normal(outputs)),
        values(rows * stride_of(outputs)), kept(rows * words_of(outputs)), mean(outputs), variance(outputs),
        of_weights(outputs * inputs), of_bias(outputs), of_gain(outputs), of_offset(outputs), inputs_(inputs) {}

  HiddenLayer layer() {
    return {inputs_, bias.size(), weights.data(), bias.data(), gain.data(), offset.data(), 3,
            values.data(), kept.data(), mean.data(), variance.data()};
  }
  HiddenGradients gradients() { return {of_weights.data(), of_bias.data(), of_gain.data(), of_offset.data()}; }

  Floats weights, bias, gain, offset;
  Halves values;
  std::vector<std::uint32_t> kept;
  Floats mean, variance, of_weights, of_bias, of_gain, of_offset;

 private:
  std::size_t inputs_;
};

void check_mlp(std::size_t rows, std::size_t inputs, std::size_t outputs) {
  const Floats x = widened(rounded(normal(rows * inputs)));
  const Halves gradient = rounded(normal(rows * outputs));
  Hidden one(rows, inputs, outputs), other(rows, outputs, outputs);
  const HiddenLayer layers[] = {one.layer(), other.layer()};
  const HiddenGradients of_layers[] = {one.gradients(), other.gradients()};
  Halves out(rows * outputs);
  Floats of_x(rows * inputs);
  const HiddenLayers network{rows, 0.75f, 1e-5f, layers};
  mlp_forward(network, x.data(), out.data(), kThreads);
  mlp_backward(network, x.data(), gradient.data(), of_x.data(), of_layers, kThreads);
  Floats mean(outputs, 0.0f), results(rows * outputs), of_offset(outputs, 0.0f);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < outputs; ++i) {
      const float value = to_float(other.values[row * stride_of(outputs) + i]);
      mean[i] += value / static_cast<float>(rows);
      const bool kept = ((other.kept[row * words_of(outputs) + i / 32] >> (i % 32)) & 1u) != 0;
      const float off = (value - other.mean[i]) / std::sqrt(other.variance[i] + 1e-5f);
      if (!kept) continue;
      results[row * outputs + i] = (off * other.gain[i] + other.offset[i]) / 0.75f;
      of_offset[i] += to_float(gradient[row * outputs + i]) / 0.75f;
    }
  }
  expect_near(other.mean, mean, 1e-3f, "hidden layers' means");
  expect_near(widened(out), results, 0.02f, "hidden layers");
  expect_near(other.of_offset, of_offset, 1e-3f, "hidden layers' offsets");
  expect_near(of_x, of_x, 0.0f, "hidden layers' inputs are numbers");
}

void check_layers_on_tiles() {
  setenv("BOWERBIRD_ISA", "amx_emulated", 1);
  try {
    if (!has_tiles()) return;
  } catch (const std::invalid_argument& reason) {
    std::printf("  not checked, layers on tile registers: %s\n", reason.what());
    return;
  }
  check_linear(1, 1, 1), check_linear(33, 17, 47), check_linear(257, 33, 31), check_linear(40, 96, 20);
  check_cross_network(1, 9), check_cross_network(70, 35);
  check_attention(1, 1, 1, 1, 1), check_attention(90, 50, 3, 16, 33), check_attention(3, 301, 17, 40, 64);
  check_attention(1, 1, 1, 1, 1, true), check_attention(90, 50, 3, 16, 33, true);
  check_attention(3, 301, 17, 40, 64, true);
  check_mlp(2, 1, 1), check_mlp(130, 33, 47), check_mlp(300, 40, 20);
}

void check_narrow(std::size_t rows, std::size_t width, std::size_t outputs) {
  const Floats x = normal(rows * width), weights = normal(outputs * width), gradient = normal(rows * outputs);
  const NarrowLayer<float> layer{x.data(), rows, width, weights.data(), width, outputs};
  Floats out(rows * outputs, 0.0f), of_x(rows * width), of_weights(outputs * width), of_bias(outputs);
  narrow_forward(layer, out.data(), kThreads);
  narrow_backward(layer, gradient.data(), of_x.data(), of_weights.data(), of_bias.data(), kThreads);
  expect_near(out, product(rows, outputs, width, [&](auto i, auto k) { return x[i * width + k]; },
                           [&](auto k, auto j) { return weights[j * width + k]; }), 1e-4f, "a narrow layer");
  expect_near(of_weights, product(outputs, width, rows, [&](auto i, auto k) { return gradient[k * outputs + i]; },
                                  [&](auto k, auto j) { return x[k * width + j]; }), 1e-4f, "a narrow layer's weights");
  expect_near(of_x, product(rows, width, outputs, [&](auto i, auto k) { return gradient[i * outputs + k]; },
                            [&](auto k, auto j) { return weights[k * width + j]; }), 1e-4f, "a narrow layer's inputs");
}

void check_cross_layer(std::size_t count) {
  const Floats first = normal(count), product = normal(count), crossed = normal(count), back = normal(count);
  Floats next(count), low(count), of_crossed(count), of_product(count), of_first(count), expected(count);
  cross_forward({first.data(), product.data(), count}, crossed.data(), next.data(), low.data(), kThreads);
  cross_backward({first.data(), product.data(), count}, {back.data(), nullptr, back.data()}, of_crossed.data(),
                 of_product.data(), of_first.data(), kThreads);
  for (std::size_t i = 0; i < count; ++i) expected[i] = first[i] * product[i] + crossed[i];
  expect_near(next, expected, 1e-6f, "a cross layer");
  for (std::size_t i = 0; i < count; ++i) expected[i] = back[i] + back[i] * product[i];
  expect_near(of_first, expected, 1e-6f, "a cross layer's first");
}

void check_pool(std::size_t samples, std::size_t length, std::size_t width) {
  const Events shape{samples, length, width, 0, {}};
  const Floats weights = normal(samples * length), events = normal(samples * length * width);
  const Floats gradient = normal(samples * width);
  Floats out(samples * width), of_weights(samples * length), of_events(samples * length * width);
  pool_events(weights.data(), events.data(), shape, out.data(), kThreads);
  pool_events_backward(weights.data(), events.data(), gradient.data(), shape, of_weights.data(), of_events.data(), kThreads);
  Floats expected(out.size(), 0.0f);
  for (std::size_t i = 0; i < events.size(); ++i) {
    expected[i / (length * width) * width + i % width] += weights[i / width] * events[i];
  }
  expect_near(out, expected, 1e-5f, "pooled events");
}

void check_entropy(std::size_t rows, std::size_t members) {
  const Floats logits = normal(rows * members), noise = normal(rows);
  Floats labels(rows), weights(rows), gradient(rows * members), expected(rows * members);
  double mass = 0.0, wanted = 0.0;
  for (std::size_t i = 0; i < rows; ++i) {
    labels[i] = i % 5 == 4 ? NAN : noise[i] > 0.0f ? 1.0f : 0.0f, weights[i] = std::fabs(noise[i]) + 0.1f;
    if (labels[i] == labels[i]) mass += static_cast<double>(weights[i]) * static_cast<double>(members);
  }
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::size_t row = i / members;
    if (labels[row] != labels[row]) continue;
    const double x = static_cast<double>(logits[i]), share = static_cast<double>(weights[row]) / mass;
    const double label = static_cast<double>(labels[row]), power = std::exp(-x);
    wanted += share * (std::log1p(power) + (1.0 - label) * x);
    expected[i] = static_cast<float>(share * (1.0 / (1.0 + power) - label));
  }
  const double found = cross_entropy({rows, members, logits.data(), labels.data(), weights.data()}, gradient.data(), kThreads);
  expect(std::fabs(found - wanted) < 1e-5, "cross entropy");
  expect_near(gradient, expected, 1e-6f, "a cross entropy's gradient");
}

void check_norm(std::size_t first, std::size_t second) {
  const Floats left = normal(first), right = normal(second);
  double squares = 0.0;
  for (const float value : left) squares += static_cast<double>(value) * static_cast<double>(value);
  for (const float value : right) squares += static_cast<double>(value) * static_cast<double>(value);
  const std::span<const float> arrays[] = {left, right};
  expect(std::fabs(norm_of(arrays, kThreads) - std::sqrt(squares)) < 1e-4 * std::sqrt(squares), "a norm");
}

void check_follow(std::size_t width) {
  const Floats values = normal(width), before = normal(width);
  Floats running = before, expected(width);
  follow(values.data(), width, 0.25f, 1.5f, running.data());
  for (std::size_t i = 0; i < width; ++i) expected[i] = 0.75f * before[i] + 0.375f * values[i];
  expect_near(running, expected, 1e-6f, "running means");
}

// Fields of two ranges of a table, of which the second is read twice.
void check_fields(std::size_t samples, std::size_t width) {
  constexpr std::size_t kSize = 7, kColumns = 4, kFields = 3;
  std::vector<std::int32_t> places(samples * kColumns);
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = static_cast<std::int32_t>(i * i % kSize);
  const Fields fields{places.data(), kColumns, samples, {{3, 0}, {0, kSize}, {1, kSize}}};
  const Floats table = normal(2 * kSize * width), values = normal(samples * kFields * width);
  Floats out(values.size()), expected(values.size()), sums(table.size(), 0.0f), wanted(table.size(), 0.0f);
  gather_fields(table.data(), fields, width, out.data(), kThreads);
  scatter_fields(values.data(), fields, width, sums.data(), kThreads);
  for (std::size_t field = 0; field < kFields; ++field) {
    for (std::size_t sample = 0; sample < samples; ++sample) {
      const auto place = static_cast<std::size_t>(places[sample * kColumns + fields.fields[field].column]);
      const std::size_t row = (fields.fields[field].first + place) * width, at = (sample * kFields + field) * width;
      for (std::size_t i = 0; i < width; ++i) expected[at + i] = table[row + i], wanted[row + i] += values[at + i];
    }
  }
  expect(out == expected, "fields side by side");
  expect_near(sums, wanted, 1e-5f, "gradients of fields");
}

}  // namespace

int main() {
  check_layers_on_tiles();
  check_narrow(1, 1, 1), check_narrow(131, 37, 3);
  check_cross_layer(1), check_cross_layer(9001);
  check_pool(1, 1, 1), check_pool(37, 5, 19);
  check_entropy(1, 1), check_entropy(1300, 3);
  check_norm(1, 33), check_norm(20000, 5);
  check_follow(1), check_follow(45);
  check_fields(1, 1), check_fields(300, 10);
  std::printf("dense: %d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
