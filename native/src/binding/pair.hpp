// Pair programs as Python sees them.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_pair(nanobind::module_& module);

}  // namespace bowerbird
