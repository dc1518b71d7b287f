#include "pair/pack.hpp"

#include <bit>
#include <cmath>

#include "base/bfloat16.hpp"
#include "pair/tile_registers.hpp"

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

// The 32-bit units of a matrix of weights.
class Units {
 public:
  Units(const std::vector<float>& weight, std::size_t inputs, Unit unit)
      : weight_(weight), inputs_(inputs), in_unit_(values_in(unit)), unit_(unit) {}

  std::uint32_t at(std::size_t output, std::size_t group) const {
    std::uint32_t together = 0;
    for (std::size_t i = 0; i < in_unit_ && group * in_unit_ + i < inputs_; ++i) {
      together |= bits_of(weight_[output * inputs_ + group * in_unit_ + i], unit_) << (32 / in_unit_ * i);
    }
    return together;
  }

 private:
  const std::vector<float>& weight_;
  std::size_t inputs_, in_unit_;
  Unit unit_;
};

void pack_blocks(const Units& units, std::size_t block, Packed& packed) {
  packed.units.reserve(packed.outputs * packed.groups);
  for (std::size_t first = 0; first < packed.outputs; first += block) {
    while (block > packed.outputs - first) block /= 2;
    for (std::size_t group = 0; group < packed.groups; ++group) {
      for (std::size_t row = first; row < first + block; ++row) packed.units.push_back(units.at(row, group));
    }
  }
}

void pack_tiles(const Units& units, Packed& packed) {
  packed.units.reserve(sides(packed.outputs) * sides(packed.groups) * kSide * kSide);
  for (std::size_t first = 0; first < packed.outputs; first += kSide) {
    for (std::size_t step = 0; step < packed.groups; step += kSide) {
      for (std::size_t row = first; row < first + kSide; ++row) {
        for (std::size_t group = step; group < step + kSide; ++group) {
          packed.units.push_back(row < packed.outputs && group < packed.groups ? units.at(row, group) : 0);
        }
      }
    }
  }
}

}  // namespace

Unit unit_of(Precision precision, const Kernels& kernels) {
  return precision == Precision::kFp32 ? Unit::kFloat : precision == Precision::kBf16 ? kernels.bf16 : kernels.int8;
}

Packed pack(const LayerSpec& layer, const Kernels& kernels) {
  const Unit unit = unit_of(layer.precision, kernels);
  const std::size_t in_unit = values_in(unit);
  Packed packed{unit, false, layer.outputs, (layer.inputs + in_unit - 1) / in_unit, {}, {}, {}};
  packed.tiled = kernels.tile_registers && (unit == Unit::kBf16 || unit == Unit::kInt8) &&
                 suits_tile_registers(packed.outputs, packed.groups);
  std::vector<float> weight = layer.weight;
  if (is_integer(unit)) quantise(weight, layer.inputs, packed);
  const Units units(weight, layer.inputs, unit);
  packed.tiled ? pack_tiles(units, packed) : pack_blocks(units, kernels.block, packed);
  return packed;
}

std::size_t start_of(const Packed& packed, std::size_t first) {
  return packed.tiled ? first / kSide * sides(packed.groups) * kSide * kSide : first * packed.groups;
}

}  // namespace bowerbird::pair
