// Binds hidden layers of training to Python.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_mlp(nanobind::module_& module);

}  // namespace bowerbird
