// Hidden layers on tile registers. For AVX-512 with BW and BF16 alone.
#pragma once

#include <cmath>
#include <vector>

#include "dense/hidden.hpp"
#include "dense/linear_tiles.hpp"
#include "dense/mlp.hpp"
#include "dense/wide_values.hpp"

namespace bowerbird::tiled {

inline Values plus_products(const Values& sum, const Values& a, const Values& b) {
  return {_mm512_fmadd_ps(a.low, b.low, sum.low), _mm512_fmadd_ps(a.high, b.high, sum.high)};
}
inline Values minus(const Values& a, const Values& b) {
  return {_mm512_sub_ps(a.low, b.low), _mm512_sub_ps(a.high, b.high)};
}
inline Values where(__mmask32 kept, const Values& values) {
  return {_mm512_maskz_mov_ps(static_cast<__mmask16>(kept), values.low),
          _mm512_maskz_mov_ps(static_cast<__mmask16>(kept >> kSide), values.high)};
}
inline Values all(float value) { return {_mm512_set1_ps(value), _mm512_set1_ps(value)}; }

// ---- activations --------------------------------------------------------------------------------------------------------

// What normalisation and dropout do to a layer's values: (values * scale + shift) / keep where they are kept.
struct Activation {
  const HiddenLayer& layer;
  std::vector<float> scale, shift;
  float upscale;

  Activation(const HiddenLayers& network, const HiddenLayer& of)
      : layer(of), scale(of.outputs, 1.0f), shift(of.outputs, 0.0f), upscale(1.0f / network.keep) {
    if (of.gain == nullptr) return;
    for (std::size_t i = 0; i < of.outputs; ++i) {
      scale[i] = of.gain[i] / std::sqrt(of.variance[i] + network.epsilon);
      shift[i] = of.offset[i] - of.mean[i] * scale[i];
    }
  }

  const BFloat16* values(std::size_t row) const { return layer.values + row * stride_of(layer.outputs); }
  std::uint32_t* kept(std::size_t row) const { return layer.kept + row * words_of(layer.outputs); }
};

// mixed() of each lane.
inline __m512i mixed(__m512i value) {
  value = _mm512_xor_si512(value, _mm512_srli_epi32(value, 16));
  value = _mm512_mullo_epi32(value, _mm512_set1_epi32(0x7feb352d));
  value = _mm512_xor_si512(value, _mm512_srli_epi32(value, 15));
  value = _mm512_mullo_epi32(value, _mm512_set1_epi32(static_cast<int>(0x846ca68bu)));
  return _mm512_xor_si512(value, _mm512_srli_epi32(value, 16));
}

// A layer's results as the way forth makes them; it notes which values are kept.
class ActivatedRows {
 public:
  ActivatedRows(const HiddenLayers& network, const HiddenLayer& layer)
      : activation_(network, layer), drops_(network.keep < 1.0f), limit_(kept_below(network.keep)) {}

  class Row {
   public:
    Row(const ActivatedRows& rows, std::size_t number)
        : rows_(rows), values_(rows.activation_.values(number)), kept_(rows.activation_.kept(number)),
          seed_(rows.drops_ ? row_seed(rows.activation_.layer.seed, number) : 0) {}

    __m512i units(std::size_t column, __mmask32 there) const {
      const Activation& activation = rows_.activation_;
      const Values scale = load_values(activation.scale.data() + column, there);
      const Values shift = load_values(activation.shift.data() + column, there);
      const Values values = plus_products(shift, load_values(values_ + column, there), scale);
      const __m512 zero = _mm512_setzero_ps();
      // What is no number is kept, so that the loss shows it.
      __mmask32 kept = _mm512_kunpackw(_mm512_cmp_ps_mask(values.high, zero, _CMP_NLE_UQ),
                                       _mm512_cmp_ps_mask(values.low, zero, _CMP_NLE_UQ));
      if (rows_.drops_) kept &= drawn(column);
      kept_[column / kStep] = kept;
      return rounded(where(kept, times(values, all(activation.upscale))));
    }

   private:
    // is_kept() of thirty-two columns: a register's halves lie in the columns' order.
    __mmask32 drawn(std::size_t column) const {
      const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
      const __m512i places = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(seed_ + column / 2)), lanes);
      return _mm512_cmplt_epu16_mask(mixed(places), _mm512_set1_epi16(static_cast<short>(rows_.limit_)));
    }

