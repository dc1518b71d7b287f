// Arrays that are lent for a call. PyTorch's tensors come by the C interface that their class tells of, in a sixth of the time
// that the Python method takes which nanobind calls; all others come as nanobind reads them.
#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>
#include <utility>

namespace bowerbird {

namespace nb = nanobind;

template <typename... Options>
class Lent : public nb::ndarray<Options...> {
 public:
  Lent() = default;
  explicit Lent(nb::ndarray<Options...>&& array) : nb::ndarray<Options...>(std::move(array)) {}
};

// A DLPack capsule of a tensor whose class has that interface; null for all else.
nb::object lent_capsule(nb::handle source) noexcept;

}  // namespace bowerbird

namespace nanobind::detail {

template <typename... Options>
struct type_caster<bowerbird::Lent<Options...>> {
  using Array = ndarray<Options...>;
  NB_TYPE_CASTER(bowerbird::Lent<Options...>, make_caster<Array>::Name)

  bool from_python(handle source, std::uint32_t flags, cleanup_list* cleanup) noexcept {
    const object capsule = bowerbird::lent_capsule(source);
    make_caster<Array> read;
    if (!read.from_python(capsule.is_valid() ? handle(capsule) : source, flags, cleanup)) return false;
    value = bowerbird::Lent<Options...>(std::move(read.value));
    return true;
  }
};

}  // namespace nanobind::detail
