// Bindings of target attention as one pass.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_attention(nanobind::module_& module);

}  // namespace bowerbird