    const ActivatedRows& rows_;
    const BFloat16* values_;
    std::uint32_t* kept_;
    std::uint32_t seed_;
  };
  Row row(std::size_t number) const { return {*this, number}; }

 private:
  Activation activation_;
  bool drops_;
  std::uint32_t limit_;
};

// The same results again, on the way back.
class RecalledRows {
 public:
  RecalledRows(const HiddenLayers& network, const HiddenLayer& layer) : activation_(network, layer) {}

  __m512i halves(std::size_t row, std::size_t column, __mmask16 there) const {
    const __m512i units = halves_of(activation_.values(row) + column, there);
    const __m512 values = _mm512_castsi512_ps(_mm512_slli_epi32(units, 16));
    const __m512 scale = _mm512_maskz_loadu_ps(there, activation_.scale.data() + column);
    const __m512 shift = _mm512_maskz_loadu_ps(there, activation_.shift.data() + column);
    const auto kept = static_cast<__mmask16>(activation_.kept(row)[column / kStep] >> (column % kStep));
    const __m512 normalised = _mm512_fmadd_ps(values, scale, shift);
    const __m256bh halves = _mm512_cvtneps_pbh(_mm512_maskz_mul_ps(kept, normalised, _mm512_set1_ps(activation_.upscale)));
    return _mm512_cvtepu16_epi32(reinterpret_cast<const __m256i&>(halves));
  }

 private:
  Activation activation_;
};

// ---- sums over rows -----------------------------------------------------------------------------------------------------

// Two sums for each column, task by task: any number of threads adds up the same.
class ColumnSums {
 public:
  ColumnSums(std::size_t rows, std::size_t width)
      : stride_(words_of(width) * kStep), sums_(kEach * ((rows + kTask - 1) / kTask) * stride_) {}

  float* origin(std::size_t row, std::size_t column) const { return at(row / kTask, 0, column); }
  float* first_sum(std::size_t row, std::size_t column) const { return at(row / kTask, 1, column); }
  float* second_sum(std::size_t row, std::size_t column) const { return at(row / kTask, 2, column); }

 private:
  static constexpr std::size_t kEach = 3;
  float* at(std::size_t task, std::size_t which, std::size_t column) const {
    return sums_.data() + (task * kEach + which) * stride_ + column;
  }

  std::size_t stride_;
  Buffer<float> sums_;
};

// Results of a product, whose moments are summed as they are stored: about each task's first row, lest digits be lost.
struct MomentRows {
  const HiddenLayer& layer;
  const ColumnSums& sums;

  void take(std::size_t row, std::size_t count, std::size_t column, const float* products) const {
    const __mmask32 there = first(layer.outputs - column);
    const std::size_t stride = stride_of(layer.outputs);
    const float* const bias = layer.bias + column;
    BFloat16* to = layer.values + row * stride + column;
    float* const origin = sums.origin(row, column);
    const bool begins = row % kTask == 0;
    if (begins) store_values(values_of(store_sums(products, there, bias, to)), origin, kAll);
    const Values middle = load_values(origin, kAll);
    Values sum = begins ? all(0.0f) : load_values(sums.first_sum(row, column), kAll);
    Values squares = begins ? all(0.0f) : load_values(sums.second_sum(row, column), kAll);
    for (std::size_t i = 0; i < count; ++i, to += stride) {
      const Values off = minus(values_of(store_sums(products + i * kRows, there, bias, to)), middle);
      sum = plus(sum, off);
      squares = plus_products(squares, off, off);
    }
    store_values(sum, sums.first_sum(row, column), kAll);
    store_values(squares, sums.second_sum(row, column), kAll);
  }
};

