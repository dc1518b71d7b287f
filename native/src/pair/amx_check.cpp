#include <bit>
#include <random>

#include "pair/amx.hpp"
#include "pair/dense.hpp"
#include "pair/tile_registers.hpp"

namespace bowerbird::pair {
namespace {

// A layer of whole numbers, its operand, and what one set of kernels makes of them.
class WholeNumbers {
 public:
  WholeNumbers(Precision precision, std::size_t outputs, std::size_t inputs) {
    layer_.outputs = outputs, layer_.inputs = inputs, layer_.precision = precision;
    for (std::size_t i = 0; i < outputs * inputs; ++i) layer_.weight.push_back(whole(-7, 7));
    for (std::size_t i = 0; i < outputs; ++i) layer_.bias.push_back(whole(-9, 9));
  }

  // The outputs for so many vectors, with what was not to be written.
  std::vector<float> answers(const Kernels& kernels, const std::vector<std::uint32_t>& operand, std::size_t vectors) const {
    const Dense dense(layer_, kernels);
    std::vector<float> found((layer_.outputs + 1) * kCandidates, -1.5f);
    const std::vector<float> scale(kCandidates, 1.0f);
    const Segment segment{operand.data(), dense.groups()};
    Product product = dense.product(0, layer_.outputs);
    product.segments = &segment, product.segment_count = 1;
    product.vectors = vectors;
    product.lane_scale = scale.data();
    product.out = found.data();
    if (kernels.open != nullptr) kernels.open();
    kernels.product(product);
    if (kernels.close != nullptr) kernels.close();
    return found;
  }

  // Bytes, or bfloat16 of whole numbers.
  std::vector<std::uint32_t> operand() {
    const bool bytes = layer_.precision == Precision::kInt8;
    const std::size_t groups = (layer_.inputs + (bytes ? 3 : 1)) / (bytes ? 4 : 2);
    std::vector<std::uint32_t> units(groups * kCandidates);
    for (std::uint32_t& unit : units) unit = bytes ? random_() : half(whole(-15, 15)) | half(whole(-15, 15)) << 16;
    return units;
  }

 private:
  float whole(int least, int greatest) {
    return static_cast<float>(std::uniform_int_distribution<int>(least, greatest)(random_));
  }
  static std::uint32_t half(float number) { return std::bit_cast<std::uint32_t>(number) >> 16; }

  std::mt19937 random_{1};
  LayerSpec layer_;
};

struct Sizes {
  std::size_t outputs, inputs;
};

}  // namespace

bool computes_as(const Kernels& tiles, const Kernels& vectors) {
  // Whole registers; parts of one; more of them than are summed together, and parts of the last ones.
  constexpr Sizes kSizes[] = {{32, 128}, {9, 50}, {41, 67}, {125, 330}};
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    for (const auto [outputs, inputs] : kSizes) {
      WholeNumbers numbers(precision, outputs, inputs);
      const std::vector<std::uint32_t> operand = numbers.operand();
      for (std::size_t count = 1; count <= kCandidates / kSide; ++count) {
        if (numbers.answers(tiles, operand, count) != numbers.answers(vectors, operand, count)) return false;
      }
    }
  }
  return true;
}

}  // namespace bowerbird::pair
