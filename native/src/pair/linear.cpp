#include "pair/linear.hpp"

#include <algorithm>

namespace bowerbird::pair {

void clear_range(const Work& work, Place range) { std::fill_n(work.at(range), 2 * work.kernels.tile, 0.0f); }

LinearStep::LinearStep(std::shared_ptr<const Dense> dense, Operand operand, std::vector<Term> terms, Place room)
    : dense_(std::move(dense)), operand_(std::move(operand)), terms_(std::move(terms)), room_(room) {
  for (const Term& term : terms_) stored_ = stored_ || term.kind == Term::Kind::kStored;
}

void LinearStep::run(const Work& work) const {
  auto& segments = work.scratch.segments;
  segments.clear();
  for (const RowRange& range : operand_.floats) segments.push_back({work.at(range.place), range.rows});
  if (operand_.unit != Unit::kFloat) segments.push_back({work.units(operand_.units), operand_.groups});
  if (range_) clear_range(work, *range_);
  const std::size_t chunk = stored_ ? kChunk : dense_->outputs();
  for (std::size_t first = 0; first < dense_->outputs(); first += chunk) {
    Product product = dense_->product(first, std::min(chunk, dense_->outputs() - first));
    product.segments = segments.data();
    product.segment_count = segments.size();
    product.vectors = work.vectors;
    if (is_integer(operand_.unit)) {
      product.lane_scale = work.at(operand_.scale);
      product.lane_zero = operand_.shifted ? work.at(operand_.zero) : nullptr;
    }
    run_part(work, product, first);
  }
}

void LinearStep::run_part(const Work& work, Product product, std::size_t first) const {
  auto& pointers = work.scratch.pointers;
  pointers.clear();
  for (const Term& term : terms_) {
    if (term.kind == Term::Kind::kRow) pointers.push_back(work.run.given[term.value].row + first);
  }
  product.row_add_count = pointers.size();
  std::size_t gathered = 0;
  for (const Term& term : terms_) {
    if (term.kind == Term::Kind::kRows) pointers.push_back(work.at({term.place.buffer, term.place.row + first}));
    if (term.kind == Term::Kind::kStored) {
      float* const rows = work.at({room_.buffer, room_.row + kChunk * gathered++});
      work.kernels.gather(work.run.given[term.value].stored, work.first, work.size, first, product.outputs, rows);
      pointers.push_back(rows);
    }
  }
  product.tile_add_count = pointers.size() - product.row_add_count;
  product.row_adds = pointers.data();
  product.tile_adds = pointers.data() + product.row_add_count;
  if (factor_) product.factor = work.at({factor_->buffer, factor_->row + first});
  if (after_) product.after = work.at({after_->buffer, after_->row + first});
  if (floats_) product.out = work.at({floats_->buffer, floats_->row + first});
  if (halves_) product.halves = work.units({halves_->buffer, halves_->row + first / 2});
  if (range_) product.range = work.at(*range_);
  work.kernels.product(product);
}

ConvertStep::ConvertStep(std::vector<RowRange> rows, Operand operand, std::optional<Place> range, Place room)
    : rows_(std::move(rows)), operand_(std::move(operand)), range_(range), room_(room) {}

void ConvertStep::run(const Work& work) const {
  auto& pointers = work.scratch.pointers;
  pointers.clear();
  for (const RowRange& range : rows_) {
    const float* row = work.at(range.place);
    for (std::size_t i = 0; i < range.rows; ++i) pointers.push_back(row + i * work.kernels.tile);
  }
  const Rows rows{pointers.data(), pointers.size(), work.vectors};
  if (operand_.unit == Unit::kBf16) return work.kernels.to_halves(rows, work.units(operand_.units));
  if (!range_) {
    clear_range(work, room_);
    work.kernels.widen_range(rows, work.at(room_));
  }
  work.kernels.quantise(rows, work.at(range_.value_or(room_)), work.at(operand_.scale), work.at(operand_.zero),
                        work.units(operand_.units));
}

}  // namespace bowerbird::pair
