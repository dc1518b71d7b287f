// Target attention's two ways on tile registers. For AVX-512 with BW and BF16 alone.
#pragma once

#include <optional>
#include <vector>

#include "dense/attention_row_gradients.hpp"
#include "dense/attention_rows.hpp"
#include "dense/attention_sums.hpp"

namespace bowerbird::tiled {

constexpr std::size_t kBlockRows = 512;  // events of the samples that go through all layers together

// Rows on their way back, too.
template <typename Registers>
class AttentionBack : AttentionRows<Registers> {
  using Rows = AttentionRows<Registers>;
  using Rows::network_, Rows::forth_, Rows::first_, Rows::begins_, Rows::places_, Rows::absent_, Rows::events_,
      Rows::scores_, Rows::given_, Rows::room_;

 public:
  AttentionBack(const AttentionNetwork& network, const std::vector<Right>& forth, const std::vector<Right>& back,
                std::size_t samples, const float* gradient, const AttentionGradients& of, float* sums,
                AttentionRowGradients& of_rows)
      : Rows(network, forth, samples), back_(back), gradient_(gradient), of_(of), places_of_(network), sums_(sums),
        of_rows_(of_rows), of_scores_(room_), of_inputs_(room_ * stride()) {
    for (const Right& right : back) {
      of_outputs_.emplace_back(room_ * right.steps * kSide);
      this->products_ += steps_of(right.columns);
    }
    std::size_t left = 0, right = 0;
    for (const ScorerLayer& layer : network.layers) {
      left = std::max(left, sides(layer.outputs)), right = std::max(right, sides(layer.inputs));
    }
    left_.emplace(left * room_ / kStep * kUnits), right_.emplace(right * room_ / kStep * kUnits);
  }

  void run(std::size_t first, std::size_t last) {
    this->begin(first, last);
    for (std::size_t layer = 0; layer < back_.size(); ++layer) this->clear_rest(of_outputs_[layer], back_[layer].steps);
    for (std::size_t sample = 0; sample < this->samples(); ++sample) meet(sample);
    for (std::size_t row = 0; row < this->count(); row += kRows) {
      this->through_hidden(row);
      turn(row);
      through_layers(row);
    }
    for (std::size_t sample = 0; sample < this->samples(); ++sample) spread(sample);
    clear_absent();
    of_rows_.keep(places_);
    for (std::size_t layer = 0; layer < back_.size(); ++layer) add_layer(layer);
  }

 private:
  std::size_t stride() const { return steps_of(network_.layers[0].inputs) * kStep; }
  std::uint32_t* of_output(std::size_t layer, std::size_t row) const {
    return of_outputs_[layer].data() + row * back_[layer].steps * kSide;
  }
  const float* gradient(std::size_t sample) const { return gradient_ + (first_ + sample) * network_.width(); }

  // Gradients of a sample's scores.
  void meet(std::size_t sample) {
    const float scale = this->scale_of(sample);
    float total = 0.0f;
    this->each(sample, [&](std::size_t row) {
      __m512 sum = _mm512_setzero_ps();
      const float* back = gradient(sample);
      for (std::size_t part = 0; part < events_.size(); ++part) {
        const std::size_t width = network_.parts[part].width;
        for (std::size_t at = 0; at < width; at += kSide) {
          const auto there = static_cast<__mmask16>(first(width - at));
          sum = _mm512_fmadd_ps(load_floats(events_[part][row] + at, there), load_floats(back + at, there), sum);
        }
        back += width;
      }
      of_scores_.data()[row] = scale * _mm512_reduce_add_ps(sum);
      total += of_scores_.data()[row];
    });
    *places_of_.score_bias(sums_) += total;
  }

