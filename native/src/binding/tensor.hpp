// Binds tensor programs to Python.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_tensor(nanobind::module_& module);

}  // namespace bowerbird
