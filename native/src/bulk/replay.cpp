#include "bulk/replay.hpp"

#include <algorithm>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "plan/program_values.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kSegmentRows = 16384;
constexpr std::size_t kEmittedRows = 4096;
constexpr std::size_t kUnits = kShards;  // of a family's buckets: a shard's are run by one thread

}  // namespace

BulkReplay::BulkReplay(std::shared_ptr<Program> program, bool keep) : program_(std::move(program)), state_(*program_->states_.front()), keep_(keep) {
  if (program_->states_.size() != 1) throw std::invalid_argument("a replay has one state");
  state_.open_bulk();
  const Plan& plan = program_->plan_;
  for (std::size_t i = 0; i < state_.families_.size(); ++i) families_.push_back(std::make_unique<BulkFamily>(state_, *program_, i, keep));
  for (const auto& family : families_) {
    for (BulkCells& cells : family->cells()) {
      cells_.push_back(&cells);
      families_of_.push_back(family.get());
    }
  }
  lanes_.resize(state_.workers_->lanes());
  // What is kept of a read: values that are computed with, or shown and in no cell.
  const Program::Side& side = program_->whole_;
  std::vector<bool> is_used = program_->computed_with();
  std::vector<bool> is_in_cells(side.numbers.size(), false);
  for (const BulkCells* cells : cells_) {
    for (const std::size_t feature : cells->numbers()) is_in_cells[feature] = true;
  }
  for (std::size_t i = 0; i < side.categories.size(); ++i) categories_.emplace_back(i, plan.features[side.categories[i]].node);
  for (std::size_t i = 0; i < side.numbers.size(); ++i) {
    if (!is_in_cells[i]) numbers_.emplace_back(i, plan.features[side.numbers[i]].node);
  }
  for (const auto& shown : {categories_, numbers_}) {
    for (const auto& [feature, node] : shown) is_used[static_cast<std::size_t>(node)] = true;
  }
  const auto keep_where_used = [&](int node) {
    if (is_used[static_cast<std::size_t>(node)]) kept_nodes_.push_back(node);
  };
  for (const auto& [node, value] : side.values) keep_where_used(node);
  for (const int node : side.before) keep_where_used(node);
  kept_.resize(kept_nodes_.size());
  needs_times_ = !side.sequences.empty() || std::any_of(side.after.begin(), side.after.end(), [&](int node) {
    return Program::takes_time(plan.nodes[static_cast<std::size_t>(node)].operation);
  });
  vectors_.resize(side.vectors.size());
}

void BulkReplay::add(const Records& records, const Reads& reads) {
  if (ran_) throw std::logic_error("records are added before they are run");
  const std::unique_lock lock(state_.mutex_);
  state_.check_reads(records, reads);
  state_.version_ = 0;
  if (needs_times_) std::copy_n(reads.times, reads.count, times_.extend(reads.count));
  rows_ += reads.count;
  const std::size_t types = state_.types_.size();
  state_.each_segment(records, &reads, kSegmentRows, [&](const State::Segment& segment) {
    state_.list_rows(records, segment.begin, segment.end);
    state_.workers_->run(types, [&](std::size_t, std::size_t type) { state_.prepare_type(type, records); });
    evaluate(reads, segment.first_read, segment.last_read);
    const std::size_t count = segment.last_read - segment.first_read;
    state_.workers_->run(families_.size() + 1, [&](std::size_t, std::size_t number) {
      if (number == 0) {
        keep_values(count);
      } else {
        families_[number - 1]->add(records, segment, reads, values_);
      }
    });
  });
}

void BulkReplay::evaluate(const Reads& reads, std::size_t first, std::size_t last) {
  const std::size_t count = last - first;
  const Program& program = *program_;
  program.allocate(values_, count);
  values_.times = reads.times + first;
  // An exposure and the read of it look up the same.
  std::vector<PathSet::Known> known;
  for (std::size_t type = 0; type < state_.types_.size(); ++type) {
    known.push_back({&state_.types_[type].paths, &state_.rows_[type].space, state_.types_[type].families.empty() ? 0 : state_.rows_[type].rows.size()});
  }
  program.whole_.paths.evaluate({reads.slots, reads.count, nullptr, first, count}, kIdle, space_, known);
  for (const auto& [node, value] : program.whole_.values) {
    std::copy_n(space_.values.data() + static_cast<std::size_t>(value) * count, count, values_.columns[static_cast<std::size_t>(node)]);
  }
  for (const int node : program.whole_.before) program.compute(node, values_);
}

