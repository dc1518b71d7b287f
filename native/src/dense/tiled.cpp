#include "dense/tiled.hpp"

#include <stdexcept>

#include "pair/isa.hpp"

namespace bowerbird {
namespace {

// Null where the machine has no tile registers.
const tiled::Layers* found() {
#if defined(BOWERBIRD_WIDE_KERNELS)
  const pair::Isa isa = pair::chosen_isa();
  if (isa == pair::Isa::kAmx) return &tiled::amx_layers();
  if (isa == pair::Isa::kAmxEmulated) return &tiled::amx_emulated_layers();
#endif
  return nullptr;
}

}  // namespace

bool has_tiles() { return found() != nullptr; }

const tiled::Layers& tiled::layers() {
  const Layers* const there = found();
  if (there == nullptr) throw std::invalid_argument("this machine has no tile registers, or BOWERBIRD_ISA forbids them");
  return *there;
}

void linear_forward(const Linear& layer, const float* x, const float* bias, BFloat16* out, std::size_t threads) {
  tiled::layers().forward_floats(layer, x, bias, out, threads);
}
void linear_forward(const Linear& layer, const BFloat16* x, const float* bias, BFloat16* out, std::size_t threads) {
  tiled::layers().forward_halves(layer, x, bias, out, threads);
}
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, float* of_x, std::size_t threads) {
  tiled::layers().input_floats(layer, gradient, of_x, threads);
}
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, BFloat16* of_x, std::size_t threads) {
  tiled::layers().input_halves(layer, gradient, of_x, threads);
}
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const float* x, float* of_weights,
                            float* of_bias, std::size_t threads) {
  tiled::layers().weight_floats(layer, gradient, x, of_weights, of_bias, threads);
}
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const BFloat16* x, float* of_weights,
                            float* of_bias, std::size_t threads) {
  tiled::layers().weight_halves(layer, gradient, x, of_weights, of_bias, threads);
}

void cross_network_forward(const CrossLayers& network, const float* first, const CrossValues& values, float* out,
                           std::size_t threads) {
  tiled::layers().cross_forward(network, first, values, out, threads);
}
void cross_network_backward(const CrossLayers& network, const float* first, const CrossValues& values,
                            const CrossBack& back, float* of_first, float* const* of_weights, float* const* of_biases,
                            std::size_t threads) {
  tiled::layers().cross_backward(network, first, values, back, of_first, of_weights, of_biases, threads);
}

void attention_forward(const AttentionNetwork& network, float* out, std::size_t threads) {
  tiled::layers().attention_forward(network, out, threads);
}
void attention_backward(const AttentionNetwork& network, const float* gradient, const AttentionGradients& of,
                        std::size_t threads) {
  tiled::layers().attention_backward(network, gradient, of, threads);
}

void mlp_forward(const HiddenLayers& network, const float* x, BFloat16* out, std::size_t threads) {
  tiled::layers().mlp_forward_floats(network, x, out, threads);
}
void mlp_forward(const HiddenLayers& network, const BFloat16* x, BFloat16* out, std::size_t threads) {
  tiled::layers().mlp_forward_halves(network, x, out, threads);
}
void mlp_backward(const HiddenLayers& network, const float* x, const BFloat16* gradient, float* of_x,
                  std::span<const HiddenGradients> of_layers, std::size_t threads) {
  tiled::layers().mlp_backward_floats(network, x, gradient, of_x, of_layers, threads);
}
void mlp_backward(const HiddenLayers& network, const BFloat16* x, const BFloat16* gradient, BFloat16* of_x,
                  std::span<const HiddenGradients> of_layers, std::size_t threads) {
  tiled::layers().mlp_backward_halves(network, x, gradient, of_x, of_layers, threads);
}

}  // namespace bowerbird
