#pragma once

#include "pair/builder.hpp"

namespace bowerbird::pair {

void build_field_attention(Builder& builder, const StepSpec& step);

}  // namespace bowerbird::pair