  // The last layer's way forth, and the score's way back.
  void turn(std::size_t row) {
    const std::size_t layer = back_.size() - 1, width = back_[layer].steps * kSide;
    const float* const gradients = of_scores_.data();
    this->last_layer(row, [&](std::size_t column, const Values& weights) {
      std::uint32_t* const to = of_output(layer, 0) + column / 2;
      float* const total = places_of_.score(sums_) + column;
      return [=](std::size_t at, const Values& values) {
        const __m512 gradient = _mm512_set1_ps(gradients[at]), zero = _mm512_setzero_ps();
        store_values(plus(load_values(total, kAll), times({gradient, gradient}, values)), total, kAll);
        const __mmask16 low = _mm512_cmp_ps_mask(values.low, zero, _CMP_NEQ_UQ);
        const __mmask16 high = _mm512_cmp_ps_mask(values.high, zero, _CMP_NEQ_UQ);
        const Values back{_mm512_maskz_mul_ps(low, gradient, weights.low), _mm512_maskz_mul_ps(high, gradient, weights.high)};
        _mm512_store_si512(to + at * width, rounded(back));
      };
    });
  }

  void through_layers(std::size_t row) {
    const std::size_t last = std::min(row + kRows, this->count());
    for (std::size_t layer = back_.size() - 1; layer > 0; --layer) {
      const std::size_t width = forth_[layer].steps * kSide;
      multiply_rows<Registers>(of_output(layer, row), back_[layer], [&](std::size_t column, const float* sums) {
        this->ask_ahead();
        const std::uint32_t* from = this->given(layer, row) + column / 2;
        std::uint32_t* to = of_output(layer - 1, row) + column / 2;
        for (std::size_t at = row; at < last; ++at, sums += kRows, from += width, to += width) {
          const __m512i values = _mm512_load_si512(from);
          const __mmask32 passed = _mm512_test_epi16_mask(values, values);
          _mm512_store_si512(to, _mm512_maskz_mov_epi16(passed, rounded(load_values(sums, kAll))));
        }
      });
    }
    for (std::size_t column = 0; column < network_.layers[0].inputs; column += kStep) {
      this->ask_ahead();
      float* const to = of_inputs_.data() + row * stride() + column;
      multiply_columns<Registers>(of_output(0, row), back_[0], column, to, stride());
    }
  }

  // Gradients of a sample's events, query and shift.
  void spread(std::size_t sample) const {
    std::size_t column = 0;
    for (std::size_t part = 0; part < network_.parts.size(); ++part) {
      for (std::size_t at = 0; at < network_.parts[part].width; at += kSide) {
        spread_columns(sample, part, at, column + at);
      }
      column += network_.parts[part].width;
    }
    const std::size_t outputs = network_.layers[0].outputs;
    add_rows(0, begins_[sample], begins_[sample + 1], [&](std::size_t at, const Values& sums) {
      store_values(sums, of_.shift + (first_ + sample) * outputs + at, first(outputs - at));
    });
  }

  void spread_columns(std::size_t sample, std::size_t number, std::size_t at, std::size_t column) const {
    const EventPart& part = network_.parts[number];
    if (part.query != EventPart::kUnmet) spread_query(sample, number, at);
    if (of_.parts[number] == nullptr) return;
    const auto there = static_cast<__mmask16>(first(part.width - at));
    const bool met = part.query != EventPart::kUnmet;
    const std::size_t query = (first_ + sample) * network_.query_width + part.query + at;
    const __m512 meets = met ? load_floats(network_.query + query, there) : _mm512_setzero_ps();
    const __m512 pooled = load_floats(gradient(sample) + column, there);
    const std::size_t product = met ? network_.width() + part.query + at - column : 0, step = stride(), width = part.width;
    const float scale = this->scale_of(sample);
    const float *const back = of_inputs_.data() + column, *const scores = scores_.data();
    float* const to = (part.rows == nullptr ? of_.parts[number] : of_rows_.next(number)) + at;
    const std::size_t* const places = part.rows == nullptr ? places_.data() : nullptr;
    const bool lines = places != nullptr && are_lines(to, width);
    this->each(sample, [=](std::size_t row) {
      const __m512 weight = _mm512_set1_ps(scale * scores[row]), direct = load_floats(back + row * step, there);
      const __m512 through = load_floats(back + row * step + product, there);
      const __m512 total = _mm512_fmadd_ps(through, meets, _mm512_fmadd_ps(weight, pooled, direct));
      put(total, to + (places == nullptr ? row : places[row]) * width, there, lines);
    });
  }

