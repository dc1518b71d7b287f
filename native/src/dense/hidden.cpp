#include "dense/hidden.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/team.hpp"
#include "dense/dropout.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 64;  // rows that one task takes; sums are formed per block, then in block order
constexpr std::size_t kRows = 4;    // rows that are added up before they meet a column's sum

// Adds x - origin and its square of some rows to the columns' sums.
template <std::size_t rows, typename T>
BOWERBIRD_INLINE void add_moments(const T* x, std::size_t width, const float* origin, float* sum, float* squares) {
  for (std::size_t column = 0; column < width; ++column) {
    float values = 0.0f, products = 0.0f;
    for (std::size_t row = 0; row < rows; ++row) {
      const float value = to_float(x[row * width + column]) - origin[column];
      values += value;
      products += value * value;
    }
    sum[column] += values;
    squares[column] += products;
  }
}

template <typename T>
BOWERBIRD_INLINE void block_moments(const T* x, std::size_t rows, std::size_t width, const float* origin, float* sum,
                                    float* squares) {
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows) add_moments<kRows>(x + row * width, width, origin, sum, squares);
  for (; row < rows; ++row) add_moments<1>(x + row * width, width, origin, sum, squares);
}

template <typename T>
BOWERBIRD_INLINE void forward_row(const T* x, std::size_t width, const float* scale, const float* shift, float upscale,
                                  T* y) {
  if (scale == nullptr) {
    for (std::size_t i = 0; i < width; ++i) store(std::max(to_float(x[i]), 0.0f) * upscale, y[i]);
  } else {
    for (std::size_t i = 0; i < width; ++i) {
      store(std::max(to_float(x[i]) * scale[i] + shift[i], 0.0f) * upscale, y[i]);
    }
  }
}

template <typename T>
BOWERBIRD_INLINE void forward_dropped_row(const T* x, std::size_t width, const float* scale, const float* shift,
                                          float upscale, std::uint32_t seed, std::uint32_t limit, T* y) {
  for (std::size_t i = 0; i < width; ++i) {
    const float value = scale == nullptr ? to_float(x[i]) : to_float(x[i]) * scale[i] + shift[i];
    store(is_kept(seed, i, limit) ? std::max(value, 0.0f) * upscale : 0.0f, y[i]);
  }
}

template <typename T>
BOWERBIRD_INLINE void forward_block(const T* x, std::size_t first, std::size_t last, std::size_t width,
                                    const float* scale, const float* shift, Dropout dropout, T* y) {
  const float upscale = 1.0f / dropout.keep;
  const std::uint32_t limit = kept_below(dropout.keep);
  for (std::size_t row = first; row < last; ++row) {
    const std::size_t at = row * width;
    if (dropout.keep >= 1.0f) {
      forward_row(x + at, width, scale, shift, 1.0f, y + at);
    } else if (scale == nullptr) {
      forward_dropped_row(x + at, width, nullptr, nullptr, upscale, row_seed(dropout.seed, row), limit, y + at);
    } else {
      forward_dropped_row(x + at, width, scale, shift, upscale, row_seed(dropout.seed, row), limit, y + at);
    }
  }
}

// Adds the gradient g behind rectifier and dropout, and g (x - mean), of some rows to the columns' sums.
template <std::size_t rows, typename T>
BOWERBIRD_INLINE void add_sums(const T* x, const T* y, const T* gradient, std::size_t width, const float* mean,
                               float upscale, float* sum, float* product) {
  for (std::size_t column = 0; column < width; ++column) {
    float values = 0.0f, products = 0.0f;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t i = row * width + column;
      const float g = to_float(y[i]) > 0.0f ? to_float(gradient[i]) * upscale : 0.0f;
      values += g;
      products += g * (to_float(x[i]) - mean[column]);
    }
    sum[column] += values;
    product[column] += products;
  }
}

