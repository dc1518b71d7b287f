// Embedding tables for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_table(nanobind::module_& module);

}  // namespace bowerbird
