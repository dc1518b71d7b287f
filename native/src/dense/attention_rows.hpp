// Events of some samples as rows on their way through target attention, on tile registers.
// For AVX-512 with BW and BF16 alone.
#pragma once

#include <cmath>
#include <vector>

#include "dense/attention_network.hpp"
#include "dense/linear_tiles.hpp"
#include "dense/wide_values.hpp"

namespace bowerbird::tiled {

inline __m512 load_floats(const float* from, __mmask16 there) { return _mm512_maskz_loadu_ps(there, from); }

inline void store_halves(__m512 values, std::uint16_t* to, __mmask16 there) {
  const __m256bh halves = _mm512_cvtneps_pbh(values);
  _mm256_mask_storeu_epi16(to, there, reinterpret_cast<const __m256i&>(halves));
}

// A scorer's weights as factors: of the way forth by outputs, of the way back by inputs.
template <typename Pack>
std::vector<Right> packed_scorer(const AttentionNetwork& network, bool forth, const Pack& pack) {
  std::vector<Right> rights;
  for (const ScorerLayer& layer : network.layers) {
    const std::size_t columns = forth ? layer.outputs : layer.inputs;
    const Right& right = rights.emplace_back(columns, forth ? layer.inputs : layer.outputs);
    for (std::size_t side = 0; side < sides(columns); ++side) {
      pack(Linear{0, layer.inputs, layer.outputs, layer.weights}, right, side);
    }
  }
  return rights;
}

// The events that are there, one a row, sample by sample; rows up to the next 32 are of zeros.
template <typename Registers>
class AttentionRows {
 public:
  AttentionRows(const AttentionNetwork& network, const std::vector<Right>& forth, std::size_t samples)
      : network_(network), forth_(forth), room_((samples * network.length + kRows - 1) / kRows * kRows),
        events_(network.parts.size()), scores_(room_) {
    for (const Right& right : forth) {
      const std::size_t units = room_ * right.steps * kSide;
      std::fill_n(given_.emplace_back(units).data(), units, 0u);
      products_ += steps_of(right.columns);
    }
  }

  void begin(std::size_t first, std::size_t last) {
    first_ = first;
    begins_.assign(1, 0), places_.clear(), absent_.clear(), owners_.clear();
    for (std::size_t sample = first; sample < last; ++sample) {
      for (std::size_t place = sample * network_.length; place < (sample + 1) * network_.length; ++place) {
        (network_.mask[place] ? places_ : absent_).push_back(place);
      }
      owners_.resize(places_.size(), sample - first);
      begins_.push_back(places_.size());
    }
    for (std::size_t part = 0; part < events_.size(); ++part) find(network_.parts[part], events_[part]);
    for (std::size_t layer = 0; layer < forth_.size(); ++layer) clear_rest(given_[layer], forth_[layer].steps);
    std::fill_n(scores_.data(), count(), *network_.score_bias);
    const std::size_t products = products_ * ((count() + kRows - 1) / kRows);
    asked_ = last * network_.length, share_ = products > 0 ? (last - first) * network_.length / products + 1 : 0;
    for (std::size_t sample = 0; sample < samples(); ++sample) fill(sample);
  }

  std::size_t count() const { return places_.size(); }
  std::size_t samples() const { return begins_.size() - 1; }

  // Adds the rows' scores up, 32 rows at a time.
  void forth(std::size_t row) {
    through_hidden(row);
    last_layer(row, [](std::size_t, const Values&) { return [](std::size_t, const Values&) {}; });
  }

  void pool(float* out) const {
    for (std::size_t sample = 0; sample < samples(); ++sample) {
      const float scale = scale_of(sample);
      float* to = out + (first_ + sample) * network_.width();
      for (std::size_t part = 0; part < events_.size(); ++part) {
        const std::size_t width = network_.parts[part].width;
        for (std::size_t at = 0; at < width; at += kSide) pool_columns(part, at, sample, scale, to + at);
        to += width;
      }
    }
  }

 protected:
  // The way to the last layer, whose inputs are then given.
  void through_hidden(std::size_t row) {
    for (std::size_t layer = 0; layer + 1 < forth_.size(); ++layer) {
      multiply_rows<Registers>(given(layer, row), forth_[layer], [&](std::size_t column, const float* sums) {
        std::uint32_t* const to = given(layer + 1, 0) + column / 2;
        const std::size_t width = forth_[layer + 1].steps * kSide;
        rectify(layer, row, column, sums, [=](std::size_t at, const Values& values) {
          _mm512_store_si512(to + at * width, rounded(values));
        });
      });
    }
  }

  // Adds scores up. For 32 columns at a time calls what begun(column, the score's weights) returns with (row, values).
  template <typename Begun>
  void last_layer(std::size_t row, const Begun& begun) {
    const std::size_t layer = forth_.size() - 1;
    float* const scores = scores_.data();
    multiply_rows<Registers>(given(layer, row), forth_[layer], [&](std::size_t column, const float* sums) {
      const Values weights = load_values(network_.score + column, first(network_.layers[layer].outputs - column));
      const auto apply = begun(column, weights);
      rectify(layer, row, column, sums, [=](std::size_t at, const Values& values) {
        const __m512 products = _mm512_mul_ps(values.high, weights.high);
        scores[at] += _mm512_reduce_add_ps(_mm512_fmadd_ps(values.low, weights.low, products));
        apply(at, values);
      });
    });
  }

  std::uint32_t* given(std::size_t layer, std::size_t row) const {
    return given_[layer].data() + row * forth_[layer].steps * kSide;
  }

