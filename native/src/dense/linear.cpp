#include "dense/linear.hpp"

#include <stdexcept>

#include "dense/linear_tables.hpp"
#include "pair/isa.hpp"

namespace bowerbird {
namespace {

// The products for this machine; null where it has no tile registers.
const tiled::LinearProducts* products() {
#if defined(BOWERBIRD_WIDE_KERNELS)
  const pair::Isa isa = pair::chosen_isa();
  if (isa == pair::Isa::kAmx) return &tiled::amx_products();
  if (isa == pair::Isa::kAmxEmulated) return &tiled::amx_emulated_products();
#endif
  return nullptr;
}

const tiled::LinearProducts& found() {
  const tiled::LinearProducts* const there = products();
  if (there == nullptr) throw std::invalid_argument("this machine has no tile registers, or BOWERBIRD_ISA forbids them");
  return *there;
}

}  // namespace

bool has_linear() { return products() != nullptr; }

void linear_forward(const Linear& layer, const float* x, const float* bias, BFloat16* out, std::size_t threads) {
  found().forward_floats(layer, x, bias, out, threads);
}
void linear_forward(const Linear& layer, const BFloat16* x, const float* bias, BFloat16* out, std::size_t threads) {
  found().forward_halves(layer, x, bias, out, threads);
}
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, float* of_x, std::size_t threads) {
  found().input_floats(layer, gradient, of_x, threads);
}
void linear_input_gradient(const Linear& layer, const BFloat16* gradient, BFloat16* of_x, std::size_t threads) {
  found().input_halves(layer, gradient, of_x, threads);
}
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const float* x, float* of_weights,
                            float* of_bias, std::size_t threads) {
  found().weight_floats(layer, gradient, x, of_weights, of_bias, threads);
}
void linear_weight_gradient(const Linear& layer, const BFloat16* gradient, const BFloat16* x, float* of_weights,
                            float* of_bias, std::size_t threads) {
  found().weight_halves(layer, gradient, x, of_weights, of_bias, threads);
}

}  // namespace bowerbird
