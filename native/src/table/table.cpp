#include "table/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "table/numbers.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::size_t kTouchAhead = 16;
constexpr std::size_t kPiece = 4096;  // rows that a thread takes at a time
constexpr std::size_t kNearPiece = 512;  // keys whose buckets stay in the first cache
constexpr std::uint64_t kUnknownStream = 0x554E4B4E4F574E21ULL;

std::uint32_t saturated(std::uint32_t uses, std::uint32_t more) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{uses} + more, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

Table::Table(TableOptions options)
    : options_(std::move(options)),
      kernels_(table_kernels(options_.instructions)),
      index_(mix(options_.seed)),
      rows_(options_),
      filter_(options_.admission, options_.seed),
      workers_(std::make_unique<Workers>(options_.threads)),
      groups_(std::max<std::size_t>(options_.threads, 1)),
      drawn_(options_.dimension),
      published_{{0, 0}} {
  new_row(kMissingKey, 0, 0, nullptr);
  new_row(kUnknownStream, 0, 0, nullptr);
  changed_ = false;
}

std::uint64_t Table::version() const {
  const std::shared_lock lock(mutex_);
  return version_;
}

std::uint64_t Table::rows() const {
  const std::shared_lock lock(mutex_);
  return rows_.rows();
}

// ---- lookups -----------------------------------------------------------------------------------

void Table::check_rows(const std::int64_t* rows, std::size_t count) const {
  const auto limit = static_cast<std::int64_t>(rows_.rows());
  bool inside = true;
  for (std::size_t i = 0; i < count; ++i) inside &= rows[i] >= 0 && rows[i] < limit;
  if (!inside) throw std::out_of_range("a row is not one of the table's " + std::to_string(limit));
}

// Only one call at a time has the threads; another one meanwhile does without.
void Table::find_all(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const {
  const IndexView view = index_.view();
  std::unique_lock lock(workers_mutex_, std::try_to_lock);
  if (!lock || count < 2 * kPiece) return kernels_.find(view, keys, count, rows);
  workers_->run((count + kPiece - 1) / kPiece, [&](std::size_t, std::size_t piece) {
    const std::size_t begin = piece * kPiece;
    kernels_.find(view, keys + begin, std::min(kPiece, count - begin), rows + begin);
  });
}

void Table::find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const {
  const std::shared_lock lock(mutex_);
  find_all(keys, count, rows);
}

void Table::take(const std::int64_t* rows, std::size_t count, float* out) const {
  const std::shared_lock lock(mutex_);
  check_rows(rows, count);
  const RowsView view = rows_.view();
  std::unique_lock alone(workers_mutex_, std::try_to_lock);
  if (!alone || count < 2 * kPiece) return kernels_.take(view, options_.precision, rows, count, out);
  workers_->run((count + kPiece - 1) / kPiece, [&](std::size_t, std::size_t piece) {
    const std::size_t begin = piece * kPiece;
    kernels_.take(view, options_.precision, rows + begin, std::min(kPiece, count - begin), out + begin * options_.dimension);
  });
}

void Table::pool(const PoolJob& job, float* out) const {
  const std::shared_lock lock(mutex_);
  check_rows(job.rows, static_cast<std::size_t>(job.offsets[job.bags]));
  const RowsView view = rows_.view();
  std::unique_lock alone(workers_mutex_, std::try_to_lock);
  constexpr std::size_t kBags = 512;
  if (!alone || job.bags < 2 * kBags) return kernels_.pool(view, options_.precision, job, out);
  workers_->run((job.bags + kBags - 1) / kBags, [&](std::size_t, std::size_t piece) {
    PoolJob part = job;
    part.offsets += piece * kBags;
    part.bags = std::min(kBags, job.bags - piece * kBags);
    kernels_.pool(view, options_.precision, part, out + piece * kBags * options_.dimension);
  });
}

void Table::take_state(const std::int64_t* rows, std::size_t count, float* out) const {
  const std::shared_lock lock(mutex_);
  check_rows(rows, count);
  const RowsView view = rows_.view();
  const std::size_t width = options_.state_floats();
  for (std::size_t i = 0; i < count; ++i) std::memcpy(out + i * width, view.state(static_cast<std::uint64_t>(rows[i])), 4 * width);
}

std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> Table::keys() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::uint64_t> by_row(rows_.rows(), kMissingKey);
  index_.each([&](std::uint64_t key, std::uint32_t row) { by_row[row] = key; });
  std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> found;
  found.first.reserve(index_.size());
  found.second.reserve(index_.size());
  for (std::size_t row = kReservedRows; row < by_row.size(); ++row) {
    if (by_row[row] == kMissingKey) continue;
    found.first.push_back(by_row[row]);
    found.second.push_back(static_cast<std::int64_t>(row));
  }
  return found;
}

// ---- training ----------------------------------------------------------------------------------

