// From the Python plan (bowerbird/plan/spec.py as plain dictionaries and lists) to the engine's.
#pragma once

#include <nanobind/nanobind.h>

#include "plan/plan.hpp"

namespace bowerbird {

Plan plan_from_python(const nanobind::dict& plan);

}  // namespace bowerbird
