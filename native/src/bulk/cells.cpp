#include "bulk/cells.hpp"

#include <algorithm>
#include <stdexcept>

#include "plan/program_values.hpp"

namespace bowerbird {

BulkCells::BulkCells(const Program& program, std::size_t locate, std::size_t buckets, std::vector<BulkList>& lists)
    : program_(program), locate_(locate), widths_(buckets + 1, kWidest), firsts_(buckets + 1, nullptr) {
  const std::vector<Program::BlockRead>& reads = program.locates_[locate].reads;
  std::vector<bool> is_word = program.computed_with();
  for (const std::size_t feature : program.whole_.categories) is_word[static_cast<std::size_t>(program.plan_.features[feature].node)] = true;
  const auto is_wide = [&](const Program::BlockRead& read) { return is_word[static_cast<std::size_t>(read.node)] && !read.counts_tiles; };
  for (const Program::BlockRead& read : reads) add_list(read, buckets, lists);
  for (const bool wide : {true, false}) {  // words first, so that they are aligned
    for (const Program::BlockRead& read : reads) {
      if (read.operation != Operation::kSequence && read.operation != Operation::kTop && is_wide(read) == wide) add_value(read, wide, is_word);
    }
  }
  empty_.resize(bytes());
  for (const Other& other : others_) put(empty_.data(), other.offset, other.wide, program.read_block(*other.read, nullptr, 0, 0, 0));
}

void BulkCells::add_list(const Program::BlockRead& read, std::size_t buckets, std::vector<BulkList>& lists) {
  if (read.features.empty()) return;
  lists_.push_back({lists.size(), fixed_, read.features});
  fixed_ += 8;
  const std::size_t words = read.operation == Operation::kTop ? 3 : 1 + read.place->aggregate->fields;
  lists.push_back({&read, words, std::vector<Buffer<std::uint64_t>>(buckets)});
}

void BulkCells::add_value(const Program::BlockRead& read, bool wide, const std::vector<bool>& is_word) {
  const auto node = static_cast<std::size_t>(read.node);
  const auto show = [&](Shown& numbers, std::size_t at) {
    for (std::size_t i = 0; i < program_.whole_.numbers.size(); ++i) {
      if (program_.plan_.features[program_.whole_.numbers[i]].node == read.node) numbers.emplace_back(i, at);
    }
  };
  if (read.counts_tiles) {
    show(count_numbers_, counted_.size());
    if (is_word[node]) count_values_.emplace_back(node, counted_.size());
    counted_.push_back({read.place->number, read.place->aggregate->reach, read.clock});
    return;
  }
  others_.push_back({&read, fixed_, wide, wanted_.size()});
  if (read.wanted >= 0) wanted_.push_back(read.wanted);
  if (wide) {
    values_.emplace_back(node, fixed_);
  } else {
    show(numbers_, fixed_);
  }
  fixed_ += wide ? 8 : 4;
}

std::vector<std::size_t> BulkCells::numbers() const {
  std::vector<std::size_t> features;
  for (const Shown* shown : {&numbers_, &count_numbers_}) {
    for (const auto& [feature, offset] : *shown) features.push_back(feature);
  }
  return features;
}

std::uint32_t BulkCells::cells_in_block(std::size_t bytes) const {
  return static_cast<std::uint32_t>(std::max<std::size_t>(1, (Pool::kBlock - sizeof(std::byte*)) / std::max<std::size_t>(1, bytes)));
}

void BulkCells::open_block(std::size_t bucket, Chain& chain, Pool& pool) {
  const std::uint32_t cells = cells_in_block(chain.bytes);
  const std::size_t bytes = sizeof(std::byte*) + std::size_t{cells} * chain.bytes;
  std::byte* block = bytes <= Pool::kBlock ? pool.take_block() : pool.take(bytes);
  store<std::byte*>(block, nullptr);
  if (chain.block == nullptr) {
    firsts_[bucket + 1] = block;
  } else {
    store(chain.block, block);
  }
  chain = {block + sizeof(block), cells, chain.bytes, block};
}

void BulkCells::put(std::byte* cell, std::size_t offset, bool wide, std::uint64_t value) const {
  if (wide) {
    store(cell + offset, value);
  } else {
    store(cell + offset, static_cast<float>(number(value)));
  }
}

void BulkCells::write_wanted(const Program::Values& values, std::size_t row, std::byte* to) const {
  for (std::size_t i = 0; i < wanted_.size(); ++i) store(to + 8 * i, values.at(wanted_[i], row));
}

void BulkCells::fill_counts(Scratch& scratch, const std::int32_t* tiles, std::uint8_t width, std::byte* cell) const {
  std::byte* at = counts_in(cell);
  for (const Count& count : counted_) {
    const std::int64_t events = scratch.count(count.place, count.reach, tiles[count.clock]);
    if (width == 1) {
      store(at, static_cast<std::uint8_t>(events));
    } else if (width == 2) {
      store(at, static_cast<std::uint16_t>(events));
    } else {
      if (events != static_cast<std::int32_t>(events)) throw std::runtime_error("a window counts more than 2^31 - 1 events of one key");
      store(at, static_cast<std::int32_t>(events));
    }
    at += width;
  }
}

void BulkCells::fill_rest(Scratch& scratch, std::int64_t time, const std::int32_t* tiles, const std::byte* wanted,
                          std::vector<BulkList>& lists, std::vector<ListTrack>& tracks, std::size_t bucket, std::byte* cell) const {
  for (const Other& other : others_) {
    const std::uint64_t looked_for = other.read->wanted < 0 ? 0 : load<std::uint64_t>(wanted + 8 * other.wanted);
    put(cell, other.offset, other.wide, program_.read_block(*other.read, scratch.block(), time, tiles[other.read->clock], looked_for));
  }
  for (const List& list : lists_) {
    store(cell + list.offset, write_list(*lists[list.number].read, scratch, time, lists[list.number], tracks[list.number], bucket));
  }
}

// Writes what is new of a sequence, and says where it stands.
std::uint64_t BulkCells::write_list(const Program::BlockRead& read, Scratch& scratch, std::int64_t time, BulkList& list, ListTrack& track,
                                    std::size_t bucket) const {
  const std::byte* state = state_of(*read.place, scratch.block(), time);
  if (state == nullptr) return 0;
  if (!track.rewritten && track.appended == 0) return track.place;
  Buffer<std::uint64_t>& words = list.words_of[bucket];
  std::size_t size = 0;
  if (read.operation == Operation::kTop) {
    std::vector<Top::Entry> best(Top::entries(state), Top::entries(state) + Top::head(state).size);
    size = std::min<std::size_t>(read.length, best.size());
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(size), best.end(), Top::before);
    for (std::size_t i = size; i-- > 0;) {
      std::uint64_t* entry = words.extend(3);
      entry[0] = static_cast<std::uint64_t>(best[i].latest);
      entry[1] = best[i].key;
      entry[2] = bits(static_cast<double>(best[i].count));
    }
  } else {
    const Sequence::Head& head = Sequence::head(state);
    size = head.size;
    const std::size_t fresh = track.rewritten ? size : std::min<std::size_t>(track.appended, size);
    for (std::size_t rank = size - fresh; rank < size; ++rank) {
      std::uint64_t* entry = words.extend(list.words);
      for (std::size_t word = 0; word < list.words; ++word) entry[word] = Sequence::column(state, word)[Sequence::at(head, rank)];
    }
  }
  track.rewritten = false;
  track.appended = 0;
  track.place = ((words.size() / list.words - size) << kLengthBits) | size;
  return track.place;
}

