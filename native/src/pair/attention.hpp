// Attention of candidates over a request's history.
#pragma once

#include "pair/builder.hpp"

namespace bowerbird::pair {

void build_target_attention(Builder& builder, const StepSpec& step);
void build_attention(Builder& builder, const StepSpec& step);

}  // namespace bowerbird::pair
