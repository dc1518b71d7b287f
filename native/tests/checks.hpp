// What the native tests of numbers have in common: expectations that are counted, and random numbers.
#pragma once

#include <cstdio>
#include <random>
#include <string>
#include <vector>

namespace bowerbird::checks {

inline int failures = 0;

inline void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "  FAILED: %s\n", what.c_str());
}

inline std::mt19937 source(7);

inline std::vector<float> normal(std::size_t count) {
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float& value : values) value = distribution(source);
  return values;
}

}  // namespace bowerbird::checks