  void spread_query(std::size_t sample, std::size_t number, std::size_t at) const {
    const EventPart& part = network_.parts[number];
    const auto there = static_cast<__mmask16>(first(part.width - at));
    const std::size_t column = part.query + at, step = stride();
    const float* const* const events = events_[number].data();
    const float* const back = of_inputs_.data() + network_.width() + column;
    __m512 sums = _mm512_setzero_ps();
    this->each(sample, [=, &sums](std::size_t row) {
      sums = _mm512_fmadd_ps(load_floats(back + row * step, there), load_floats(events[row] + at, there), sums);
    });
    _mm512_mask_storeu_ps(of_.query + (first_ + sample) * network_.query_width + column, there, sums);
  }

  void clear_absent() const {
    for (std::size_t number = 0; number < network_.parts.size(); ++number) {
      if (network_.parts[number].rows != nullptr) continue;
      float* const to = of_.parts[number];
      const std::size_t width = network_.parts[number].width;
      const bool lines = are_lines(to, width);
      for (std::size_t at = 0; to != nullptr && at < width; at += kSide) {
        const auto there = static_cast<__mmask16>(first(width - at));
        for (const std::size_t place : absent_) put(_mm512_setzero_ps(), to + place * width + at, there, lines);
      }
    }
  }

  static bool are_lines(const float* to, std::size_t width) {
    return width % kSide == 0 && reinterpret_cast<std::uintptr_t>(to) % 64 == 0;
  }

  // A whole line goes to memory past the caches: it is too long until somebody reads it.
  static void put(__m512 values, float* to, __mmask16 there, bool lines) {
    lines ? _mm512_stream_ps(to, values) : _mm512_mask_storeu_ps(to, there, values);
  }

  // Calls apply(column, sums) with the sums of a layer's gradients over rows, 32 columns at a time.
  template <typename Apply>
  void add_rows(std::size_t layer, std::size_t begin, std::size_t end, const Apply& apply) const {
    for (std::size_t column = 0; column < network_.layers[layer].outputs; column += kStep) {
      Values sums{_mm512_setzero_ps(), _mm512_setzero_ps()};
      const std::uint32_t* from = of_output(layer, begin) + column / 2;
      for (std::size_t row = begin; row < end; ++row, from += back_[layer].steps * kSide) {
        sums = plus(sums, load_values(reinterpret_cast<const BFloat16*>(from), kAll));
      }
      apply(column, sums);
    }
  }

  // Adds to the gradients of a layer's weights and bias.
  void add_layer(std::size_t layer) const {
    const ScorerLayer& shape = network_.layers[layer];
    const std::size_t steps = steps_of(this->count()), down = sides(shape.outputs), across = sides(shape.inputs);
    for (std::size_t step = 0; step < steps; ++step) {
      pack_step<true>(of_output(layer, step * kRows), back_[layer].steps, down, left_->data() + step * kUnits, steps);
      pack_step<false>(this->given(layer, step * kRows), forth_[layer].steps, across, right_->data() + step * kUnits,
                       steps);
    }
    auto* const to = reinterpret_cast<std::uint32_t*>(places_of_.weights(sums_, layer));
    if (steps > 0) PackedProduct<Registers>(down, across).run(left_->data(), right_->data(), steps, true, to);
    if (layer == 0) return;
    add_rows(layer, 0, this->count(), [&](std::size_t column, const Values& sums) {
      float* const bias = places_of_.bias(sums_, layer) + column;
      store_values(plus(load_values(bias, kAll), sums), bias, kAll);
    });
  }

  // 32 rows as a step of factors that are added up by rows: pairs of rows become units, turned where outputs are rows.
  template <bool kTurned>
  static void pack_step(const std::uint32_t* rows, std::size_t width, std::size_t sides, std::uint32_t* to,
                        std::size_t steps) {
    for (std::size_t side = 0; side < sides; ++side) {
      const std::uint32_t* const from = rows + side / 2 * kSide;
      const __m512i order = interleaved(side % 2 * kSide);
      __m512i units[kSide];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kSide; ++i) {
        const __m512i lower = _mm512_load_si512(from + 2 * i * width * kSide);
        const __m512i upper = _mm512_load_si512(from + (2 * i + 1) * width * kSide);
        units[i] = _mm512_permutex2var_epi16(lower, order, upper);
      }
      if constexpr (kTurned) transpose(units);
      store_rows(units, to + side * steps * kUnits);
    }
  }