void BulkCells::take(std::size_t count) {
  const auto begin = [&](std::size_t where) -> Chain {
    const auto bytes = static_cast<std::uint32_t>(bytes_of(widths_[where]));
    std::byte* block = firsts_[where];
    return block == nullptr ? Chain{} : Chain{block + sizeof(block), cells_in_block(bytes), bytes, block};
  };
  if (cursors_.empty()) {
    for (std::size_t where = 0; where < firsts_.size(); ++where) cursors_.push_back(begin(where));
    cursors_[0] = {empty_.data(), 0, 0, nullptr};
  }
  taken_.resize(count);
  taken_where_ = where_.data() + next_;
  for (std::size_t row = 0; row < count; ++row) {
    Chain& cursor = cursors_[taken_where_[row]];
    if (cursor.left == 0 && cursor.block != nullptr) {
      std::byte* block = load<std::byte*>(cursor.block);
      cursor = {block + sizeof(block), cells_in_block(cursor.bytes), cursor.bytes, block};
    }
    taken_[row] = cursor.next;
    cursor.next += cursor.bytes;
    --cursor.left;
    __builtin_prefetch(cursor.next + cursor.bytes);
  }
  next_ += count;
}

namespace {

constexpr std::size_t kGroup = 64;  // cells that stay near while their columns are filled

// Makes 32 bits of a cell's counts, one every kGroup.
template <typename Counted>
void widen(const std::byte* counts, std::size_t count, std::int32_t* to) {
  for (std::size_t i = 0; i < count; ++i) to[i * kGroup] = static_cast<std::int32_t>(load<Counted>(counts + i * sizeof(Counted)));
}

}  // namespace

