// Steps that look at each candidate's features one by one or add them up.
#pragma once

#include "pair/functions.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

// out[r][lane] = apply(r, lane)
template <typename Apply>
BOWERBIRD_INLINE void fill(float* out, std::size_t count, std::size_t vectors, const Apply& apply) {
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t v = 0; v < vectors; ++v) store(out + row * kTile + v * kLanes, apply(row, v * kLanes));
  }
}

void binary(Binary kind, const float* a, std::size_t a_step, const float* b, std::size_t b_step, std::size_t count,
            std::size_t vectors, float* out) {
  const auto run = [&](const auto& apply) {
    fill(out, count, vectors, [&](std::size_t row, std::size_t lane) {
      return apply(load(a + row * a_step + lane), load(b + row * b_step + lane));
    });
  };
  switch (kind) {
    case Binary::kAdd: return run([](V x, V y) { return x + y; });
    case Binary::kSub: return run([](V x, V y) { return x - y; });
    case Binary::kMul: return run([](V x, V y) { return x * y; });
    case Binary::kDiv: return run([](V x, V y) { return x / y; });
    case Binary::kMaximum: return run([](V x, V y) { return maximum(x, y); });
    case Binary::kMinimum: return run([](V x, V y) { return minimum(x, y); });
  }
}

void scale_rows(const float* rows, const float* factors, std::size_t count, std::size_t vectors, float* out) {
  fill(out, count, vectors,
       [&](std::size_t row, std::size_t lane) { return load(rows + row * kTile + lane) * factors[row]; });
}

void divide(float* rows, std::size_t count, const float* divisor, std::size_t vectors) {
  fill(rows, count, vectors,
       [&](std::size_t row, std::size_t lane) { return load(rows + row * kTile + lane) / load(divisor + lane); });
}

BOWERBIRD_INLINE V reduced(const Reduce& r, const float* in) {
  V result = load(in);
  for (std::size_t i = 1; i < r.count; ++i) {
    const V x = load(in + i * r.inner * kTile);
    result = r.kind == Reduction::kMax ? maximum(result, x) : result + x;
  }
  return r.kind == Reduction::kMean ? result / static_cast<float>(r.count) : result;
}

void reduce(const Reduce& r) {
  fill(r.out, r.outputs, r.vectors,
       [&](std::size_t row, std::size_t lane) { return reduced(r, r.in + row * r.outer * kTile + lane); });
}

void dot(const float* a, const float* b, std::size_t count, std::size_t vectors, float* out) {
  fill(out, 1, vectors, [&](std::size_t, std::size_t lane) {
    V sum{};
    for (std::size_t row = 0; row < count; ++row) sum += load(a + row * kTile + lane) * load(b + row * kTile + lane);
    return sum;
  });
}

void softmax(const float* in, std::size_t count, std::size_t vectors, float* out) {
  for (std::size_t v = 0; v < vectors; ++v) {
    const std::size_t lane = v * kLanes;
    V greatest = load(in + lane);
    for (std::size_t row = 1; row < count; ++row) greatest = maximum(greatest, load(in + row * kTile + lane));
    V sum{};
    for (std::size_t row = 0; row < count; ++row) {
      const V power = exponential(load(in + row * kTile + lane) - greatest);
      sum += power;
      store(out + row * kTile + lane, power);
    }
    const V factor = 1.0f / sum;
    for (std::size_t row = 0; row < count; ++row) {
      store(out + row * kTile + lane, load(out + row * kTile + lane) * factor);
    }
  }
}

void layer_norm(const float* in, const float* weight, const float* bias, float epsilon, std::size_t count,
                std::size_t vectors, float* out) {
  const float inverse = 1.0f / static_cast<float>(count);
  for (std::size_t v = 0; v < vectors; ++v) {
    const std::size_t lane = v * kLanes;
    V sum{}, squares{};
    for (std::size_t row = 0; row < count; ++row) sum += load(in + row * kTile + lane);
    const V mean = sum * inverse;
    for (std::size_t row = 0; row < count; ++row) {
      const V off = load(in + row * kTile + lane) - mean;
      squares += off * off;
    }
    const V scale = 1.0f / square_root(squares * inverse + epsilon);
    for (std::size_t row = 0; row < count; ++row) {
      const V normal = (load(in + row * kTile + lane) - mean) * scale;
      const float factor = weight == nullptr ? 1.0f : weight[row];
      store(out + row * kTile + lane, normal * factor + (bias == nullptr ? 0.0f : bias[row]));
    }
  }
}

void weighted_sum(const float* gates, const float* const* experts, std::size_t count, std::size_t width,
                  std::size_t vectors, float* out) {
  fill(out, width, vectors, [&](std::size_t row, std::size_t lane) {
    V sum{};
    for (std::size_t e = 0; e < count; ++e) sum += load(gates + e * kTile + lane) * load(experts[e] + row * kTile + lane);
    return sum;
  });
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