  // The order that takes sixteen halves from `begin` on of two rows in turns.
  static __m512i interleaved(std::size_t begin) {
    alignas(64) std::uint16_t order[kStep];
    for (std::size_t i = 0; i < kStep; ++i) order[i] = static_cast<std::uint16_t>(begin + i / 2 + i % 2 * kStep);
    return _mm512_load_si512(order);
  }

  const std::vector<Right>& back_;
  const float* gradient_;
  const AttentionGradients& of_;
  AttentionSums places_of_;
  float* sums_;
  AttentionRowGradients& of_rows_;
  Buffer<float> of_scores_, of_inputs_;
  std::vector<Units> of_outputs_;
  std::optional<Units> left_, right_;
};

// Samples in chunks that the shape alone decides; each goes through the network in blocks.
struct AttentionChunks {
  explicit AttentionChunks(const AttentionNetwork& network)
      : samples(network.samples), block(std::max<std::size_t>(kBlockRows / network.length, 1)) {
    const std::size_t least = (kLeastRows + network.length - 1) / network.length;
    each = std::max((samples + kMostBlocks - 1) / kMostBlocks, least);
  }

  std::size_t count() const { return (samples + each - 1) / each; }

  // Calls task(first sample, last) for a chunk's blocks.
  template <typename Task>
  void for_blocks(std::size_t chunk, const Task& task) const {
    const std::size_t last = std::min(samples, (chunk + 1) * each);
    for (std::size_t sample = chunk * each; sample < last; sample += block) task(sample, std::min(last, sample + block));
  }

  std::size_t samples, block, each;
};

template <typename Registers>
void attention_forward(const AttentionNetwork& network, float* out, std::size_t threads) {
  const std::vector<Right> forth = packed_scorer(network, true, pack_outputs);
  const AttentionChunks chunks(network);
  run_team(threads, chunks.count(), [&](std::size_t chunk) {
    const Opened<Registers> opened;
    AttentionRows<Registers> rows(network, forth, chunks.block);
    chunks.for_blocks(chunk, [&](std::size_t first, std::size_t last) {
      rows.begin(first, last);
      for (std::size_t row = 0; row < rows.count(); row += kRows) rows.forth(row);
      rows.pool(out);
    });
  });
}

template <typename Registers>
void attention_backward(const AttentionNetwork& network, const float* gradient, const AttentionGradients& of,
                        std::size_t threads) {
  const std::vector<Right> forth = packed_scorer(network, true, pack_outputs);
  const std::vector<Right> back = packed_scorer(network, false, pack_inputs);
  const AttentionSums places(network);
  const AttentionChunks chunks(network);
  const Buffer<float> sums(chunks.count() * places.size());
  const std::size_t together = AttentionRowGradients::there(network) ? std::max<std::size_t>(threads, 1) : chunks.count();
  std::vector<AttentionRowGradients> of_rows;
  while (of_rows.size() < together) of_rows.emplace_back(network, of, chunks.each);
  for (std::size_t begin = 0; begin < chunks.count(); begin += together) {
    const std::size_t count = std::min(together, chunks.count() - begin);
    run_team(threads, count, [&](std::size_t slot) {
      const Opened<Registers> opened;
      float* const own = sums.data() + (begin + slot) * places.size();
      std::fill_n(own, places.size(), 0.0f);
      AttentionBack<Registers> rows(network, forth, back, chunks.block, gradient, of, own, of_rows[slot]);
      chunks.for_blocks(begin + slot, [&](std::size_t first, std::size_t last) { rows.run(first, last); });
      _mm_sfence();
    });
    add_up(std::span(of_rows).first(count), std::max<std::size_t>(threads, 1));
  }
  places.total(sums.data(), chunks.count(), of);
}

}  // namespace bowerbird::tiled
