#include "table/served.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "base/clones.hpp"
#include "table/index_file.hpp"
#include "table/numbers.hpp"

namespace bowerbird::embedding {
namespace {

constexpr std::uint64_t kSalt = 0;
constexpr std::size_t kAhead = 16;
constexpr std::size_t kWriteBytes = std::size_t{1} << 20;

std::size_t stride_of(RowFormat format, std::size_t dimension) {
  switch (format) {
    case RowFormat::kFloat32: return 4 * dimension;
    case RowFormat::kFloat16: return 2 * dimension;
    case RowFormat::kInt8: return sizeof(float) + (dimension + 3) / 4 * 4;
  }
  throw std::invalid_argument("unknown row format");
}

// The scale is such that the greatest magnitude is 127; a row with a number that is not finite is read as such.
void pack_int8(const float* from, std::size_t dimension, std::byte* to) {
  float greatest = 0.0F;
  bool finite = true;
  for (std::size_t i = 0; i < dimension; ++i) {
    greatest = std::max(greatest, std::fabs(from[i]));
    finite &= std::isfinite(from[i]);
  }
  const float scale = !finite ? std::numeric_limits<float>::quiet_NaN() : greatest > 0.0F ? greatest / 127.0F : 1.0F;
  std::memcpy(to, &scale, sizeof(scale));
  auto* numbers = reinterpret_cast<std::int8_t*>(to + sizeof(scale));
  for (std::size_t i = 0; i < dimension; ++i) numbers[i] = finite ? static_cast<std::int8_t>(std::nearbyint(from[i] / scale)) : 1;
}

void pack_row(RowFormat format, const float* from, std::size_t dimension, std::byte* to) {
  switch (format) {
    case RowFormat::kFloat32: std::memcpy(to, from, 4 * dimension); return;
    case RowFormat::kFloat16:
      for (std::size_t i = 0; i < dimension; ++i) {
        const std::uint16_t half = float16_of(from[i]);
        std::memcpy(to + 2 * i, &half, sizeof(half));
      }
      return;
    case RowFormat::kInt8: pack_int8(from, dimension, to); return;
  }
}

BOWERBIRD_INLINE void unpack_row(RowFormat format, const std::byte* from, std::size_t dimension, float* to) {
  if (format == RowFormat::kFloat32) {
    std::memcpy(to, from, 4 * dimension);
  } else if (format == RowFormat::kFloat16) {
    for (std::size_t i = 0; i < dimension; ++i) {
      std::uint16_t half;
      std::memcpy(&half, from + 2 * i, sizeof(half));
      to[i] = float_of_float16(half);
    }
  } else {
    float scale;
    std::memcpy(&scale, from, sizeof(scale));
    const auto* numbers = reinterpret_cast<const std::int8_t*>(from + sizeof(scale));
    for (std::size_t i = 0; i < dimension; ++i) to[i] = static_cast<float>(numbers[i]) * scale;
  }
}

BOWERBIRD_CLONES void unpack_rows(RowFormat format, const std::byte* const* from, std::size_t count, std::size_t dimension, float* out) {
  for (std::size_t i = 0; i < count; ++i) unpack_row(format, from[i], dimension, out + i * dimension);
}

}  // namespace

// ---- files ---------------------------------------------------------------------------------------

void ServedTable::write(const std::string& path, const std::uint64_t* keys, std::uint64_t count, const float* rows,
                        std::size_t dimension, RowFormat format) {
  if (dimension == 0) throw std::invalid_argument("a table needs a dimension");
  if (count + kReservedRows > std::numeric_limits<std::uint32_t>::max()) throw std::invalid_argument("a table holds at most 2^32 - 1 rows");
  TableIndex index(kSalt);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (keys[i] == kMissingKey) throw std::invalid_argument("the missing key has no row of its own");
    if (index.view().find(keys[i]) != kAbsentRow) throw std::invalid_argument("a key comes twice");
    index.insert(keys[i], static_cast<std::uint32_t>(i + kReservedRows));
  }
  TableFileWriter file(path);
  write_index(file, index);
  const std::size_t stride = stride_of(format, dimension);
  const std::size_t together = std::max<std::size_t>(kWriteBytes / stride, 1);
  std::vector<std::byte> buffer(together * stride);
  file.begin(Section::kWeights);
  for (std::uint64_t first = 0; first < count + kReservedRows; first += together) {
    const std::uint64_t some = std::min<std::uint64_t>(together, count + kReservedRows - first);
    for (std::uint64_t i = 0; i < some; ++i) pack_row(format, rows + (first + i) * dimension, dimension, buffer.data() + i * stride);
    file.write(buffer.data(), some * stride);
  }
  file.end();
  TableFileHeader header{};
  header.kind = FileKind::kServed;
  header.precision = static_cast<Precision>(format);
  header.dimension = dimension;
  header.rows = count + kReservedRows;
  header.keys = count;
  header.salt = kSalt;
  file.finish(header);
}

ServedTable::ServedTable(const std::string& path, bool verified) : kernels_(&table_kernels("")) {
  auto base = std::make_shared<Base>(path, verified);
  const TableFileHeader& header = base->file.header();
  if (header.kind != FileKind::kServed) throw std::invalid_argument(path + " is not a served table but a snapshot or a delta");
  base->format = static_cast<RowFormat>(header.precision);
  base->stride = stride_of(base->format, header.dimension);
  base->shards = shards_of(base->file);
  if (header.rows < kReservedRows) base->file.damaged("has no reserved rows");
  base->file.expect(Section::kWeights, header.rows * base->stride);
  base->rows = base->file.data(Section::kWeights);
  base_ = std::move(base);
  first_ = next_ = header.rows;
  if (verified) verify();
}

IndexView ServedTable::Base::index() const { return view_of(shards, file.header().salt); }

void ServedTable::verify() const {
  base_->file.verify();
  if (!base_->index().sound(file_rows())) base_->file.damaged("has a damaged index");
}

std::pair<std::vector<std::uint64_t>, std::vector<std::int64_t>> ServedTable::file_keys() const {
  std::vector<std::uint64_t> keys(file_rows() - kReservedRows, kMissingKey);
  std::vector<std::int64_t> rows(keys.size());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i + kReservedRows);
  for (const IndexShard& shard : base_->shards) {
    for (std::size_t number = 0; number < shard.buckets; ++number) {
      const IndexBucket& bucket = shard.bucket(number);
      for (std::size_t slot = 0; slot < std::min<std::size_t>(bucket.held, IndexBucket::kSlots); ++slot) {
        const std::uint32_t row = bucket.rows[slot];
        if (row < kReservedRows || row >= file_rows()) base_->file.damaged("has a damaged index");
        keys[row - kReservedRows] = bucket.keys[slot];
      }
    }
  }
  return {std::move(keys), std::move(rows)};
}

// ---- lookups -------------------------------------------------------------------------------------

void ServedTable::find(const std::uint64_t* keys, std::size_t count, std::int64_t* rows) const {
  kernels_->find(base_->index(), keys, count, rows);
  if (first_ == next_ && changed_.size() == 0) return;
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) changed_.prefetch(keys[i + kAhead]);
    const std::uint32_t number = changed_.find(keys[i]);
    if (number != KeyIndex::kAbsent) rows[i] = changed_rows_[number];
    if (rows[i] == kMissingRow) rows[i] = missing_;
    if (rows[i] == kUnknownRow || rows[i] == kGone) rows[i] = unknown_;
  }
}

void ServedTable::check_rows(const std::int64_t* rows, std::size_t count) const {
  const auto known = static_cast<std::int64_t>(file_rows());
  const auto first = static_cast<std::int64_t>(first_);
  const auto next = static_cast<std::int64_t>(next_);
  bool inside = true;
  for (std::size_t i = 0; i < count; ++i) inside &= (rows[i] >= 0 && rows[i] < known) || (rows[i] >= first && rows[i] < next);
  if (!inside) throw std::out_of_range("a row is not one of the table's");
}

void ServedTable::take(const std::int64_t* rows, std::size_t count, float* out) const {
  check_rows(rows, count);
  const auto known = static_cast<std::int64_t>(file_rows());
  const std::size_t width = dimension();
  constexpr std::size_t kPiece = 64;
  const std::byte* from[kPiece];
  for (std::size_t begin = 0; begin < count; begin += kPiece) {
    const std::size_t piece = std::min(kPiece, count - begin);
    for (std::size_t i = 0; i < piece; ++i) {
      const std::int64_t row = rows[begin + i];
      from[i] = base_->rows + (row < known ? static_cast<std::size_t>(row) : 0) * base_->stride;
      prefetch_far(from[i], base_->stride);
    }
    unpack_rows(base_->format, from, piece, width, out + begin * width);
    for (std::size_t i = 0; i < piece; ++i) {
      const std::int64_t row = rows[begin + i];
      if (row >= known) std::memcpy(out + (begin + i) * width, changed_row(row), 4 * width);
    }
  }
}

// ---- changes -------------------------------------------------------------------------------------

std::uint64_t ServedTable::changed_bytes() const {
  return chunks_.size() * Chunk::kRows * dimension() * sizeof(float) + changed_.bytes() + changed_rows_.capacity() * (sizeof(std::int64_t) + sizeof(std::uint64_t));
}

std::unique_ptr<ServedTable> ServedTable::with(const RowChanges& changes) const {
  std::unique_ptr<ServedTable> made(new ServedTable(*this));
  if (changes.reserved != nullptr) {
    made->missing_ = made->add(changes.reserved);
    made->unknown_ = made->add(changes.reserved + dimension());
  }
  for (std::size_t i = 0; i < changes.removed_count; ++i) made->set(changes.removed[i], kGone);
  for (std::size_t i = 0; i < changes.count; ++i) made->set(changes.keys[i], made->add(changes.vectors + i * dimension()));
  const std::uint64_t held = made->next_ - made->first_;
  if (held > Chunk::kRows && held > 2 * (made->changed_.size() + kReservedRows)) made->compact();
  return made;
}

void ServedTable::set(std::uint64_t key, std::int64_t row) {
  if (key == kMissingKey) throw std::invalid_argument("the missing key has no row of its own");
  const std::uint32_t number = changed_.find_or_insert(key);
  if (number == changed_rows_.size()) {
    changed_keys_.push_back(key);
    changed_rows_.push_back(row);
  }
  changed_rows_[number] = row;
}

std::int64_t ServedTable::add(const float* vector) {
  const std::size_t width = dimension();
  const std::uint64_t at = (next_ - first_) % Chunk::kRows;
  if (at == 0) chunks_.push_back(std::make_shared<Chunk>(width));
  std::uint64_t used = at;
  if (!chunks_.back()->used.compare_exchange_strong(used, at + 1)) {  // another table that was made of the same one went on in it
    auto own = std::make_shared<Chunk>(width);
    std::memcpy(own->rows.get(), chunks_.back()->rows.get(), at * width * sizeof(float));
    own->used = at + 1;
    chunks_.back() = std::move(own);
  }
  std::memcpy(chunks_.back()->rows.get() + at * width, vector, width * sizeof(float));
  return static_cast<std::int64_t>(next_++);
}

void ServedTable::compact() {
  const ServedTable before(*this);
  chunks_.clear();
  first_ = next_;
  const auto moved = [&](std::int64_t row) { return row < static_cast<std::int64_t>(before.file_rows()) ? row : add(before.changed_row(row)); };
  missing_ = moved(missing_);
  unknown_ = moved(unknown_);
  for (std::int64_t& row : changed_rows_) row = moved(row);
}

}  // namespace bowerbird::embedding
