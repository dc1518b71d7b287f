#include "dense/narrow.hpp"

#include <algorithm>
#include <vector>

#include "base/team.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 64;  // rows that one task takes; sums are formed per block, then in block order
constexpr std::size_t kRows = 4;    // rows that are added up before they meet a weight's sum
constexpr std::size_t kLanes = 32;  // sums of a product that go on side by side

template <typename T>
BOWERBIRD_INLINE float product_of(const T* x, const float* weights, std::size_t width) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += to_float(x[i + lane]) * weights[i + lane];
  }
  for (std::size_t lane = 0; i < width; ++i, ++lane) lanes[lane] += to_float(x[i]) * weights[i];
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

template <typename T>
BOWERBIRD_INLINE void forward_rows(const NarrowLayer<T>& layer, std::size_t first, std::size_t last, float* out) {
  for (std::size_t row = first; row < last; ++row) {
    for (std::size_t output = 0; output < layer.outputs; ++output) {
      out[row * layer.outputs + output] +=
          product_of(layer.x + row * layer.width, layer.weights + output * layer.stride, layer.width);
    }
  }
}

// Adds the rows' gradients times their inputs to the weights' sums.
template <std::size_t rows, typename T>
BOWERBIRD_INLINE void add_weights(const T* x, std::size_t width, const float* gradient, std::size_t outputs,
                                  float* sums) {
  for (std::size_t output = 0; output < outputs; ++output) {
    float factors[rows];
    for (std::size_t row = 0; row < rows; ++row) factors[row] = gradient[row * outputs + output];
    float* const sum = sums + output * width;
    for (std::size_t i = 0; i < width; ++i) {
      float total = 0.0f;
      for (std::size_t row = 0; row < rows; ++row) total += factors[row] * to_float(x[row * width + i]);
      sum[i] += total;
    }
  }
}

// The gradient of one row's inputs; `total` is room for `width` values.
template <typename T>
BOWERBIRD_INLINE void inputs_of_row(const float* gradient, const float* weights, std::size_t stride,
                                    std::size_t outputs, std::size_t width, float* total, T* result) {
  const float factor = gradient[0];
  for (std::size_t i = 0; i < width; ++i) total[i] = factor * weights[i];
  for (std::size_t output = 1; output < outputs; ++output) {
    const float another = gradient[output];
    const float* const row = weights + output * stride;
    for (std::size_t i = 0; i < width; ++i) total[i] += another * row[i];
  }
  for (std::size_t i = 0; i < width; ++i) store(total[i], result[i]);
}

template <typename T>
BOWERBIRD_INLINE void backward_rows(const NarrowLayer<T>& layer, std::size_t first, std::size_t last,
                                    const float* gradient, T* gradient_x, float* sums, float* room) {
  const std::size_t width = layer.width, outputs = layer.outputs;
  std::size_t row = first;
  for (; row + kRows <= last; row += kRows) {
    add_weights<kRows>(layer.x + row * width, width, gradient + row * outputs, outputs, sums);
  }
  for (; row < last; ++row) add_weights<1>(layer.x + row * width, width, gradient + row * outputs, outputs, sums);
  for (row = first; row < last; ++row) {
    inputs_of_row(gradient + row * outputs, layer.weights, layer.stride, outputs, width, room, gradient_x + row * width);
  }
}

#define BOWERBIRD_FOR_EACH_TYPE(define) define(float) define(BFloat16)

#define BOWERBIRD_KERNELS(T)                                                                                           \
  BOWERBIRD_CLONES void forward_kernel(const NarrowLayer<T>& layer, std::size_t first, std::size_t last, float* out) { \
    forward_rows(layer, first, last, out);                                                                             \
  }                                                                                                                    \
  BOWERBIRD_CLONES void backward_kernel(const NarrowLayer<T>& layer, std::size_t first, std::size_t last,              \
                                        const float* gradient, T* gradient_x, float* sums, float* room) {              \
    backward_rows(layer, first, last, gradient, gradient_x, sums, room);                                               \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_KERNELS)

// Calls task(block, first row, row after the last).
template <typename Task>
void for_blocks(std::size_t rows, std::size_t threads, const Task& task) {
  run_team(threads, (rows + kBlock - 1) / kBlock, [&](std::size_t block) {
    task(block, block * kBlock, std::min(rows, (block + 1) * kBlock));
  });
}

template <typename T>
void forward(const NarrowLayer<T>& layer, float* out, std::size_t threads) {
  for_blocks(layer.rows, threads, [&](std::size_t, std::size_t first, std::size_t last) {
    forward_kernel(layer, first, last, out);
  });
}

template <typename T>
void add_biases(const NarrowLayer<T>& layer, const float* gradient, float* gradient_bias) {
  std::vector<double> sums(layer.outputs, 0.0);
  for (std::size_t row = 0; row < layer.rows; ++row) {
    for (std::size_t output = 0; output < layer.outputs; ++output) {
      sums[output] += static_cast<double>(gradient[row * layer.outputs + output]);
    }
  }
  for (std::size_t output = 0; output < layer.outputs; ++output) gradient_bias[output] = static_cast<float>(sums[output]);
}

template <typename T>
void backward(const NarrowLayer<T>& layer, const float* gradient, T* gradient_x, float* gradient_weights,
              float* gradient_bias, std::size_t threads) {
  if (gradient_bias != nullptr) add_biases(layer, gradient, gradient_bias);
  const std::size_t each = layer.outputs * layer.width, blocks = (layer.rows + kBlock - 1) / kBlock;
  std::vector<float> sums(blocks * each, 0.0f), room(blocks * layer.width);
  for_blocks(layer.rows, threads, [&](std::size_t block, std::size_t first, std::size_t last) {
    backward_kernel(layer, first, last, gradient, gradient_x, sums.data() + block * each,
                    room.data() + block * layer.width);
  });
  std::vector<double> totals(each, 0.0);
  for (std::size_t block = 0; block < blocks; ++block) {
    for (std::size_t i = 0; i < each; ++i) totals[i] += static_cast<double>(sums[block * each + i]);
  }
  for (std::size_t i = 0; i < each; ++i) {
    gradient_weights[i / layer.width * layer.stride + i % layer.width] = static_cast<float>(totals[i]);
  }
}

}  // namespace

#define BOWERBIRD_PUBLIC(T)                                                                                     \
  void narrow_forward(const NarrowLayer<T>& layer, float* out, std::size_t threads) {                          \
    forward(layer, out, threads);                                                                               \
  }                                                                                                             \
  void narrow_backward(const NarrowLayer<T>& layer, const float* gradient, T* gradient_x, float* gradient_weights, \
                       float* gradient_bias, std::size_t threads) {                                             \
    backward(layer, gradient, gradient_x, gradient_weights, gradient_bias, threads);                            \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_PUBLIC)

}  // namespace bowerbird
