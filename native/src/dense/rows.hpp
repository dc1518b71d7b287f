// Rows of a matrix: gathering them, and adding gradients to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bfloat16.hpp"

namespace bowerbird {

// out[i] = table[places[i]], each `width` floats.
void gather_rows(const float* table, const std::int64_t* places, std::size_t count, std::size_t width, float* out,
                 std::size_t threads);

// table[places[i]] += values[i], in the order of i for each row: the same sums for every number of threads.
// `stride` is the distance between values' rows, in elements.
void scatter_rows(const float* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads);
void scatter_rows(const BFloat16* values, std::size_t stride, const std::int64_t* places, std::size_t count,
                  std::size_t width, float* table, std::size_t threads);

// Columns of places, each in a range of its own of one table's rows: sample i has row first + places[i * stride + column] of
// each field.
struct Field {
  std::size_t column;
  std::size_t first;
};

struct Fields {
  const std::int32_t* places;
  std::size_t stride;
  std::size_t samples;
  std::vector<Field> fields;
};

// Each sample's rows of all fields side by side: out [samples, fields, width].
void gather_fields(const float* table, const Fields& fields, std::size_t width, float* out, std::size_t threads);

// Adds what gather_fields would have put side by side to the table's rows, field by field, in the order of samples: the same sums
// for every number of threads.
void scatter_fields(const float* values, const Fields& fields, std::size_t width, float* table, std::size_t threads);

}  // namespace bowerbird