template <typename T>
BOWERBIRD_INLINE void block_sums(const T* x, const T* y, const T* gradient, std::size_t rows, std::size_t width,
                                 const float* mean, float upscale, float* sum, float* product) {
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    const std::size_t at = row * width;
    add_sums<kRows>(x + at, y + at, gradient + at, width, mean, upscale, sum, product);
  }
  for (; row < rows; ++row) {
    const std::size_t at = row * width;
    add_sums<1>(x + at, y + at, gradient + at, width, mean, upscale, sum, product);
  }
}

// dx = slope * g + tilt * x + level, column by column; without normalisation dx = g.
template <typename T>
BOWERBIRD_INLINE void backward_block(const T* x, const T* y, const T* gradient, std::size_t rows, std::size_t width,
                                     const float* slope, const float* tilt, const float* level, float upscale,
                                     T* result) {
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t at = row * width;
    for (std::size_t i = 0; i < width; ++i) {
      const float g = to_float(y[at + i]) > 0.0f ? to_float(gradient[at + i]) * upscale : 0.0f;
      store(slope == nullptr ? g : slope[i] * g + tilt[i] * to_float(x[at + i]) + level[i], result[at + i]);
    }
  }
}

#define BOWERBIRD_FOR_EACH_TYPE(define) define(float) define(BFloat16)

#define BOWERBIRD_KERNELS(T)                                                                                        \
  BOWERBIRD_CLONES void moments_kernel(const T* x, std::size_t rows, std::size_t width, const float* origin,        \
                                       float* sum, float* squares) {                                                \
    block_moments(x, rows, width, origin, sum, squares);                                                            \
  }                                                                                                                 \
  BOWERBIRD_CLONES void forward_kernel(const T* x, std::size_t first, std::size_t last, std::size_t width,          \
                                       const float* scale, const float* shift, Dropout dropout, T* y) {             \
    forward_block(x, first, last, width, scale, shift, dropout, y);                                                 \
  }                                                                                                                 \
  BOWERBIRD_CLONES void sums_kernel(const T* x, const T* y, const T* gradient, std::size_t rows, std::size_t width, \
                                    const float* mean, float upscale, float* sum, float* product) {                 \
    block_sums(x, y, gradient, rows, width, mean, upscale, sum, product);                                           \
  }                                                                                                                 \
  BOWERBIRD_CLONES void backward_kernel(const T* x, const T* y, const T* gradient, std::size_t rows,                \
                                        std::size_t width, const float* slope, const float* tilt,                   \
                                        const float* level, float upscale, T* result) {                             \
    backward_block(x, y, gradient, rows, width, slope, tilt, level, upscale, result);                               \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_KERNELS)

std::size_t blocks_of(Shape shape) { return (shape.rows + kBlock - 1) / kBlock; }
std::size_t rows_in(Shape shape, std::size_t block) { return std::min(kBlock, shape.rows - block * kBlock); }

// Adds up per-block column sums, float32 [blocks, width], in block order.
std::vector<double> total(const std::vector<float>& parts, std::size_t blocks, std::size_t width) {
  std::vector<double> sums(width, 0.0);
  for (std::size_t block = 0; block < blocks; ++block) {
    for (std::size_t i = 0; i < width; ++i) sums[i] += static_cast<double>(parts[block * width + i]);
  }
  return sums;
}

template <typename T>
void moments(const T* x, Shape shape, float* mean, float* variance, std::size_t threads) {
  const std::size_t blocks = blocks_of(shape);
  std::vector<float> origin(shape.width);
  for (std::size_t i = 0; i < shape.width; ++i) origin[i] = to_float(x[i]);
  std::vector<float> sums(blocks * shape.width, 0.0f);
  std::vector<float> squares(blocks * shape.width, 0.0f);
  run_team(threads, blocks, [&](std::size_t block) {
    moments_kernel(x + block * kBlock * shape.width, rows_in(shape, block), shape.width, origin.data(),
                   sums.data() + block * shape.width, squares.data() + block * shape.width);
  });
  const std::vector<double> sum = total(sums, blocks, shape.width);
  const std::vector<double> square = total(squares, blocks, shape.width);
  const auto count = static_cast<double>(shape.rows);
  for (std::size_t i = 0; i < shape.width; ++i) {
    const double off = sum[i] / count;
    mean[i] = static_cast<float>(static_cast<double>(origin[i]) + off);
    variance[i] = static_cast<float>(std::max(square[i] / count - off * off, 0.0));
  }
}

