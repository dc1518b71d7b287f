#include "pair/kernels.hpp"

#if defined(BOWERBIRD_WIDE_KERNELS)
#include "pair/amx.hpp"
#endif

namespace bowerbird::pair {

namespace generic {
extern const Kernels kernels;
}
#if defined(BOWERBIRD_WIDE_KERNELS)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512_bf16 {
extern const Kernels kernels;
}
#endif

const Kernels& kernels_of([[maybe_unused]] Isa isa) {
#if defined(BOWERBIRD_WIDE_KERNELS)
  if (isa == Isa::kAvx2) return avx2::kernels;
  if (isa == Isa::kAvx512) return avx512::kernels;
  if (isa == Isa::kAvx512Bf16) return avx512_bf16::kernels;
  if (isa == Isa::kAmx) return amx_kernels();
  if (isa == Isa::kAmxEmulated) return amx_emulated_kernels();
#endif
  return generic::kernels;
}

}  // namespace bowerbird::pair