  void clear_rest(const Units& units, std::size_t steps) const {
    const std::size_t whole = (count() + kRows - 1) / kRows * kRows;
    std::fill_n(units.data() + count() * steps * kSide, (whole - count()) * steps * kSide, 0u);
  }

  float scale_of(std::size_t sample) const {
    const std::size_t events = std::max<std::size_t>(begins_[sample + 1] - begins_[sample], 1);
    return network_.scaled ? 1.0f / std::sqrt(static_cast<float>(events)) : 1.0f;
  }

  // Calls apply(row) for a sample's rows.
  template <typename Apply>
  void each(std::size_t sample, const Apply& apply) const {
    const std::size_t last = begins_[sample + 1];
    for (std::size_t row = begins_[sample]; row < last; ++row) apply(row);
  }

  // Asks for a share of the next samples' events, once for each product of 32 columns: a core that asks for many waits.
  void ask_ahead() {
    const std::size_t end = std::min(asked_ + share_, network_.samples * network_.length);
    for (const EventPart& part : network_.parts) {
      for (std::size_t place = asked_; part.rows != nullptr && place < end; ++place) ask(part.event(place), part.width);
      if (part.rows == nullptr && asked_ < end) ask(part.event(asked_), (end - asked_) * part.width);
    }
    asked_ = end;
  }

  const AttentionNetwork& network_;
  const std::vector<Right>& forth_;
  std::size_t room_, first_ = 0, asked_ = 0, share_ = 0, products_ = 0;
  std::vector<std::size_t> begins_, places_, absent_, owners_;  // rows by sample; the places of events; samples by row
  std::vector<std::vector<const float*>> events_;                // each part's by row
  std::vector<Units> given_;
  Buffer<float> scores_;

 private:
  static void ask(const float* from, std::size_t count) {
    for (std::size_t at = 0; at < count; at += kSide) _mm_prefetch(from + at, _MM_HINT_T1);
  }

  void find(const EventPart& part, std::vector<const float*>& events) const {
    events.clear();
    for (const std::size_t place : places_) events.push_back(part.event(place));
  }

  void fill(std::size_t sample) const {
    std::size_t column = 0;
    for (std::size_t part = 0; part < events_.size(); ++part) {
      const std::size_t width = network_.parts[part].width;
      for (std::size_t at = 0; at < width; at += kSide) fill_columns(part, at, column + at, sample);
      column += width;
    }
  }

  void fill_columns(std::size_t number, std::size_t at, std::size_t column, std::size_t sample) const {
    const EventPart& part = network_.parts[number];
    const auto there = static_cast<__mmask16>(first(part.width - at));
    const std::size_t stride = forth_[0].steps * kStep;
    const float* const* const events = events_[number].data();
    std::uint16_t* const rows = reinterpret_cast<std::uint16_t*>(given_[0].data()) + column;
    if (part.query == EventPart::kUnmet) {
      each(sample, [=](std::size_t row) {
        store_halves(load_floats(events[row] + at, there), rows + row * stride, there);
      });
      return;
    }
    const std::size_t met = part.query + at, product = network_.width() + met - column;
    const __m512 query = load_floats(network_.query + (first_ + sample) * network_.query_width + met, there);
    each(sample, [=](std::size_t row) {
      const __m512 event = load_floats(events[row] + at, there);
      store_halves(event, rows + row * stride, there);
      store_halves(_mm512_mul_ps(event, query), rows + row * stride + product, there);
    });
  }

  // Calls apply(row, values) with 32 columns of rows' sums after the shift or bias and the rectifier.
  template <typename Apply>
  void rectify(std::size_t layer, std::size_t row, std::size_t column, const float* sums, const Apply& apply) {
    ask_ahead();
    const ScorerLayer& of = network_.layers[layer];
    const __mmask32 there = first(of.outputs - column);
    const std::size_t last = std::min(row + kRows, count());
    for (std::size_t begin = row; begin < last;) {
      const std::size_t sample = owners_[begin], end = layer > 0 ? last : std::min(begins_[sample + 1], last);
      const float* const added = layer > 0 ? of.bias : network_.shift + (first_ + sample) * of.outputs;
      rectify_rows(load_values(added + column, there), begin, end, sums + (begin - row) * kRows, apply);
      begin = end;
    }
  }

  // A NaN stays one.
  template <typename Apply>
  static void rectify_rows(const Values& added, std::size_t begin, std::size_t end, const float* sums,
                           const Apply& apply) {
    for (std::size_t row = begin; row < end; ++row, sums += kRows) {
      const Values values = plus(load_values(sums, kAll), added);
      apply(row, Values{_mm512_max_ps(_mm512_setzero_ps(), values.low), _mm512_max_ps(_mm512_setzero_ps(), values.high)});
    }
  }

  void pool_columns(std::size_t number, std::size_t at, std::size_t sample, float scale, float* out) const {
    const auto there = static_cast<__mmask16>(first(network_.parts[number].width - at));
    const float* const* const events = events_[number].data();
    const float* const scores = scores_.data();
    __m512 sums = _mm512_setzero_ps();
    each(sample, [=, &sums](std::size_t row) {
      const __m512 weight = _mm512_set1_ps(scale * scores[row]);
      sums = _mm512_fmadd_ps(weight, load_floats(events[row] + at, there), sums);
    });
    _mm512_mask_storeu_ps(out, there, sums);
  }
};

}  // namespace bowerbird::tiled
