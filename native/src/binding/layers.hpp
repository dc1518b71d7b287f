// Binds the layers of training to Python: linear ones, cross networks, sums of events.
#pragma once

#include <nanobind/nanobind.h>

namespace bowerbird {

void bind_layers(nanobind::module_& module);

}  // namespace bowerbird
