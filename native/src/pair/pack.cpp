#include "pair/pack.hpp"

#include <bit>
#include <cmath>

#include "base/bfloat16.hpp"

namespace bowerbird::pair {
namespace {

std::uint32_t bits_of(float value, Unit unit) {
  if (unit == Unit::kFloat) return std::bit_cast<std::uint32_t>(value);
  if (unit == Unit::kBf16) {
    BFloat16 half{};
    store(value, half);
    return half.bits;
  }
  const auto whole = static_cast<std::uint32_t>(static_cast<std::int32_t>(value));
  return whole & (unit == Unit::kInt8 ? 0xffu : 0xffffu);
}

// Scales each output's weights to whole numbers in [-127, 127].
void quantise(std::vector<float>& weight, std::size_t inputs, Packed& packed) {
  for (std::size_t row = 0; row < packed.outputs; ++row) {
    float* const values = weight.data() + row * inputs;
    float greatest = 0.0f, sum = 0.0f;
    for (std::size_t i = 0; i < inputs; ++i) greatest = std::max(greatest, std::abs(values[i]));
    const float scale = greatest > 0.0f ? greatest / 127.0f : 1.0f;
    for (std::size_t i = 0; i < inputs; ++i) {
      values[i] = std::nearbyint(values[i] / scale);
      sum += values[i];
    }
    packed.scale.push_back(scale);
    packed.sum.push_back(sum);
  }
}

}  // namespace

Unit unit_of(Precision precision, const Kernels& kernels) {
  return precision == Precision::kFp32 ? Unit::kFloat : precision == Precision::kBf16 ? kernels.bf16 : kernels.int8;
}

Packed pack(const LayerSpec& layer, Unit unit, std::size_t block) {
  const std::size_t in_unit = values_in(unit), bits = 32 / in_unit;
  Packed packed{unit, layer.outputs, (layer.inputs + in_unit - 1) / in_unit, {}, {}, {}};
  std::vector<float> weight = layer.weight;
  if (is_integer(unit)) quantise(weight, layer.inputs, packed);
  packed.units.reserve(packed.outputs * packed.groups);
  std::size_t first = 0;
  while (first < layer.outputs) {
    while (block > layer.outputs - first) block /= 2;
    for (std::size_t group = 0; group < packed.groups; ++group) {
      for (std::size_t row = first; row < first + block; ++row) {
        std::uint32_t together = 0;
        for (std::size_t i = 0; i < in_unit && group * in_unit + i < layer.inputs; ++i) {
          together |= bits_of(weight[row * layer.inputs + group * in_unit + i], unit) << (bits * i);
        }
        packed.units.push_back(together);
      }
    }
    first += block;
  }
  return packed;
}

}  // namespace bowerbird::pair
