// Products and the operands that they read.
#pragma once

#include <memory>

#include "pair/dense.hpp"
#include "pair/work.hpp"

namespace bowerbird::pair {

// Consecutive float rows.
struct RowRange {
  Place place;
  std::size_t rows;
};

// What a product reads: float rows where they are, or one piece of narrower units, integer ones with a scale and zero
// point for each candidate.
struct Operand {
  Unit unit = Unit::kFloat;
  std::vector<RowRange> floats;
  Place units, scale, zero;
  std::size_t groups = 0;
  bool shifted = true;  // the zero points may be other than 0
};

// A term of a product's sum: a request's row, a tile's rows, or candidates' rows still in their store.
struct Term {
  enum class Kind { kRow, kRows, kStored } kind;
  std::size_t value = 0;
  Place place;
};

class LinearStep : public Step {
 public:
  LinearStep(std::shared_ptr<const Dense> dense, Operand operand, std::vector<Term> terms, Place room);
  void run(const Work& work) const override;

  // Outputs whose stored terms are gathered at a time.
  static constexpr std::size_t kChunk = 64;

  // What it makes is multiplied by the one and the other is added, while the sums are in registers.
  void multiply_add(Place factor, Place after) { factor_ = factor, after_ = after; }

  bool nonnegative() const { return dense_->nonnegative() && !factor_; }
  void keep_floats(Place place) { floats_ = place; }
  void keep_halves(Place place) { halves_ = place; }
  // Two rows: the least and the greatest output of each candidate.
  void keep_range(Place place) { range_ = place; }

 private:
  void run_part(const Work& work, Product product, std::size_t first) const;

  std::shared_ptr<const Dense> dense_;
  Operand operand_;
  std::vector<Term> terms_;
  Place room_;
  bool stored_ = false;
  std::optional<Place> factor_, after_, floats_, halves_, range_;
};

// Float rows become bfloat16 or integer units.
class ConvertStep : public Step {
 public:
  ConvertStep(std::vector<RowRange> rows, Operand operand, std::optional<Place> range, Place room);
  void run(const Work& work) const override;

 private:
  std::vector<RowRange> rows_;
  Operand operand_;
  std::optional<Place> range_;  // known already
  Place room_;
};

// Sets the least and the greatest to 0.
void clear_range(const Work& work, Place range);

}  // namespace bowerbird::pair