inline void find_moments(const ColumnSums& sums, std::size_t rows, const HiddenLayer& layer) {
  const std::size_t width = layer.outputs;
  std::vector<double> mean(width, 0.0), squares(width, 0.0);
  const auto each_task = [&](const auto& apply) {
    for (std::size_t row = 0; row < rows; row += kTask) {
      apply(static_cast<double>(std::min(kTask, rows - row)), sums.origin(row, 0), sums.first_sum(row, 0), sums.second_sum(row, 0));
    }
  };
  each_task([&](double count, const float* origin, const float* sum, const float*) {
    for (std::size_t i = 0; i < width; ++i) mean[i] += static_cast<double>(origin[i]) * count + static_cast<double>(sum[i]);
  });
  for (double& each : mean) each /= static_cast<double>(rows);
  each_task([&](double count, const float* origin, const float* sum, const float* square) {
    const double share = 1.0 / count;
    for (std::size_t i = 0; i < width; ++i) {
      const double off = static_cast<double>(sum[i]) * share;
      const double from_mean = static_cast<double>(origin[i]) + off - mean[i];
      squares[i] += static_cast<double>(square[i]) + count * (from_mean * from_mean - off * off);
    }
  });
  for (std::size_t i = 0; i < width; ++i) {
    layer.mean[i] = static_cast<float>(mean[i]);
    layer.variance[i] = static_cast<float>(std::max(squares[i] / static_cast<double>(rows), 0.0));
  }
}

// Gradients of results become, for each column, slope * gradient + tilt * value + level: gradients of values.
struct Slopes {
  std::vector<float> slope, tilt, level;
};

// Adds up gradients g of results behind rectifier and dropout, and g * (value - mean), before dropout's factor.
class GradientSums {
 public:
  GradientSums(const HiddenLayers& network, const HiddenLayer& layer)
      : layer_(layer), rows_(network.rows), keep_(network.keep), epsilon_(network.epsilon), sums_(network.rows, layer.outputs) {}

  // Adds 32 columns of some rows; gradient_of(i) are row i's.
  template <typename GradientOf>
  void add(std::size_t row, std::size_t count, std::size_t column, const GradientOf& gradient_of) const {
    const __mmask32 there = first(layer_.outputs - column);
    const std::size_t stride = stride_of(layer_.outputs), words = words_of(layer_.outputs);
    const BFloat16* value = layer_.values + row * stride + column;
    const std::uint32_t* kept = layer_.kept + row * words + column / kStep;
    const Values mean = load_values(layer_.mean + column, there);
    const bool begins = row % kTask == 0;
    Values sum = begins ? all(0.0f) : load_values(sums_.first_sum(row, column), kAll);
    Values products = begins ? all(0.0f) : load_values(sums_.second_sum(row, column), kAll);
    for (std::size_t i = 0; i < count; ++i, value += stride, kept += words) {
      const Values slope = where(*kept, gradient_of(i));
      sum = plus(sum, slope);
      products = plus_products(products, slope, minus(load_values(value, there), mean));
    }
    store_values(sum, sums_.first_sum(row, column), kAll);
    store_values(products, sums_.second_sum(row, column), kAll);
  }
  bool are_wanted() const { return layer_.gain != nullptr; }

  // Gradients of gain and offset, and what those of the values are made with.
  Slopes finish(const HiddenGradients& of_layer) const {
    const std::size_t width = layer_.outputs;
    const double upscale = 1.0 / static_cast<double>(keep_), count = static_cast<double>(rows_);
    Slopes found{std::vector<float>(width, static_cast<float>(upscale)), std::vector<float>(width), std::vector<float>(width)};
    if (layer_.gain == nullptr) return found;
    std::vector<double> sums(width, 0.0), products(width, 0.0);
    for (std::size_t row = 0; row < rows_; row += kTask) {
      const float* const more = sums_.first_sum(row, 0);
      const float* const more_products = sums_.second_sum(row, 0);
      for (std::size_t i = 0; i < width; ++i) {
        sums[i] += static_cast<double>(more[i]);
        products[i] += static_cast<double>(more_products[i]);
      }
    }
    for (std::size_t i = 0; i < width; ++i) {
      const double sum = sums[i] * upscale, product = products[i] * upscale;
      const double inverse = 1.0 / std::sqrt(static_cast<double>(layer_.variance[i]) + static_cast<double>(epsilon_));
      const double gain = static_cast<double>(layer_.gain[i]) * inverse;
      const double lean = -gain * inverse * inverse * product / count;
      of_layer.gain[i] = static_cast<float>(product * inverse);
      of_layer.offset[i] = static_cast<float>(sum);
      found.slope[i] = static_cast<float>(gain * upscale);
      found.tilt[i] = static_cast<float>(lean);
      found.level[i] = static_cast<float>(-gain * sum / count - lean * static_cast<double>(layer_.mean[i]));
    }
    return found;
  }

