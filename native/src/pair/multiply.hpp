// Products of two matrices that each candidate has of its own.
#pragma once

#include "pair/kernels.hpp"
#include "pair/simd.hpp"

namespace bowerbird::pair::BOWERBIRD_PAIR_ISA {
namespace {

constexpr std::size_t kProductRows = kBlock / 2;
constexpr std::size_t kProductColumns = 4;

// R by C sums from (row, column) on, for one vector of candidates.
template <std::size_t R, std::size_t C>
BOWERBIRD_INLINE void multiply_block(const Multiply& m, std::size_t row, std::size_t column, std::size_t lane) {
  const float* left = m.left + row * m.left_row * kTile + lane;
  const float* right = m.right + column * m.right_column * kTile + lane;
  V sums[R][C] = {};
  for (std::size_t k = 0; k < m.inner; ++k) {
    V values[C];
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) values[c] = load(right + c * m.right_column * kTile);
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r) {
      const V factor = load(left + r * m.left_row * kTile);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < C; ++c) sums[r][c] += factor * values[c];
    }
    left += m.left_inner * kTile;
    right += m.right_inner * kTile;
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < R; ++r) {
    float* const out = m.out + ((row + r) * m.out_row + column) * kTile + lane;
    const V before = m.before == nullptr ? V{} : load(m.before + (row + r) * m.before_row * kTile + lane);
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) {
      const V sum = sums[r][c] * m.scale;
      store(out + c * kTile, m.before == nullptr ? sum : load(out + c * kTile) * before + sum);
    }
  }
}

template <std::size_t R>
BOWERBIRD_INLINE void multiply_rows(const Multiply& m, std::size_t row, std::size_t lane) {
  std::size_t column = 0;
  for (; column + kProductColumns <= m.columns; column += kProductColumns) {
    multiply_block<R, kProductColumns>(m, row, column, lane);
  }
  for (; column < m.columns; ++column) multiply_block<R, 1>(m, row, column, lane);
}

void multiply(const Multiply& m) {
  for (std::size_t lane = 0; lane < m.vectors * kLanes; lane += kLanes) {
    std::size_t row = 0;
    for (; row + kProductRows <= m.rows; row += kProductRows) multiply_rows<kProductRows>(m, row, lane);
    for (; row < m.rows; ++row) multiply_rows<1>(m, row, lane);
  }
}

}  // namespace
}  // namespace bowerbird::pair::BOWERBIRD_PAIR_ISA
