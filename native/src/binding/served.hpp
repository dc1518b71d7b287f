// Served embedding tables for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_served(nanobind::module_& module);

}  // namespace bowerbird
