// Binds the dense kernels to Python.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_dense(nanobind::module_& module);

}  // namespace bowerbird