void Table::admit(const std::uint64_t* keys, std::size_t count, const std::uint32_t* uses, std::int64_t time, std::int64_t* rows) {
  const std::unique_lock lock(mutex_);
  ++calls_;
  const auto now = time == kOwnClock ? static_cast<std::uint32_t>(calls_) : static_cast<std::uint32_t>(time);
  // With a budget, what a call uses must be known before a key of it can push another one out.
  const std::size_t piece = options_.expiry.max_bytes > 0 ? std::max<std::size_t>(count, 1) : kNearPiece;
  for (std::size_t at = 0; at < count; at += piece) {
    admit_piece(keys + at, std::min(piece, count - at), uses == nullptr ? nullptr : uses + at, now, rows + at);
  }
  for (const std::uint32_t row : held_rows_) held_[row / 64] = 0;
  held_rows_.clear();
}

void Table::admit_piece(const std::uint64_t* keys, std::size_t count, const std::uint32_t* uses, std::uint32_t now, std::int64_t* rows) {
  find_all(keys, count, rows);
  touch(rows, count, uses, now);
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kTouchAhead < count && rows[i + kTouchAhead] == kUnknownRow) {
      filter_.prefetch(keys[i + kTouchAhead]);
      index_.prefetch_place(keys[i + kTouchAhead]);
    }
    if (rows[i] != kUnknownRow) continue;
    const TableIndex::Place place = index_.place_of(keys[i]);
    std::uint32_t row = place.row;
    const std::uint32_t times = uses == nullptr ? 1 : uses[i];
    if (row == kAbsentRow) {
      row = admit_one(keys[i], place, times, now);
    } else {
      Stamps& stamps = rows_.view().stamps(row);
      stamps.uses = saturated(stamps.uses, times);
    }
    rows[i] = row;
  }
}

// Notes the use of the rows that there are; nothing that does not expire needs to know.
void Table::touch(const std::int64_t* rows, std::size_t count, const std::uint32_t* uses, std::uint32_t time) {
  const Expiry& expiry = options_.expiry;
  if (expiry.max_age == 0 && expiry.rare_age == 0 && expiry.max_bytes == 0) return;
  const RowsView view = rows_.view();
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kTouchAhead < count) __builtin_prefetch(&view.stamps(static_cast<std::uint64_t>(rows[i + kTouchAhead])), 1);
    if (rows[i] < kReservedRows) continue;
    Stamps& stamps = view.stamps(static_cast<std::uint64_t>(rows[i]));
    stamps.time = std::max(stamps.time, time);
    stamps.uses = saturated(stamps.uses, uses == nullptr ? 1 : uses[i]);
    if (expiry.max_bytes > 0) hold(static_cast<std::uint32_t>(rows[i]));
  }
}

std::uint32_t Table::admit_one(std::uint64_t key, const TableIndex::Place& place, std::uint32_t uses, std::uint32_t time) {
  const bool admitted = filter_.admits(key, uses, calls_);
  const bool fits = admitted && room_for_one_more();
  if (!admitted || (!fits && !evict_one())) {
    ++refused_;
    return kUnknownRow;
  }
  const std::uint32_t row = new_row(key, uses, time, nullptr);
  index_.fill(fits ? place : index_.place_of(key), key, row);
  if (options_.expiry.max_bytes > 0) hold(row);
  ++admitted_;
  return row;
}

// A row with the weights given, or with the key's initial ones, that is not in the index yet.
std::uint32_t Table::new_row(std::uint64_t key, std::uint32_t uses, std::uint32_t time, const float* weights) {
  const std::uint32_t row = rows_.take();
  const RowsView view = rows_.view();
  std::byte* to = view.weights(row);
  if (weights == nullptr) {
    const bool in_place = options_.precision == Precision::kFloat32;
    float* drawn = in_place ? reinterpret_cast<float*>(to) : drawn_.data();
    kernels_.draw(stream_of(options_.seed, key), options_.initial_scale, options_.dimension, drawn);
    if (!in_place) store_weights(options_.precision, drawn, options_.dimension, to);
    weights = drawn;
  } else {
    store_weights(options_.precision, weights, options_.dimension, to);
  }
  begin_state(row, weights);
  view.stamps(row) = {time, uses, next_version()};
  changed_ = true;
  return row;
}

// FTRL's first state is such that its formula gives the initial weight; of those that give 0, the one that leans to no side.
void Table::begin_state(std::uint32_t row, const float* weights) {
  const Optimiser& by = options_.optimiser;
  auto* state = reinterpret_cast<float*>(rows_.view().state(row));
  const std::size_t floats = options_.state_floats();
  const bool adagrad = by.kind == OptimiserKind::kAdagrad || by.kind == OptimiserKind::kRowWiseAdagrad;
  std::fill_n(state, floats, adagrad ? by.initial : 0.0F);
  if (by.kind != OptimiserKind::kFtrl) return;
  const std::size_t dimension = options_.dimension;
  const float slope = (by.beta + std::sqrt(by.initial)) / by.learning_rate + by.l2;
  for (std::size_t i = 0; i < dimension; ++i) {
    state[i] = weights[i] == 0.0F ? 0.0F : -weights[i] * slope - std::copysign(by.l1, weights[i]);
    state[dimension + i] = by.initial;
  }
}