template <typename T>
void forward(const T* x, Shape shape, const float* scale, const float* shift, Dropout dropout, T* y,
             std::size_t threads) {
  run_team(threads, blocks_of(shape), [&](std::size_t block) {
    const std::size_t first = block * kBlock;
    forward_kernel(x, first, first + rows_in(shape, block), shape.width, scale, shift, dropout, y);
  });
}

template <typename T>
void backward(const T* x, const T* y, const T* gradient, Shape shape, Normalised normalised, float keep, T* result,
              float* gradient_weight, float* gradient_bias, std::size_t threads) {
  const float upscale = 1.0f / keep;
  const std::size_t blocks = blocks_of(shape), width = shape.width;
  std::vector<float> slope, tilt, level;
  if (normalised.mean != nullptr) {
    std::vector<float> sums(blocks * width, 0.0f), products(blocks * width, 0.0f);
    run_team(threads, blocks, [&](std::size_t block) {
      const std::size_t at = block * kBlock * width;
      sums_kernel(x + at, y + at, gradient + at, rows_in(shape, block), width, normalised.mean, upscale,
                  sums.data() + block * width, products.data() + block * width);
    });
    const std::vector<double> sum = total(sums, blocks, width);
    const std::vector<double> product = total(products, blocks, width);
    slope.resize(width), tilt.resize(width), level.resize(width);
    const auto count = static_cast<double>(shape.rows);
    for (std::size_t i = 0; i < width; ++i) {
      const double inverse = static_cast<double>(normalised.inverse_deviation[i]);
      const double gain = static_cast<double>(normalised.weight[i]) * inverse;
      const double lean = -gain * inverse * inverse * product[i] / count;
      gradient_weight[i] = static_cast<float>(product[i] * inverse);
      gradient_bias[i] = static_cast<float>(sum[i]);
      slope[i] = static_cast<float>(gain);
      tilt[i] = static_cast<float>(lean);
      level[i] = static_cast<float>(-gain * sum[i] / count - lean * static_cast<double>(normalised.mean[i]));
    }
  }
  const bool plain = normalised.mean == nullptr;
  run_team(threads, blocks, [&](std::size_t block) {
    const std::size_t at = block * kBlock * width;
    backward_kernel(x + at, y + at, gradient + at, rows_in(shape, block), width, plain ? nullptr : slope.data(),
                    plain ? nullptr : tilt.data(), plain ? nullptr : level.data(), upscale, result + at);
  });
}

}  // namespace

void follow(const float* values, std::size_t width, float share, float scale, float* running) {
  for (std::size_t i = 0; i < width; ++i) running[i] += share * (scale * values[i] - running[i]);
}

#define BOWERBIRD_PUBLIC(T)                                                                                          \
  void column_moments(const T* x, Shape shape, float* mean, float* variance, std::size_t threads) {                  \
    moments(x, shape, mean, variance, threads);                                                                      \
  }                                                                                                                  \
  void hidden_forward(const T* x, Shape shape, const float* scale, const float* shift, Dropout dropout, T* y,        \
                      std::size_t threads) {                                                                         \
    forward(x, shape, scale, shift, dropout, y, threads);                                                            \
  }                                                                                                                  \
  void hidden_backward(const T* x, const T* y, const T* gradient_y, Shape shape, Normalised normalised, float keep,  \
                       T* gradient_x, float* gradient_weight, float* gradient_bias, std::size_t threads) {           \
    backward(x, y, gradient_y, shape, normalised, keep, gradient_x, gradient_weight, gradient_bias, threads);        \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_PUBLIC)

}  // namespace bowerbird
