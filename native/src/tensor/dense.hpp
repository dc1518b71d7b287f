// Rows times a packed matrix: sums of a block of rows and of a panel's vectors stay in registers.
#pragma once

#include "pair/formats.hpp"
#include "tensor/pointwise.hpp"

namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kPanelVectors = 4;
constexpr std::size_t kRowBlock = 6;
#elif defined(__AVX2__)
constexpr std::size_t kPanelVectors = 2;
constexpr std::size_t kRowBlock = 6;
#else
constexpr std::size_t kPanelVectors = 2;
constexpr std::size_t kRowBlock = 4;
#endif
constexpr std::size_t kPanel = kPanelVectors * kLanes;

// Part of a product: some rows and one panel.
struct Part {
  const float* in;
  float* out;
  const float* bias;
  std::size_t outputs;
};

// `Together` neighbouring inputs have sums of their own, so that few rows do not wait for one addition after another.
template <typename Row, std::size_t R, std::size_t C, std::size_t Together>
BOWERBIRD_INLINE void add_up(const Dense& d, const Part& part, const typename Row::Value* weights, V (&sums)[R][C]) {
  V more[Together][R][C] = {};
  std::size_t k = 0;
  for (; k + Together <= d.inputs; k += Together) {
#pragma GCC unroll 4
    for (std::size_t t = 0; t < Together; ++t) {
      V loaded[C];
#pragma GCC unroll 4
      for (std::size_t c = 0; c < C; ++c) loaded[c] = Row::read(weights + (t * C + c) * kLanes, 1.0f);
#pragma GCC unroll 6
      for (std::size_t r = 0; r < R; ++r) {
        const float x = part.in[static_cast<std::ptrdiff_t>(r) * d.in_stride + static_cast<std::ptrdiff_t>(k + t)];
#pragma GCC unroll 4
        for (std::size_t c = 0; c < C; ++c) more[t][r][c] += loaded[c] * x;
      }
    }
    weights += Together * C * kLanes;
  }
  for (; k < d.inputs; ++k) {
    for (std::size_t r = 0; r < R; ++r) {
      const float x = part.in[static_cast<std::ptrdiff_t>(r) * d.in_stride + static_cast<std::ptrdiff_t>(k)];
      for (std::size_t c = 0; c < C; ++c) more[0][r][c] += Row::read(weights + c * kLanes, 1.0f) * x;
    }
    weights += C * kLanes;
  }
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) {
#pragma GCC unroll 4
      for (std::size_t t = 0; t < Together; ++t) sums[r][c] += more[t][r][c];
    }
  }
}

template <typename Row, std::size_t R, std::size_t C>
void block(const Dense& d, const Part& part, const typename Row::Value* weights) {
  V sums[R][C] = {};
  add_up<Row, R, C, R == 1 ? 4 : 1>(d, part, weights, sums);
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
    float* const out = part.out + static_cast<std::ptrdiff_t>(r) * d.out_stride;
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) {
      V value = sums[r][c];
      if (part.bias != nullptr) value += load(part.bias + c * kLanes);
      if (d.rectified) value = rectified(value);
      store_lanes(out + c * kLanes, 1, std::min(kLanes, part.outputs - c * kLanes), value);
    }
  }
}

template <typename Row, std::size_t C>
void panel(const Dense& d, Part part, const typename Row::Value* weights) {
  const auto next = [&](std::size_t rows) {
    part.in += static_cast<std::ptrdiff_t>(rows) * d.in_stride;
    part.out += static_cast<std::ptrdiff_t>(rows) * d.out_stride;
    return rows;
  };
  std::size_t row = 0;
  while (row + kRowBlock <= d.rows) block<Row, kRowBlock, C>(d, part, weights), row += next(kRowBlock);
  while (row + 2 <= d.rows) block<Row, 2, C>(d, part, weights), row += next(2);
  while (row < d.rows) block<Row, 1, C>(d, part, weights), row += next(1);
}

template <typename Row>
void panels(const Dense& d) {
  auto weights = static_cast<const typename Row::Value*>(d.matrix);
  for (std::size_t first = 0; first < d.outputs; first += kPanel) {
    const std::size_t outputs = std::min(kPanel, d.outputs - first), vectors = (outputs + kLanes - 1) / kLanes;
    const Part part{d.in, d.out + first, d.bias == nullptr ? nullptr : d.bias + first, outputs};
    switch (vectors) {
      case 1: panel<Row, 1>(d, part, weights); break;
      case 2: panel<Row, 2>(d, part, weights); break;
#if defined(__AVX512F__)
      case 3: panel<Row, 3>(d, part, weights); break;
      default: panel<Row, 4>(d, part, weights); break;
#endif
    }
    weights += d.inputs * vectors * kLanes;
  }
}

void dense(const Dense& d) {
  if (d.weight == Weight::kBf16) return panels<Bf16Row>(d);
  panels<Fp32Row>(d);
}

void pack(const float* matrix, std::ptrdiff_t input_stride, std::ptrdiff_t output_stride, std::size_t inputs,
          std::size_t outputs, float* packed) {
  for (std::size_t first = 0; first < outputs; first += kPanel) {
    const std::size_t width = std::min(kPanel, outputs - first);
    for (std::size_t k = 0; k < inputs; ++k) {
      const float* row =
          matrix + static_cast<std::ptrdiff_t>(k) * input_stride + static_cast<std::ptrdiff_t>(first) * output_stride;
      for (std::size_t i = 0; i < width; i += kLanes, packed += kLanes) {
        const std::size_t count = std::min(kLanes, width - i);
        store(packed, V{});
        store_lanes(packed, 1, count, load_lanes(row + static_cast<std::ptrdiff_t>(i) * output_stride, output_stride, count));
      }
    }
  }
}

}  // namespace
}  // namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA
