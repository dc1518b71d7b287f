// Snapshots, which are all of a table, and deltas, which are the keys that changed after an earlier version.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include "table/index_file.hpp"
#include "table/table.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::size_t kRowsAhead = 16;

std::uint64_t new_id() {
  std::random_device random;
  return (std::uint64_t{random()} << 32) | random() | 1;
}

// Writes a section of `count` parts, each `width` bytes at the place given.
template <typename Place>
void write_each(TableFileWriter& file, Section which, std::uint64_t count, std::size_t width, Place&& place) {
  const std::size_t together = std::max<std::size_t>((std::size_t{1} << 20) / width, 1);
  std::vector<std::byte> buffer(together * width);
  file.begin(which);
  for (std::uint64_t first = 0; first < count; first += together) {
    const std::size_t some = std::min<std::uint64_t>(together, count - first);
    for (std::size_t i = 0; i < some; ++i) std::memcpy(buffer.data() + i * width, place(first + i), width);
    file.write(buffer.data(), some * width);
  }
  file.end();
}

// Which rows were new or stepped after a version, by number. Rows are read in the order in which they lie in memory: the index has
// them in an order of its own, in which nearly every row is another page.
std::vector<bool> changed_after(const RowsView& rows, std::uint64_t since) {
  std::vector<bool> changed(rows.rows);
  for (std::uint64_t row = 0; row < rows.rows; ++row) changed[row] = rows.stamps(row).version > since;
  return changed;
}

// The chunks of rows that a file has one behind the other.
std::vector<std::byte*> chunks_in(const TableFile& file, std::uint64_t rows, const RowLayout& packed) {
  auto* weights = const_cast<std::byte*>(file.data(Section::kWeights));
  std::vector<std::byte*> chunks;
  for (std::uint64_t first = 0; first < rows; first += packed.chunk_rows(), weights += packed.chunk_bytes()) chunks.push_back(weights);
  return chunks;
}

// The keys of a delta's section, after the first `skipped`.
std::vector<std::uint64_t> keys_of(const TableFile& file, Section which, std::size_t skipped) {
  std::vector<std::uint64_t> keys(file.bytes(which) / 8 - skipped);
  if (!keys.empty()) std::memcpy(keys.data(), file.data(which) + 8 * skipped, 8 * keys.size());
  return keys;
}

}  // namespace

TableFileHeader Table::header_of(FileKind kind, const Published& made) const {
  TableFileHeader header{};
  header.kind = kind;
  header.precision = options_.precision;
  header.version = made.version;
  header.version_id = made.id;
  header.dimension = options_.dimension;
  header.state_bytes = rows_.layout().state_bytes;
  header.rows = rows_.rows();
  header.keys = index_.size();
  header.salt = index_.salt();
  header.steps = steps_;
  header.calls = calls_;
  header.admitted = admitted_;
  header.refused = refused_;
  header.expired = expired_;
  header.evicted = evicted_;
  return header;
}

void Table::adopt_counters(const TableFileHeader& header) {
  version_ = header.version;
  steps_ = header.steps;
  calls_ = header.calls;
  admitted_ = header.admitted;
  refused_ = header.refused;
  expired_ = header.expired;
  evicted_ = header.evicted;
  changed_ = false;
}

void Table::publish(const Published& made) {
  version_ = made.version;
  published_.push_back(made);
  changed_ = false;
}

void Table::check_layout(const TableFile& file, FileKind kind) const {
  const TableFileHeader& header = file.header();
  if (header.kind != kind) {
    throw std::invalid_argument(file.path() + (kind == FileKind::kSnapshot ? " is not a snapshot but a delta" : " is not a delta but a snapshot"));
  }
  if (header.dimension != options_.dimension || header.precision != options_.precision ||
      header.state_bytes != rows_.layout().state_bytes || header.salt != index_.salt()) {
    throw std::invalid_argument(file.path() + " is of a table with another dimension, precision, optimiser or seed");
  }
}

// ---- snapshots ---------------------------------------------------------------------------------

void Table::snapshot(const std::string& path) {
  const std::unique_lock lock(mutex_);
  const Published made{version_ + 1, new_id()};
  TableFileWriter file(path);
  const RowsView rows = rows_.view();
  write_all(file, Section::kConfig, std::vector<char>(options_.config.begin(), options_.config.end()));
  write_index(file, index_);
  write_each(file, Section::kWeights, rows.rows, rows.layout.weight_bytes, [&](std::uint64_t row) { return rows.weights(row); });
  write_each(file, Section::kStates, rows.rows, rows.layout.state_bytes, [&](std::uint64_t row) { return rows.state(row); });
  write_all(file, Section::kFree, rows_.free_rows());
  write_all(file, Section::kFilter, filter_.dump());
  file.finish(header_of(FileKind::kSnapshot, made));
  publish(made);
}

void Table::restore(const std::string& path) {
  const std::unique_lock lock(mutex_);
  const TableFile file(path, true);
  check_layout(file, FileKind::kSnapshot);
  const TableFileHeader& header = file.header();
  const std::vector<IndexShard> shards = shards_of(file);
  file.expect(Section::kWeights, header.rows * rows_.layout().weight_bytes);
  file.expect(Section::kStates, header.rows * rows_.layout().state_bytes);
  const IndexView view = view_of(shards, header.salt);
  if (header.rows < kReservedRows || !view.sound(header.rows)) file.damaged("has a damaged index");
  const std::byte* filter = file.data(Section::kFilter);
  filter_.adopt({filter, filter + file.bytes(Section::kFilter)});
  std::vector<std::uint32_t> free(file.bytes(Section::kFree) / sizeof(std::uint32_t));
  if (!free.empty()) std::memcpy(free.data(), file.data(Section::kFree), free.size() * sizeof(std::uint32_t));
  index_.adopt(shards);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (std::size_t unit = 0; unit < shards[i].unit_count(); ++unit) {
      std::memcpy(static_cast<void*>(index_.shards()[i].units[unit]), shards[i].units[unit], kUnitBytes);
    }
  }
  rows_.adopt(header.rows, std::move(free));
  const RowsView rows = rows_.view();
  const auto [weight_bytes, state_bytes] = std::pair(rows.layout.weight_bytes, rows.layout.state_bytes);
  for (std::uint64_t row = 0; row < header.rows; ++row) {
    std::memcpy(rows.weights(row), file.data(Section::kWeights) + row * weight_bytes, weight_bytes);
    std::memcpy(rows.state(row), file.data(Section::kStates) + row * state_bytes, state_bytes);
  }
  adopt_counters(header);
  removed_.clear();
  published_ = {{header.version, header.version_id}};
}

// ---- deltas ------------------------------------------------------------------------------------

std::uint64_t Table::base_id(std::uint64_t since) const {
  for (const Published& earlier : published_) {
    if (earlier.version == since) return earlier.id;
  }
  throw WrongOrder("no delta can start at version " + std::to_string(since) + " (the table is at " + std::to_string(version_) +
                   " and has forgotten older ones or never made it): take a snapshot");
}

void Table::delta(const std::string& path, std::uint64_t since) {
  const std::unique_lock lock(mutex_);
  const Published made{version_ + 1, new_id()};
  TableFileHeader header = header_of(FileKind::kDelta, made);
  header.base = since;
  header.base_id = base_id(since);
  const RowsView rows = rows_.view();
  std::vector<std::uint64_t> keys(kReservedRows, kMissingKey);
  std::vector<std::uint32_t> numbers{kMissingRow, kUnknownRow};
  const std::vector<bool> changed = changed_after(rows, since);
  index_.each([&](std::uint64_t key, std::uint32_t row) {
    if (!changed[row]) return;
    keys.push_back(key);
    numbers.push_back(row);
  });
  std::vector<std::uint64_t> removed;
  for (const Removed& gone : removed_) {
    if (gone.version > since) removed.push_back(gone.key);
  }
  header.keys = keys.size();
  TableFileWriter file(path);
  write_all(file, Section::kConfig, std::vector<char>(options_.config.begin(), options_.config.end()));
  write_all(file, Section::kKeys, keys);
  write_each(file, Section::kWeights, header.keys, rows.layout.weight_bytes, [&](std::uint64_t i) { return rows.weights(numbers[i]); });
  write_each(file, Section::kStates, header.keys, rows.layout.state_bytes, [&](std::uint64_t i) { return rows.state(numbers[i]); });
  write_all(file, Section::kRemoved, removed);
  file.finish(header);
  publish(made);
}

void Table::check_base(const TableFile& file) const {
  const TableFileHeader& header = file.header();
  const std::string span = file.path() + " goes from version " + std::to_string(header.base) + " to " + std::to_string(header.version) +
                           ", and the table is at " + std::to_string(version_);
  if (version_ >= header.version) throw WrongOrder(span + ": it was applied already, or is older");
  if (version_ < header.base) throw WrongOrder(span + ": apply the deltas between them first");
  if (version_ > header.base) throw WrongOrder(span + ": apply one that starts at the table's version");
  if (published_.empty() || published_.back().id != header.base_id) throw WrongOrder(span + ", which has another history: restore its snapshot");
  if (changed_) throw WrongOrder(span + ", but was changed since: restore the snapshot");
}

// The rows of keys, new ones where they had none.
std::vector<std::int64_t> Table::rows_for(const std::vector<std::uint64_t>& keys) {
  std::vector<std::int64_t> rows(keys.size());
  find_all(keys.data(), keys.size(), rows.data());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (rows[i] != kUnknownRow) continue;
    const TableIndex::Place place = index_.place_of(keys[i]);
    rows[i] = place.row == kAbsentRow ? rows_.take() : place.row;
    if (place.row == kAbsentRow) index_.fill(place, keys[i], static_cast<std::uint32_t>(rows[i]));
  }
  return rows;
}

void Table::apply_delta(const std::string& path) {
  const std::unique_lock lock(mutex_);
  const TableFile file(path, true);
  check_layout(file, FileKind::kDelta);
  check_base(file);
  const TableFileHeader& header = file.header();
  const RowLayout& layout = rows_.layout();
  if (header.keys < kReservedRows) file.damaged("has no rows");
  file.expect(Section::kKeys, header.keys * 8);
  file.expect(Section::kWeights, header.keys * layout.weight_bytes);
  file.expect(Section::kStates, header.keys * layout.state_bytes);
  const std::vector<std::uint64_t> keys = keys_of(file, Section::kKeys, kReservedRows);
  if (std::ranges::find(keys, kMissingKey) != keys.end()) file.damaged("has a missing key");
  for (const std::uint64_t key : keys_of(file, Section::kRemoved, 0)) {
    if (key != kMissingKey && index_.view().find(key) != kAbsentRow) let_go(key);
  }
  const std::vector<std::int64_t> numbers = rows_for(keys);
  const RowsView rows = rows_.view();
  const auto copy = [&](std::uint64_t row, std::uint64_t from) {
    std::memcpy(rows.weights(row), file.data(Section::kWeights) + from * layout.weight_bytes, layout.weight_bytes);
    std::memcpy(rows.state(row), file.data(Section::kStates) + from * layout.state_bytes, layout.state_bytes);
  };
  for (std::uint64_t row = 0; row < kReservedRows; ++row) copy(row, row);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (i + kRowsAhead < numbers.size()) rows.prefetch_row(static_cast<std::uint64_t>(numbers[i + kRowsAhead]));
    copy(static_cast<std::uint64_t>(numbers[i]), kReservedRows + i);
  }
  adopt_counters(header);
  published_.push_back({header.version, header.version_id});
}

DeltaRows read_delta(const std::string& path) {
  const TableFile file(path, true);
  const TableFileHeader& header = file.header();
  if (header.kind != FileKind::kDelta) throw std::invalid_argument(path + " is not a delta");
  if (header.dimension == 0 || header.keys < kReservedRows) file.damaged("has no rows");
  TableOptions options;
  options.dimension = header.dimension;
  options.precision = header.precision;
  file.expect(Section::kKeys, header.keys * 8);
  file.expect(Section::kWeights, header.keys * options.weight_bytes());
  DeltaRows found;
  found.dimension = header.dimension;
  found.keys = keys_of(file, Section::kKeys, kReservedRows);
  found.removed = keys_of(file, Section::kRemoved, 0);
  found.vectors.resize(header.keys * header.dimension);
  const RowLayout packed = RowLayout(options).packed();
  const std::vector<std::byte*> chunks = chunks_in(file, header.keys, packed);
  std::vector<std::int64_t> rows(header.keys);
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  table_kernels("").take({chunks.data(), header.keys, packed}, header.precision, rows.data(), rows.size(), found.vectors.data());
  return found;
}

// ---- mapped tables -----------------------------------------------------------------------------

MappedTable::MappedTable(const std::string& path, bool verify, const std::string& instructions)
    : file_(path, verify), kernels_(table_kernels(instructions)), layout_([this] {
        TableOptions options;
        options.dimension = std::max<std::uint64_t>(file_.header().dimension, 1);
        options.precision = file_.header().precision;
        return RowLayout(options).packed();
      }()) {
  const TableFileHeader& header = file_.header();
  if (header.kind != FileKind::kSnapshot) throw std::invalid_argument(path + " is not a snapshot but a delta");
  shards_ = shards_of(file_);
  file_.expect(Section::kWeights, header.rows * layout_.weight_bytes);
  if (verify && (header.rows < kReservedRows || !index().sound(header.rows))) file_.damaged("has a damaged index");
  chunks_ = chunks_in(file_, header.rows, layout_);
}

IndexView MappedTable::index() const { return view_of(shards_, file_.header().salt); }

void MappedTable::find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const {
  kernels_.find(index(), keys, count, rows);
}

void MappedTable::check_rows(const std::int64_t* rows, std::size_t count) const {
  const auto limit = static_cast<std::int64_t>(file_.header().rows);
  bool inside = true;
  for (std::size_t i = 0; i < count; ++i) inside &= rows[i] >= 0 && rows[i] < limit;
  if (!inside) throw std::out_of_range("a row is not one of the table's " + std::to_string(limit));
}

void MappedTable::take(const std::int64_t* rows, std::size_t count, float* out) const {
  check_rows(rows, count);
  kernels_.take({chunks_.data(), file_.header().rows, layout_}, file_.header().precision, rows, count, out);
}

void MappedTable::pool(const PoolJob& job, float* out) const {
  check_rows(job.rows, static_cast<std::size_t>(job.offsets[job.bags]));
  kernels_.pool({chunks_.data(), file_.header().rows, layout_}, file_.header().precision, job, out);
}

}  // namespace bowerbird::embedding
