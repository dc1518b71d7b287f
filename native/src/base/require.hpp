// What a caller has to hold to.
#pragma once

#include <stdexcept>

namespace bowerbird {

// Throws std::invalid_argument unless it holds. A message is text and no string: making one would cost more than what is checked.
inline void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace bowerbird
