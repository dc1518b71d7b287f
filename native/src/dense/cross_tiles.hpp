// A cross network on tile registers. For AVX-512 with BW and BF16 alone.
#pragma once

#include <vector>

#include "dense/cross_network.hpp"
#include "dense/linear_tiles.hpp"
#include "dense/wide_values.hpp"

namespace bowerbird::tiled {

// Thirty-two rows on their way through the layers.
template <typename Registers>
class CrossRows {
 public:
  CrossRows(const CrossLayers& network, const float* first, const CrossValues& values, std::size_t row, std::size_t count,
            std::uint32_t* room)
      : network_(network), first_(first + row * network.width), values_(values), row_(row), count_(count), room_(room),
        steps_(steps_of(network.width)), now_(kRows * steps_ * kStep) {
    std::fill_n(room + count * steps_ * kSide, (kRows - count) * steps_ * kSide, 0u);
  }

  void forth(const std::vector<Right>& rights, float* out) {
    each([&](std::size_t at, std::size_t here, __mmask32 there) {
      store_values(load_values(first_ + at, there), now_.data() + here, kAll);
    });
    for (std::size_t layer = 0; layer < network_.layers; ++layer) {
      BFloat16* const given = values_.given + place(layer);
      each([&](std::size_t at, std::size_t here, __mmask32 there) {
        const __m512i units = rounded(load_values(now_.data() + here, kAll));
        _mm512_mask_storeu_epi16(given + at, there, units);
        _mm512_store_si512(room_ + here / 2, units);
      });
      multiply_rows<Registers>(room_, rights[layer],
                               [&](std::size_t column, const float* sums) { cross(layer, column, sums); });
    }
    each([&](std::size_t at, std::size_t here, __mmask32 there) {
      store_values(load_values(now_.data() + here, kAll), out + row_ * network_.width + at, there);
    });
  }

  void back(const std::vector<Right>& rights, const CrossBack& given, BFloat16* of_products, float* of_first) {
    const Buffer<float> total(kRows * steps_ * kStep);
    const std::size_t begin = row_ * network_.width;
    each([&](std::size_t at, std::size_t here, __mmask32 there) {
      store_values(load_values(given.out + begin + at, there), now_.data() + here, kAll);
      const Values nothing{_mm512_setzero_ps(), _mm512_setzero_ps()};
      store_values(given.first == nullptr ? nothing : load_values(given.first + begin + at, there), total.data() + here, kAll);
    });
    for (std::size_t layer = network_.layers; layer-- > 0;) {
      const BFloat16* const products = values_.products + place(layer);
      BFloat16* const of_product = of_products + place(layer);
      each([&](std::size_t at, std::size_t here, __mmask32 there) {
        const Values now = load_values(now_.data() + here, kAll);
        float* const sum = total.data() + here;
        store_values(plus(load_values(sum, kAll), times(now, load_values(products + at, there))), sum, kAll);
        const __m512i units = rounded(times(now, load_values(first_ + at, there)));
        _mm512_mask_storeu_epi16(of_product + at, there, units);
        _mm512_store_si512(room_ + here / 2, units);
      });
      multiply_rows<Registers>(room_, rights[layer], [&](std::size_t column, const float* sums) {
        for (std::size_t i = 0; i < count_; ++i) {
          float* const now = now_.data() + i * steps_ * kStep + column;
          store_values(plus(load_values(now, kAll), load_values(sums + i * kRows, kAll)), now, kAll);
        }
      });
    }
    each([&](std::size_t at, std::size_t here, __mmask32 there) {
      const Values sum = plus(load_values(total.data() + here, kAll), load_values(now_.data() + here, kAll));
      store_values(sum, of_first + begin + at, there);
    });
  }

 private:
  // Where this block's values of a layer begin.
  std::size_t place(std::size_t layer) const { return (layer * network_.rows + row_) * network_.width; }

  // Calls apply(place in the rows, place in whole steps, which are there) for each step of each row.
  template <typename Apply>
  void each(const Apply& apply) const {
    for (std::size_t i = 0; i < count_; ++i) {
      for (std::size_t step = 0; step < steps_; ++step) {
        apply(i * network_.width + step * kStep, (i * steps_ + step) * kStep, first(network_.width - step * kStep));
      }
    }
  }

  // Thirty-two columns of first * product + what the layer was given.
  void cross(std::size_t layer, std::size_t column, const float* sums) {
    const __mmask32 there = first(network_.width - column);
    const Values bias = load_values(network_.biases[layer] + column, there);
    for (std::size_t i = 0; i < count_; ++i) {
      const std::size_t at = i * network_.width + column;
      BFloat16* const product = values_.products + place(layer) + at;
      _mm512_mask_storeu_epi16(product, there, rounded(plus(load_values(sums + i * kRows, kAll), bias)));
      float* const now = now_.data() + i * steps_ * kStep + column;
      const Values crossed = times(load_values(first_ + at, there), load_values(product, there));
      store_values(plus(load_values(now, kAll), crossed), now, kAll);
    }
  }

  const CrossLayers& network_;
  const float* first_;
  const CrossValues& values_;
  std::size_t row_, count_;
  std::uint32_t* room_;
  std::size_t steps_;
  Buffer<float> now_;
};

template <typename Pack>
std::vector<Right> packed_layers(const CrossLayers& network, std::size_t threads, const Pack& pack) {
  std::vector<Right> rights;
  for (std::size_t layer = 0; layer < network.layers; ++layer) rights.emplace_back(network.width, network.width);
  const std::size_t each = sides(network.width);
  run_team(threads, network.layers * each, [&](std::size_t task) {
    const Linear layer{network.rows, network.width, network.width, network.weights[task / each]};
    pack(layer, rights[task / each], task % each);
  });
  return rights;
}

template <typename Registers>
void cross_forward(const CrossLayers& network, const float* first, const CrossValues& values, float* out,
                   std::size_t threads) {
  const std::vector<Right> rights = packed_layers(network, threads, pack_outputs);
  for_rows<Registers>(network.rows, network.width, threads, [&](std::size_t row, std::size_t count, std::uint32_t* room) {
    CrossRows<Registers>(network, first, values, row, count, room).forth(rights, out);
  });
}

template <typename Registers>
void cross_backward(const CrossLayers& network, const float* first, const CrossValues& values, const CrossBack& back,
                    float* of_first, float* const* of_weights, float* const* of_biases, std::size_t threads) {
  const std::vector<Right> rights = packed_layers(network, threads, pack_inputs);
  const std::size_t each = network.rows * network.width;
  const Buffer<BFloat16> of_products(network.layers * each);
  for_rows<Registers>(network.rows, network.width, threads, [&](std::size_t row, std::size_t count, std::uint32_t* room) {
    CrossRows<Registers>(network, first, values, row, count, room).back(rights, back, of_products.data(), of_first);
  });
  for (std::size_t layer = 0; layer < network.layers; ++layer) {
    const Linear linear{network.rows, network.width, network.width, network.weights[layer]};
    weight_gradient<Registers>(linear, of_products.data() + layer * each, values.given + layer * each, of_weights[layer],
                               of_biases[layer], threads);
  }
}

}  // namespace bowerbird::tiled