 private:
  const HiddenLayer& layer_;
  std::size_t rows_;
  float keep_, epsilon_;
  ColumnSums sums_;
};

// Gradients of a layer's values, from those of its results.
struct GradientRows {
  const HiddenLayer& layer;
  const Slopes& slopes;
  const BFloat16* gradient;
  std::size_t stride;  // of the gradients' rows

  struct Row {
    const Slopes& slopes;
    const BFloat16* values;
    const std::uint32_t* kept;
    const BFloat16* gradient;

    __m512i units(std::size_t column, __mmask32 there) const {
      const Values behind = where(kept[column / kStep], load_values(gradient + column, there));
      const Values level = plus_products(load_values(slopes.level.data() + column, there), load_values(values + column, there),
                                         load_values(slopes.tilt.data() + column, there));
      return rounded(plus_products(level, behind, load_values(slopes.slope.data() + column, there)));
    }
  };
  Row row(std::size_t number) const {
    return {slopes, layer.values + number * stride_of(layer.outputs), layer.kept + number * words_of(layer.outputs),
            gradient + number * stride};
  }
};

// Gradients of the results of the layer below, which are summed as they are stored.
struct SummedRows {
  StoredRows<BFloat16> stored;
  const GradientSums& sums;

  void take(std::size_t row, std::size_t count, std::size_t column, const float* products) const {
    if (!sums.are_wanted()) return stored.take(row, count, column, products);
    const __mmask32 there = first(stored.width - column);
    BFloat16* const to = stored.out + row * stored.stride + column;
    sums.add(row, count, column, [&](std::size_t i) {
      return values_of(store_sums(products + i * kRows, there, nullptr, to + i * stored.stride));
    });
  }
};

// ---- the network --------------------------------------------------------------------------------------------------------

// Gradients of a layer's values for the product that makes its weights' gradient; as their rows are made, `target` is given
// the gradients of the layer's inputs, too. That may write where `source` read rows.
template <typename Registers, typename Target>
class PassedGradient {
 public:
  PassedGradient(const GradientRows& source, const Right& right, const Target& target)
      : source_(source), right_(right), target_(target) {}

  struct Room {
    mutable std::unique_ptr<Units> units;
  };

  PlainRows<BFloat16> rows(const Room& room, std::size_t row, std::size_t count) const {
    const std::size_t each = right_.steps * kSide;
    if (room.units == nullptr) room.units = std::make_unique<Units>(kPacked * each);
    for (std::size_t i = 0; i < count; i += kRows) {
      std::uint32_t* const here = room.units->data() + i * each;
      const std::size_t some = std::min(kRows, count - i);
      fill_rows(source_, row + i, some, source_.layer.outputs, here);
      multiply_rows<Registers>(here, right_, [&](std::size_t column, const float* sums) {
        target_.take(row + i, some, column, sums);
      });
    }
    return {reinterpret_cast<const BFloat16*>(room.units->data()), right_.steps * kStep};
  }

 private:
  const GradientRows& source_;
  const Right& right_;
  const Target& target_;
};

// ---- the network --------------------------------------------------------------------------------------------------------

inline Linear linear_of(const HiddenLayers& network, const HiddenLayer& layer) {
  return {network.rows, layer.inputs, layer.outputs, layer.weights};
}

// Calls task(first row, rows, column) for each 32 rows' 32 columns.
template <typename Task>
void for_parts(std::size_t rows, std::size_t width, std::size_t threads, const Task& task) {
  run_team(threads, (rows + kTask - 1) / kTask, [&](std::size_t number) {
    const std::size_t last = std::min(rows, (number + 1) * kTask);
    for (std::size_t row = number * kTask; row < last; row += kRows) {
      for (std::size_t column = 0; column < width; column += kStep) task(row, std::min(kRows, last - row), column);
    }
  });
}

