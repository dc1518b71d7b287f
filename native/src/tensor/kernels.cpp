#include "tensor/kernels.hpp"

namespace bowerbird::tensor {

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
#endif

const Kernels& kernels_of([[maybe_unused]] pair::Isa isa) {
#if defined(BOWERBIRD_WIDE_KERNELS)
  if (isa == pair::Isa::kAvx2) return avx2::kernels;
  if (isa != pair::Isa::kGeneric) return avx512::kernels;
#endif
  return generic::kernels;
}

}  // namespace bowerbird::tensor