void BulkCells::emit(std::size_t begin, std::size_t count, std::size_t first, Columns& out, Program::Values& values) const {
  std::vector<std::int32_t> counts(counted_.size() * kGroup);
  for (std::size_t start = 0; start < count; start += kGroup) {
    const std::size_t rows = std::min(count - start, kGroup);
    const std::byte* const* cells = taken_.data() + begin + start;
    const std::uint16_t* where = taken_where_ + begin + start;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::byte* from = cells[row] + fixed_;
      const std::uint8_t width = widths_[where[row]];
      if (width == 1) {
        widen<std::uint8_t>(from, counted_.size(), counts.data() + row);
      } else if (width == 2) {
        widen<std::uint16_t>(from, counted_.size(), counts.data() + row);
      } else {
        widen<std::int32_t>(from, counted_.size(), counts.data() + row);
      }
    }
    const auto column = [&](std::size_t feature) { return out.numbers.data() + feature * out.rows + first + start; };
    for (const auto& [feature, number] : count_numbers_) {
      float* to = column(feature);
      for (std::size_t row = 0; row < rows; ++row) to[row] = static_cast<float>(counts[number * kGroup + row]);
    }
    for (const auto& [feature, offset] : numbers_) {
      float* to = column(feature);
      for (std::size_t row = 0; row < rows; ++row) to[row] = load<float>(cells[row] + offset);
    }
    for (const auto& [node, number] : count_values_) {
      std::uint64_t* to = values.columns[node] + start;
      for (std::size_t row = 0; row < rows; ++row) to[row] = bits(static_cast<double>(counts[number * kGroup + row]));
    }
    for (const auto& [node, offset] : values_) {
      std::uint64_t* to = values.columns[node] + start;
      for (std::size_t row = 0; row < rows; ++row) to[row] = load<std::uint64_t>(cells[row] + offset);
    }
  }
}

void BulkCells::emit_sequences(const std::int64_t* times, const std::vector<BulkList>& lists, Columns& out) const {
  for (const List& list : lists_) {
    const BulkList& source = lists[list.number];
    for (const std::size_t number : list.features) {
      Ragged& to = out.sequences[number];
      const Feature& feature = program_.plan_.features[program_.whole_.sequences[number]];
      for (std::size_t row = 0; row < taken_.size(); ++row) {
        const auto place = load<std::uint64_t>(taken_[row] + list.offset);
        const std::size_t size = place & ((std::uint64_t{1} << kLengthBits) - 1);
        const std::uint64_t* entries = size == 0 ? nullptr : source.words_of[taken_where_[row] - 1].data() + (place >> kLengthBits) * source.words;
        std::size_t key = 0;
        std::size_t plain = 0;
        for (std::size_t field = 0; field < feature.field_is_category.size(); ++field) {
          const std::uint64_t* word = entries + 1 + field;
          if (feature.field_is_category[field]) {
            std::uint64_t* at = to.keys[key++].extend(size);
            for (std::size_t i = 0; i < size; ++i) at[i] = word[i * source.words];
          } else {
            float* at = to.numbers[plain++].extend(size);
            for (std::size_t i = 0; i < size; ++i) at[i] = static_cast<float>(bowerbird::number(word[i * source.words]));
          }
        }
        float* age = to.age.extend(size);
        for (std::size_t i = 0; i < size; ++i) {
          age[i] = static_cast<float>(seconds_between(static_cast<std::int64_t>(entries[i * source.words]), times[row]));
        }
        to.add_row();
      }
    }
  }
}

}  // namespace bowerbird