void BulkReplay::keep_values(std::size_t count) {
  for (std::size_t i = 0; i < kept_nodes_.size(); ++i) {
    std::copy_n(values_.columns[static_cast<std::size_t>(kept_nodes_[i])], count, kept_[i].extend(count));
  }
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    const Program::VectorRead& vector = program_->whole_.vectors[i];
    const std::byte* const* blocks = space_.blocks.data() + vector.lookup * count;
    float* to = vectors_[i].extend(count * vector.width);
    for (std::size_t row = 0; row < count; ++row, to += vector.width) program_->copy_vector(vector, blocks[row], to);
  }
}

void BulkReplay::run() {
  if (ran_) throw std::logic_error("a bulk replay is run once");
  ran_ = true;
  const std::unique_lock lock(state_.mutex_);
  constexpr std::size_t kEach = BulkFamily::kBuckets / kUnits;
  std::vector<std::vector<std::unique_ptr<Scratch>>> scratch(lanes_.size());
  for (auto& each : scratch) each.resize(families_.size());
  state_.workers_->run(families_.size() * kUnits, [&](std::size_t lane, std::size_t number) {
    const std::size_t family = number / kUnits;
    auto& own = scratch[lane][family];
    if (own == nullptr) own = std::make_unique<Scratch>(families_[family]->family());
    for (std::size_t i = 0; i < kEach; ++i) families_[family]->run(number % kUnits * kEach + i, *own, lanes_[lane]);
    families_[family]->store_direct(number % kUnits);
  });
  state_.close_bulk(keep_);
}

Columns BulkReplay::next(std::size_t rows) {
  if (!ran_) throw std::logic_error("records are run before features are taken");
  rows = std::min(rows, rows_ - emitted_);
  Columns out = program_->columns(program_->whole_, rows);
  const std::size_t step = kEmittedRows * lanes_.size();
  for (std::size_t first = 0; first < rows; first += step) {
    const std::size_t count = std::min(step, rows - first);
    state_.workers_->run(cells_.size(), [&](std::size_t, std::size_t i) {
      cells_[i]->take(count);
      cells_[i]->emit_sequences(times_.data() + emitted_, families_of_[i]->lists(), out);
    });
    state_.workers_->run((count + kEmittedRows - 1) / kEmittedRows, [&](std::size_t lane, std::size_t number) {
      const std::size_t begin = number * kEmittedRows;
      emit({begin, std::min(kEmittedRows, count - begin), first}, lanes_[lane].values, out);
    });
    emitted_ += count;
  }
  return out;
}

// Rows of those taken: their numbers, keys and vectors.
void BulkReplay::emit(const Rows& rows, Program::Values& values, Columns& out) const {
  const Program& program = *program_;
  const auto [begin, count, first] = rows;
  const std::size_t at = emitted_ + begin;
  const std::size_t to = first + begin;
  program.allocate(values, count);
  values.times = needs_times_ ? times_.data() + at : nullptr;
  for (const BulkCells* cells : cells_) cells->emit(begin, count, to, out, values);
  for (std::size_t i = 0; i < kept_nodes_.size(); ++i) {
    std::copy_n(kept_[i].data() + at, count, values.columns[static_cast<std::size_t>(kept_nodes_[i])]);
  }
  for (const int node : program.whole_.after) program.compute(node, values);
  for (const auto& [feature, node] : categories_) {
    std::copy_n(values.columns[static_cast<std::size_t>(node)], count, out.categories.data() + feature * out.rows + to);
  }
  for (const auto& [feature, node] : numbers_) {
    const std::uint64_t* column = values.columns[static_cast<std::size_t>(node)];
    float* numbers = out.numbers.data() + feature * out.rows + to;
    for (std::size_t row = 0; row < count; ++row) numbers[row] = static_cast<float>(number(column[row]));
  }
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    const std::size_t width = program.whole_.vectors[i].width;
    std::copy_n(vectors_[i].data() + at * width, count * width, out.vectors[i].data() + to * width);
  }
}

std::size_t BulkReplay::bytes() const {
  std::size_t bytes = 8 * rows_ * (1 + kept_nodes_.size()) + sizeof(std::uint16_t) * rows_ * cells_.size();
  std::size_t operations = 0;
  std::size_t cells = 0;
  for (const auto& family : families_) operations += family->bytes();
  for (const BulkCells* each : cells_) cells += rows_ * each->bytes();
  for (const Buffer<float>& vectors : vectors_) bytes += 4 * vectors.size();
  return bytes + std::max(operations, cells);  // the one's memory becomes the other's
}

}  // namespace bowerbird