template <typename Registers, typename Source>
void values_of(const HiddenLayers& network, const HiddenLayer& layer, const Source& source, std::size_t threads) {
  const Right right = packed_outputs(linear_of(network, layer), threads);
  if (layer.gain == nullptr) {
    const StoredRows<BFloat16> target{layer.values, layer.outputs, stride_of(layer.outputs), layer.bias};
    rows_product<Registers>(source, network.rows, layer.inputs, right, target, threads);
    return;
  }
  const ColumnSums sums(network.rows, layer.outputs);
  const MomentRows target{layer, sums};
  rows_product<Registers>(source, network.rows, layer.inputs, right, target, threads);
  find_moments(sums, network.rows, layer);
}

template <typename Registers, typename T>
void mlp_forward(const HiddenLayers& network, const T* x, BFloat16* out, std::size_t threads) {
  const std::span layers = network.layers;
  values_of<Registers>(network, layers[0], PlainRows<T>{x, layers[0].inputs}, threads);
  for (std::size_t i = 1; i < layers.size(); ++i) {
    values_of<Registers>(network, layers[i], ActivatedRows(network, layers[i - 1]), threads);
  }
  const ActivatedRows last(network, layers.back());
  const std::size_t width = layers.back().outputs;
  run_team(threads, (network.rows + kTask - 1) / kTask, [&](std::size_t task) {
    for (std::size_t i = task * kTask; i < std::min(network.rows, (task + 1) * kTask); ++i) {
      const ActivatedRows::Row row = last.row(i);
      for (std::size_t column = 0; column < width; column += kStep) {
        const __mmask32 there = first(width - column);
        _mm512_mask_storeu_epi16(out + i * width + column, there, row.units(column, there));
      }
    }
  });
}

inline void add_gradients(const GradientSums& sums, const BFloat16* gradient, Shape shape, std::size_t threads) {
  for_parts(shape.rows, shape.width, threads, [&](std::size_t row, std::size_t count, std::size_t column) {
    const __mmask32 there = first(shape.width - column);
    sums.add(row, count, column, [&](std::size_t i) {
      return load_values(gradient + (row + i) * shape.width + column, there);
    });
  });
}

// The way back through one layer to the results of the one below.
template <typename Registers, typename Source, typename Target>
void back_through(const HiddenLayers& network, const GradientRows& gradient, const Source& below, const Target& target,
                  const HiddenGradients& of_layer, std::size_t threads) {
  const Linear linear = linear_of(network, gradient.layer);
  const Right right = packed_inputs(linear, threads);
  using Passed = PassedGradient<Registers, Target>;
  const Passed passed(gradient, right, target);
  WeightProduct<Registers, Passed, Source>(linear, passed, below, true).run(threads, of_layer.weights, of_layer.bias);
}

template <typename Registers, typename T>
void mlp_backward(const HiddenLayers& network, const T* x, const BFloat16* gradient, T* of_x,
                  std::span<const HiddenGradients> of_layers, std::size_t threads) {
  const std::span layers = network.layers;
  const HiddenLayer& outer = layers.back();
  const GradientSums outer_sums(network, outer);
  if (outer_sums.are_wanted()) add_gradients(outer_sums, gradient, {network.rows, outer.outputs}, threads);
  Slopes slopes = outer_sums.finish(of_layers.back());
  Buffer<BFloat16> room(0);
  std::size_t stride = outer.outputs;
  for (std::size_t i = layers.size() - 1; i > 0; --i) {
    const HiddenLayer& below = layers[i - 1];
    const std::size_t next_stride = stride_of(below.outputs);
    const bool fits = gradient == room.data() && next_stride == stride;
    Buffer<BFloat16> next(fits ? 0 : network.rows * next_stride);
    BFloat16* const to = fits ? room.data() : next.data();
    const GradientSums sums(network, below);
    const SummedRows target{{to, below.outputs, next_stride, nullptr}, sums};
    const GradientRows source{layers[i], slopes, gradient, stride};
    back_through<Registers>(network, source, RecalledRows(network, below), target, of_layers[i], threads);
    slopes = sums.finish(of_layers[i - 1]);
    if (!fits) room = std::move(next);
    gradient = to, stride = next_stride;
  }
  const HiddenLayer& inner = layers.front();
  const StoredRows<T> target{of_x, inner.inputs, inner.inputs, nullptr};
  const GradientRows source{inner, slopes, gradient, stride};
  back_through<Registers>(network, source, PlainRows<T>{x, inner.inputs}, target, of_layers.front(), threads);
}

}  // namespace bowerbird::tiled
