// Functions of numbers at their places, rows along the last dimension, and reductions.
#pragma once

#include <algorithm>

#include "pair/functions.hpp"
#include "tensor/kernels.hpp"

namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA {
namespace {

using namespace pair::BOWERBIRD_PAIR_ISA;

// `count` numbers, at most kLanes, that lie `stride` apart; spare lanes repeat the last.
BOWERBIRD_INLINE V load_lanes(const float* at, std::ptrdiff_t stride, std::size_t count) {
  if (stride == 0) return all(*at);
  if (stride == 1 && count == kLanes) return load(at);
  float lanes[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) {
    lanes[i] = at[static_cast<std::ptrdiff_t>(std::min(i, count - 1)) * stride];
  }
  return load(lanes);
}

BOWERBIRD_INLINE void store_lanes(float* at, std::ptrdiff_t stride, std::size_t count, V value) {
  if (stride == 1 && count == kLanes) return store(at, value);
  float lanes[kLanes];
  store(lanes, value);
  for (std::size_t i = 0; i < count; ++i) at[static_cast<std::ptrdiff_t>(i) * stride] = lanes[i];
}

// Calls visit(offsets) for each place of the dimensions [first, last): the offsets of each operand in floats.
template <std::size_t Operands, typename Visit>
BOWERBIRD_INLINE void walk(const Shape& shape, std::size_t first, std::size_t last,
                           const std::array<const Strides*, Operands>& strides, const Visit& visit) {
  Shape place{};
  std::array<std::ptrdiff_t, Operands> offsets{};
  for (;;) {
    visit(offsets);
    std::size_t dim = last;
    for (; dim > first; --dim) {
      const std::size_t at = dim - 1;
      for (std::size_t i = 0; i < Operands; ++i) offsets[i] += (*strides[i])[at];
      if (++place[at] < shape[at]) break;
      for (std::size_t i = 0; i < Operands; ++i) {
        offsets[i] -= static_cast<std::ptrdiff_t>(shape[at]) * (*strides[i])[at];
      }
      place[at] = 0;
    }
    if (dim == first) return;
  }
}

// A row of operands that are contiguous or one number, in whole vectors; how many of its numbers are done. The last
// vector begins before the one in front of it ends, unless what is read is written over.
template <std::size_t Inputs, typename Apply>
BOWERBIRD_INLINE std::size_t apply_whole(const std::array<const float*, Inputs>& in, const std::array<bool, Inputs>& single,
                                         std::size_t width, float* out, const Apply& apply) {
  const auto compute = [&](std::size_t first) {
    V x[Inputs];
    for (std::size_t i = 0; i < Inputs; ++i) x[i] = single[i] ? all(*in[i]) : load(in[i] + first);
    store(out + first, apply(x));
  };
  std::size_t first = 0;
  for (; first + kLanes <= width; first += kLanes) compute(first);
  if (first == 0 || first == width || std::find(in.begin(), in.end(), out) != in.end()) return first;
  compute(width - kLanes);
  return width;
}

template <std::size_t Inputs, typename Apply>
BOWERBIRD_INLINE void apply_all(const Pointwise& p, const Apply& apply) {
  const std::size_t last = p.rank - 1, width = p.shape[last];
  const std::ptrdiff_t to = p.out.strides[last];
  std::array<const Strides*, Inputs + 1> strides{&p.out.strides};
  std::array<bool, Inputs> single;
  bool whole = to == 1;
  for (std::size_t i = 0; i < Inputs; ++i) {
    strides[i + 1] = &p.in[i].strides;
    single[i] = p.in[i].strides[last] == 0;
    whole = whole && (single[i] || p.in[i].strides[last] == 1);
  }
  walk<Inputs + 1>(p.shape, 0, last, strides, [&](const auto& offsets) {
    std::array<const float*, Inputs> in;
    for (std::size_t i = 0; i < Inputs; ++i) in[i] = p.in[i].data + offsets[i + 1];
    std::size_t first = whole ? apply_whole<Inputs>(in, single, width, p.out.data + offsets[0], apply) : 0;
    for (; first < width; first += kLanes) {
      const std::size_t count = std::min(kLanes, width - first);
      const auto start = static_cast<std::ptrdiff_t>(first);
      V x[Inputs];
      for (std::size_t i = 0; i < Inputs; ++i) {
        const std::ptrdiff_t step = p.in[i].strides[last];
        x[i] = load_lanes(in[i] + start * step, step, count);
      }
      store_lanes(p.out.data + offsets[0] + start * to, to, count, apply(x));
    }
  });
}

BOWERBIRD_INLINE V truth(I holds) { return as_float(holds & as_bits(all(1.0f))); }
BOWERBIRD_INLINE V sign_of(V x) { return x > V{} ? all(1.0f) : x < V{} ? all(-1.0f) : x; }
BOWERBIRD_INLINE V without_nan(V x, float nan, float greatest, float least) {
  x = x == x ? x : all(nan);
  x = x == all(__builtin_inff()) ? all(greatest) : x;
  return x == all(-__builtin_inff()) ? all(least) : x;
}

void pointwise(const Pointwise& p) {
  const auto [a, b, c] = p.numbers;
  const auto one = [&](const auto& apply) { apply_all<1>(p, [&](const V(&x)[1]) { return apply(x[0]); }); };
  const auto two = [&](const auto& apply) { apply_all<2>(p, [&](const V(&x)[2]) { return apply(x[0], x[1]); }); };
  switch (p.element) {
    case Element::kCopy: return one([](V x) { return x; });
    case Element::kRelu: return one([](V x) { return rectified(x); });
    case Element::kLeakyRelu: return one([=](V x) { return x > V{} ? x : a * x; });
    case Element::kGelu: return one([](V x) { return gelu(x); });
    case Element::kGeluTanh: return one([](V x) { return gelu_tanh(x); });
    case Element::kSilu: return one([](V x) { return x * sigmoid(x); });
    case Element::kSigmoid: return one([](V x) { return sigmoid(x); });
    case Element::kTanh: return one([](V x) { return hyperbolic_tangent(x); });
    case Element::kElu: return one([=](V x) { return elu(x, all(a)); });
    case Element::kSoftplus: return one([](V x) { return softplus(x); });
    case Element::kExp: return one([](V x) { return exponential(x); });
    case Element::kLog: return one([](V x) { return logarithm(x); });
    case Element::kLog1p: return one([](V x) { return logarithm(1.0f + x); });
    case Element::kSqrt: return one([](V x) { return square_root(x); });
    case Element::kRsqrt: return one([](V x) { return 1.0f / square_root(x); });
    case Element::kReciprocal: return one([](V x) { return 1.0f / x; });
    case Element::kNeg: return one([](V x) { return -x; });
    case Element::kAbs: return one([](V x) { return absolute(x); });
    case Element::kSquare: return one([](V x) { return x * x; });
    case Element::kSign: return one([](V x) { return sign_of(x); });
    case Element::kClamp: return one([=](V x) { return minimum(all(b), maximum(all(a), x)); });
    case Element::kScaleShift: return one([=](V x) { return x * a + b; });
    case Element::kNot: return one([](V x) { return truth(x == V{}); });
    case Element::kIsNan: return one([](V x) { return truth(x != x); });
    case Element::kNanToNum: return one([=](V x) { return without_nan(x, a, b, c); });
    case Element::kAdd: return two([](V x, V y) { return x + y; });
    case Element::kSub: return two([](V x, V y) { return x - y; });
    case Element::kMul: return two([](V x, V y) { return x * y; });
    case Element::kDiv: return two([](V x, V y) { return x / y; });
    case Element::kMaximum: return two([](V x, V y) { return maximum(x, y); });
    case Element::kMinimum: return two([](V x, V y) { return minimum(x, y); });
    case Element::kEqual: return two([](V x, V y) { return truth(x == y); });
    case Element::kUnequal: return two([](V x, V y) { return truth(x != y); });
    case Element::kLess: return two([](V x, V y) { return truth(x < y); });
    case Element::kLessEqual: return two([](V x, V y) { return truth(x <= y); });
    case Element::kGreater: return two([](V x, V y) { return truth(x > y); });
    case Element::kGreaterEqual: return two([](V x, V y) { return truth(x >= y); });
    case Element::kAnd: return two([](V x, V y) { return truth((x != V{}) & (y != V{})); });
    case Element::kOr: return two([](V x, V y) { return truth((x != V{}) | (y != V{})); });
    case Element::kWhere: return apply_all<3>(p, [](const V(&x)[3]) { return x[0] != V{} ? x[1] : x[2]; });
  }
}

BOWERBIRD_INLINE float total(V lanes) {
  float sum = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

BOWERBIRD_INLINE float greatest_of(V lanes) {
  float greatest = lanes[0];
  for (std::size_t i = 1; i < kLanes; ++i) greatest = greatest > lanes[i] || greatest != greatest ? greatest : lanes[i];
  return greatest;
}

// The numbers of one place of `out` are vectors along the last dimension.
template <typename Join>
BOWERBIRD_INLINE float reduce_along(const Reduce& r, const float* in, V start, const Join& join) {
  const std::size_t last = r.rank - 1, width = r.shape[last], whole = width / kLanes * kLanes;
  V lanes = start;
  walk<1>(r.shape, r.rank - r.reduced, last, {&r.in.strides}, [&](const auto& offsets) {
    const float* row = in + offsets[0];
    for (std::size_t i = 0; i < whole; i += kLanes) lanes = join(lanes, load(row + i));
    if (whole == width) return;
    float rest[kLanes];
    store(rest, start);
    std::copy(row + whole, row + width, rest);
    lanes = join(lanes, load(rest));
  });
  return r.reduction == Reduction::kMax ? greatest_of(lanes) : total(lanes);
}

// Vectors are places of `out` along its last dimension, or one place where all dimensions vanish.
template <typename Join>
BOWERBIRD_INLINE void reduce_beside(const Reduce& r, float factor, V start, const Join& join) {
  const std::size_t kept = r.rank - r.reduced, last = kept == 0 ? 0 : kept - 1, width = kept == 0 ? 1 : r.shape[last];
  const std::ptrdiff_t from = kept == 0 ? 0 : r.in.strides[last], to = kept == 0 ? 0 : r.out.strides[last];
  walk<2>(r.shape, 0, last, {&r.out.strides, &r.in.strides}, [&](const auto& outer) {
    for (std::size_t first = 0; first < width; first += kLanes) {
      const std::size_t count = std::min(kLanes, width - first);
      const auto at = static_cast<std::ptrdiff_t>(first);
      V lanes = start;
      walk<1>(r.shape, kept, r.rank, {&r.in.strides}, [&](const auto& inner) {
        lanes = join(lanes, load_lanes(r.in.data + outer[1] + inner[0] + at * from, from, count));
      });
      store_lanes(r.out.data + outer[0] + at * to, to, count, lanes * factor);
    }
  });
}

template <typename Join>
BOWERBIRD_INLINE void reduce_with(const Reduce& r, float factor, float start, const Join& join) {
  const std::size_t kept = r.rank - r.reduced;
  const bool beside = kept > 0 && r.in.strides[kept - 1] == 1;
  if (beside || r.in.strides[r.rank - 1] != 1) return reduce_beside(r, factor, all(start), join);
  walk<2>(r.shape, 0, kept, {&r.out.strides, &r.in.strides}, [&](const auto& offsets) {
    r.out.data[offsets[0]] = factor * reduce_along(r, r.in.data + offsets[1], all(start), join);
  });
}

void reduce(const Reduce& r) {
  std::size_t count = 1;
  for (std::size_t dim = r.rank - r.reduced; dim < r.rank; ++dim) count *= r.shape[dim];
  const float factor = r.reduction == Reduction::kMean ? 1.0f / static_cast<float>(count) : 1.0f;
  if (r.reduction == Reduction::kMax) {
    return reduce_with(r, 1.0f, -__builtin_inff(), [](V x, V y) { return y > x || y != y ? y : x; });
  }
  reduce_with(r, factor, 0.0f, [](V x, V y) { return x + y; });
}

// Calls visit(in, out) for each row; both are contiguous.
template <typename Visit>
BOWERBIRD_INLINE void each_row(const Rows& r, const Visit& visit) {
  walk<2>(r.shape, 0, r.rank - 1, {&r.out.strides, &r.in.strides},
          [&](const auto& offsets) { visit(r.in.data + offsets[1], r.out.data + offsets[0]); });
}

// Calls visit(first, count) for the parts of a row that a vector holds.
template <typename Visit>
BOWERBIRD_INLINE void each_part(std::size_t width, const Visit& visit) {
  for (std::size_t first = 0; first < width; first += kLanes) visit(first, std::min(kLanes, width - first));
}

// Spare lanes become `spare`.
BOWERBIRD_INLINE V load_part(const float* at, std::size_t count, float spare) {
  if (count == kLanes) return load(at);
  float lanes[kLanes];
  store(lanes, all(spare));
  std::copy(at, at + count, lanes);
  return load(lanes);
}

void softmax(const Rows& r) {
  const std::size_t width = r.shape[r.rank - 1];
  each_row(r, [&](const float* in, float* out) {
    V most = all(-__builtin_inff());
    each_part(width, [&](std::size_t i, std::size_t n) { most = maximum(most, load_part(in + i, n, -__builtin_inff())); });
    const float greatest = greatest_of(most);
    V sum{};
    each_part(width, [&](std::size_t i, std::size_t n) {
      const V power = exponential(load_part(in + i, n, -__builtin_inff()) - greatest);
      sum += power;
      store_lanes(out + i, 1, n, power);
    });
    const float factor = 1.0f / total(sum);
    each_part(width, [&](std::size_t i, std::size_t n) { store_lanes(out + i, 1, n, load_part(out + i, n, 0.0f) * factor); });
  });
}

void layer_norm(const Rows& r) {
  const std::size_t width = r.shape[r.rank - 1];
  const float inverse = 1.0f / static_cast<float>(width);
  each_row(r, [&](const float* in, float* out) {
    V sum{}, squares{};
    each_part(width, [&](std::size_t i, std::size_t n) { sum += load_part(in + i, n, 0.0f); });
    const float mean = total(sum) * inverse;
    each_part(width, [&](std::size_t i, std::size_t n) {
      const V off = load_part(in + i, n, mean) - mean;
      squares += off * off;
    });
    const float scale = 1.0f / __builtin_sqrtf(total(squares) * inverse + r.epsilon);
    each_part(width, [&](std::size_t i, std::size_t n) {
      V value = (load_part(in + i, n, mean) - mean) * scale;
      if (r.weight != nullptr) value *= load_part(r.weight + i, n, 0.0f);
      if (r.bias != nullptr) value += load_part(r.bias + i, n, 0.0f);
      store_lanes(out + i, 1, n, value);
    });
  });
}

}  // namespace
}  // namespace bowerbird::tensor::BOWERBIRD_PAIR_ISA