UpdateJob Table::job_of(float learning_rate) {
  const Optimiser& by = options_.optimiser;
  const float rate = learning_rate < 0.0F ? by.learning_rate : learning_rate;
  const auto step = static_cast<double>(++steps_);
  const double left1 = 1.0 - std::pow(static_cast<double>(by.beta1), step);
  const double left2 = 1.0 - std::pow(static_cast<double>(by.beta2), step);
  return {rows_.view(), &by, rate, static_cast<float>(rate / left1), static_cast<float>(std::sqrt(left2)),
          options_.stochastic, mix(options_.seed + steps_), next_version()};
}

void Table::step(const std::int64_t* rows, std::size_t count, const Gradients& gradients, float learning_rate) {
  if (count >= RowGroups::kNone) throw std::length_error("an update takes at most 2^32 - 2 rows at a time");
  check_rows(rows, count);
  const UpdateJob job = job_of(learning_rate);
  changed_ = true;
  const bool exact = options_.optimiser.exact;
  const std::size_t lanes = count < kPiece && !exact ? 1 : groups_.size();
  const std::lock_guard alone(workers_mutex_);
  workers_->run(lanes, [&](std::size_t, std::size_t lane) {
    RowGroups& groups = groups_[lane];
    groups.group(rows, count, gradients, options_.dimension, lane, lanes);
    if (exact) {
      kernels_.sweep(job, groups, lane, lanes);
    } else {
      kernels_.update(job, options_.precision, groups);
    }
  });
}

void Table::update(const std::int64_t* rows, std::size_t count, const float* gradients, float learning_rate) {
  const std::unique_lock lock(mutex_);
  step(rows, count, {gradients}, learning_rate);
}

void Table::update_pooled(const PooledGradients& pooled, float learning_rate) {
  const std::unique_lock lock(mutex_);
  const auto first = static_cast<std::size_t>(pooled.offsets[0]);
  const auto last = static_cast<std::size_t>(pooled.offsets[pooled.bags]);
  std::vector<std::uint32_t> sources(last);
  std::vector<float> scales(last);
  for (std::size_t bag = 0; bag < pooled.bags; ++bag) {
    const std::int64_t size = pooled.offsets[bag + 1] - pooled.offsets[bag];
    const float share = pooled.mode == PoolMode::kMean && size > 0 ? 1.0F / static_cast<float>(size) : 1.0F;
    for (auto i = static_cast<std::size_t>(pooled.offsets[bag]); i < static_cast<std::size_t>(pooled.offsets[bag + 1]); ++i) {
      sources[i] = static_cast<std::uint32_t>(bag);
      scales[i] = pooled.weights == nullptr ? share : share * pooled.weights[i];
    }
  }
  step(pooled.rows + first, last - first, {pooled.gradients, sources.data() + first, scales.data() + first}, learning_rate);
}

void Table::put(const std::uint64_t* keys, std::size_t count, const float* weights) {
  const std::unique_lock lock(mutex_);
  ++calls_;
  for (std::size_t i = 0; i < count; ++i) {
    if (keys[i] == kMissingKey) continue;
    const float* from = weights + i * options_.dimension;
    const std::uint32_t row = index_.view().find(keys[i]);
    if (row != kAbsentRow) {
      store_weights(options_.precision, from, options_.dimension, rows_.view().weights(row));
      begin_state(row, from);
      rows_.view().stamps(row).version = next_version();
    } else {
      index_.insert(keys[i], new_row(keys[i], 1, static_cast<std::uint32_t>(calls_), from));
      ++admitted_;
    }
  }
  changed_ = true;
}

void Table::set_rows(const std::int64_t* rows, std::size_t count, const float* weights) {
  const std::unique_lock lock(mutex_);
  check_rows(rows, count);
  const RowsView view = rows_.view();
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::uint64_t>(rows[i]);
    store_weights(options_.precision, weights + i * options_.dimension, options_.dimension, view.weights(row));
    view.stamps(row).version = next_version();
  }
  changed_ = true;
}

TableStatistics Table::statistics() const {
  const std::shared_lock lock(mutex_);
  TableStatistics made;
  made.keys = index_.size();
  made.rows = rows_.rows();
  made.free_rows = rows_.free_rows().size();
  made.index_bytes = index_.bytes();
  made.row_bytes = rows_.bytes();
  made.filter_bytes = filter_.bytes();
  made.admitted = admitted_;
  made.refused = refused_;
  made.expired = expired_;
  made.evicted = evicted_;
  made.steps = steps_;
  made.version = version_;
  made.load = index_.load();
  return made;
}

}  // namespace bowerbird::embedding
