#include "state/states.hpp"

namespace bowerbird {

// ---- tiles -------------------------------------------------------------------------------------

void Tiles::add_at(std::byte* state, const Aggregate& aggregate, std::size_t at, const Update& update) {
  count_one(counts(state)[at], update.sign);
  if (counts_only(aggregate)) return;
  const Columns columns(aggregate, reinterpret_cast<Head*>(state)->capacity);
  std::byte* array = state + sizeof(Head);
  if (aggregate.has_sum) add_to<std::int64_t>(array + columns.sum + 8 * at, update.sign * update.amount);
  if (aggregate.has_squares) {
    add_to<Int128>(array + columns.squares + 16 * at, Int128{update.sign * update.amount} * update.amount);
  }
  if (update.sign < 0) return;
  if (aggregate.has_minimum) raise_to(array + columns.low + 8 * at, kExtreme - update.amount);
  if (aggregate.has_maximum) raise_to(array + columns.high + 8 * at, kExtreme + update.amount);
}

void Tiles::move(std::byte* state, const Aggregate& aggregate, std::size_t from, std::size_t to, std::size_t count) {
  if (count == 0) return;
  std::byte* array = state + sizeof(Head);
  const auto shift = [&](std::size_t column, std::size_t width) {
    std::memmove(array + column + width * to, array + column + width * from, width * count);
  };
  shift(0, 4);
  if (counts_only(aggregate)) return;
  const Columns columns(aggregate, reinterpret_cast<Head*>(state)->capacity);
  if (aggregate.has_sum) shift(columns.sum, 8);
  if (aggregate.has_squares) shift(columns.squares, 16);
  if (aggregate.has_minimum) shift(columns.low, 8);
  if (aggregate.has_maximum) shift(columns.high, 8);
}

void Tiles::clear(std::byte* state, const Aggregate& aggregate, std::size_t at) {
  counts(state)[at] = 0;
  if (counts_only(aggregate)) return;
  const Columns columns(aggregate, reinterpret_cast<Head*>(state)->capacity);
  std::byte* array = state + sizeof(Head);
  if (aggregate.has_sum) store<std::int64_t>(array + columns.sum + 8 * at, 0);
  if (aggregate.has_squares) store<Int128>(array + columns.squares + 16 * at, 0);
  if (aggregate.has_minimum) store<std::int64_t>(array + columns.low + 8 * at, 0);
  if (aggregate.has_maximum) store<std::int64_t>(array + columns.high + 8 * at, 0);
}

bool Tiles::add_elsewhere(std::byte* state, const Aggregate& aggregate, std::int32_t index, const Update& update) {
  auto* head = reinterpret_cast<Head*>(state);
  std::size_t at = 0;
  const std::int64_t step = static_cast<std::int64_t>(index) - head->newest;
  if (head->bitmap == 0) {
    head->newest = index;
    head->bitmap = 1;
    head->size = 1;
    clear(state, aggregate, 0);
  } else if (step > 0) {
    const std::uint64_t reached = (std::uint64_t{1} << aggregate.reach) - 1;
    const std::uint64_t kept = step >= kMostTiles ? 0 : (std::uint64_t{head->bitmap} << step) & reached;
    const std::size_t kept_size = bits_in(kept);
    if (kept_size + 1 > head->capacity) return false;
    if (kept_size < head->size) move(state, aggregate, head->size - kept_size, 0, kept_size);
    head->newest = index;
    head->bitmap = static_cast<std::uint32_t>(kept) | 1;
    head->size = static_cast<std::uint8_t>(kept_size + 1);
    at = kept_size;
    clear(state, aggregate, at);
  } else {
    if (-step >= aggregate.reach) return true;
    const std::uint32_t bit = std::uint32_t{1} << -step;
    const std::size_t newer = bits_in(head->bitmap & (bit - 1));
    if ((head->bitmap & bit) != 0) {
      at = head->size - 1 - newer;
    } else {
      if (head->size == head->capacity) return false;
      at = head->size - newer;
      move(state, aggregate, at, at + 1, newer);
      ++head->size;
      head->bitmap |= bit;
      clear(state, aggregate, at);
    }
  }
  add_at(state, aggregate, at, update);
  return true;
}

Moments Tiles::read(const std::byte* state, const Aggregate& aggregate, std::int32_t last) {
  const Head& head = *reinterpret_cast<const Head*>(state);
  const auto [first, end] = window(head, aggregate.reach, last);
  const std::byte* array = state + sizeof(Head);
  const Columns columns(aggregate, head.capacity);
  Moments moments;
  for (std::size_t i = first; i < end; ++i) {
    moments.count += counts(state)[i];
    if (aggregate.has_sum) moments.sum += load<std::int64_t>(array + columns.sum + 8 * i);
    if (aggregate.has_squares) moments.squares += load<Int128>(array + columns.squares + 16 * i);
    if (aggregate.has_minimum) moments.low = std::max(moments.low, load<std::int64_t>(array + columns.low + 8 * i));
    if (aggregate.has_maximum) moments.high = std::max(moments.high, load<std::int64_t>(array + columns.high + 8 * i));
  }
  return moments;
}

void Tiles::copy(const std::byte* from, std::byte* to, const Aggregate& aggregate, std::size_t capacity) {
  auto head = load<Head>(from);
  const Columns old(aggregate, head.capacity);
  const Columns columns(aggregate, capacity);
  const std::byte* source = from + sizeof(Head);
  std::byte* target = to + sizeof(Head);
  std::memcpy(target, source, 4 * std::size_t{head.size});
  if (aggregate.has_sum) std::memcpy(target + columns.sum, source + old.sum, 8 * std::size_t{head.size});
  if (aggregate.has_squares) std::memcpy(target + columns.squares, source + old.squares, 16 * std::size_t{head.size});
  if (aggregate.has_minimum) std::memcpy(target + columns.low, source + old.low, 8 * std::size_t{head.size});
  if (aggregate.has_maximum) std::memcpy(target + columns.high, source + old.high, 8 * std::size_t{head.size});
  head.capacity = static_cast<std::uint8_t>(capacity);
  store(to, head);
}

// ---- decayed -----------------------------------------------------------------------------------

void Decayed::add(std::byte* state, const Aggregate& aggregate, const Update& update) {
  Head head = load<Head>(state);
  const std::int64_t length = kHalfLives * aggregate.half_life;
  const std::int64_t epoch = floor_divide(update.time, length);
  const std::int64_t biased = epoch + kBias;
  if (head.newest != 0 && biased <= head.newest - kEpochs) return;
  std::byte* sums = state + sizeof(Head);
  if (biased > head.newest) {
    const std::int64_t first = head.newest == 0 ? biased - kEpochs + 1 : std::max(head.newest + 1, biased - kEpochs + 1);
    for (std::int64_t fresh = first; fresh <= biased; ++fresh) {
      head.count[fresh % kEpochs] = 0;
      if (aggregate.has_sum) store<Int128>(sums + sizeof(Int128) * static_cast<std::size_t>(fresh % kEpochs), 0);
    }
    head.newest = biased;
  }
  if (update.sign > 0) head.latest = std::max(head.latest, update.time);
  const double phase = static_cast<double>(update.time - epoch * length) / static_cast<double>(aggregate.half_life);
  const std::int64_t weight = std::llrint(exp2_exact(phase) * power_of_two(kScaleBits));
  head.count[biased % kEpochs] += update.sign * weight;
  if (aggregate.has_sum) {
    add_to<Int128>(sums + sizeof(Int128) * static_cast<std::size_t>(biased % kEpochs), Int128{update.sign * weight} * update.amount);
  }
  store(state, head);
}

double Decayed::read(const std::byte* state, const Aggregate& aggregate, What what, std::int64_t time) {
  const Head head = load<Head>(state);
  if (head.newest == 0) return what == What::kMean ? kNaN : 0.0;
  const std::byte* sums = state + sizeof(Head);
  const std::int64_t start = (head.newest - kBias) * kHalfLives * aggregate.half_life;
  const double factor = exp2_exact(-(static_cast<double>(std::max(time, head.latest) - start) / static_cast<double>(aggregate.half_life)));
  double count = 0.0;
  double sum = 0.0;
  for (int back = kEpochs - 1; back >= 0; --back) {
    const auto place = static_cast<std::size_t>((head.newest - back) % kEpochs);
    const double unit = power_of_two(-static_cast<int>(kHalfLives) * back - kScaleBits);
    count = count + static_cast<double>(head.count[place]) * unit;
    if (what == What::kCount) continue;
    sum = sum + static_cast<double>(load<Int128>(sums + sizeof(Int128) * place)) * unit;
  }
  count = count * factor;
  if (what == What::kCount) return count;
  sum = sum * factor / static_cast<double>(aggregate.scale);
  if (what == What::kSum) return sum;
  return count > 0 ? sum / count : kNaN;
}

// ---- sequences ---------------------------------------------------------------------------------

namespace {

// One sequence as it stands in a block.
struct Ring {
  Sequence::Head head;
  std::uint64_t* words;
  std::uint32_t fields;

  std::uint64_t& word(std::size_t column, std::size_t rank) { return words[column * head.capacity + Sequence::at(head, rank)]; }
  std::int64_t time(std::size_t rank) { return static_cast<std::int64_t>(word(0, rank)); }

  // Negative, zero or positive as the entry comes before, equals or comes after an event.
  int compare(std::size_t rank, const Update& update) {
    if (time(rank) != update.time) return time(rank) < update.time ? -1 : 1;
    for (std::uint32_t i = 0; i < fields; ++i) {
      if (word(1 + i, rank) != update.fields[i]) return word(1 + i, rank) < update.fields[i] ? -1 : 1;
    }
    return 0;
  }

  void write(std::size_t rank, const Update& update) {
    word(0, rank) = static_cast<std::uint64_t>(update.time);
    for (std::uint32_t i = 0; i < fields; ++i) word(1 + i, rank) = update.fields[i];
  }

  void copy(std::size_t from, std::size_t to) {
    for (std::uint32_t column = 0; column <= fields; ++column) word(column, to) = word(column, from);
  }

  // Makes the entries stand from 0 on.
  void straighten() {
    if (head.oldest == 0) return;
    for (std::uint32_t column = 0; column <= fields; ++column) {
      std::uint64_t* start = words + std::size_t{column} * head.capacity;
      std::rotate(start, start + head.oldest, start + head.capacity);
    }
    head.oldest = 0;
  }

  void remove(std::size_t rank) {
    straighten();
    for (std::size_t i = rank; i + 1 < head.size; ++i) copy(i + 1, i);
    --head.size;
  }

  // Moves the entries from `rank` on up by one, over the last place, and writes the event.
  void open(std::size_t rank, std::size_t last, const Update& update) {
    for (std::size_t i = last; i > rank; --i) copy(i - 1, i);
    write(rank, update);
  }
};

std::size_t rank_of(Ring& ring, const Update& update) {
  std::size_t rank = ring.head.size;
  while (rank > 0 && ring.compare(rank - 1, update) > 0) --rank;
  return rank;
}

void take_back(Ring& ring, const Update& update) {
  const std::size_t rank = rank_of(ring, update);
  if (rank > 0 && ring.compare(rank - 1, update) == 0) ring.remove(rank - 1);
}

// True where an entry of the same first field is at least as late; an earlier one is removed.
bool is_superseded(Ring& ring, const Update& update) {
  for (std::size_t rank = 0; rank < ring.head.size; ++rank) {
    if (ring.word(1, rank) != update.fields[0]) continue;
    if (ring.compare(rank, update) >= 0) return true;
    ring.remove(rank);
    return false;
  }
  return false;
}

}  // namespace

bool Sequence::add(std::byte* state, const Aggregate& aggregate, const Update& update) {
  Ring ring{load<Head>(state), reinterpret_cast<std::uint64_t*>(state + sizeof(Head)), aggregate.fields};
  Head& head = ring.head;
  if (update.sign < 0) {
    take_back(ring, update);
  } else {
    if (head.size == head.capacity && head.capacity < aggregate.length) return false;
    if (aggregate.distinct && is_superseded(ring, update)) return true;
    const std::size_t rank = rank_of(ring, update);
    if (head.size < aggregate.length) {
      ring.straighten();
      ++head.size;
      ring.open(rank, head.size - 1, update);
    } else if (rank == head.size) {
      head.oldest = static_cast<std::uint32_t>(at(head, 1) % head.capacity);
      ring.write(head.size - 1, update);
    } else if (rank > 0) {  // the oldest makes room, what stands between moves down
      for (std::size_t i = 0; i + 1 < rank; ++i) ring.copy(i + 1, i);
      ring.write(rank - 1, update);
    }
  }
  store(state, head);
  return true;
}

void Sequence::copy(const std::byte* from, std::byte* to, const Aggregate& aggregate, std::size_t capacity) {
  Head head = load<Head>(from);
  auto* words = reinterpret_cast<std::uint64_t*>(to + sizeof(Head));
  for (std::size_t field = 0; field <= aggregate.fields; ++field) {
    const std::uint64_t* source = column(from, field);
    for (std::size_t rank = 0; rank < head.size; ++rank) words[field * capacity + rank] = source[at(head, rank)];
  }
  head.oldest = 0;
  head.capacity = static_cast<std::uint32_t>(capacity);
  store(to, head);
}

// ---- tops --------------------------------------------------------------------------------------

bool Top::add(std::byte* state, const Aggregate& aggregate, const Update& update) {
  Head head = load<Head>(state);
  const std::uint64_t key = update.fields[0];
  if (key == 0) return true;
  Entry* all = entries(state);
  Entry* end = all + head.size;
  Entry* entry = std::find_if(all, end, [key](const Entry& each) { return each.key == key; });
  if (entry == end) {
    if (update.sign < 0) return true;
    if (head.size < head.capacity) {
      ++head.size;
    } else if (head.capacity < aggregate.length) {
      return false;
    } else {
      entry = std::min_element(all, end, [](const Entry& a, const Entry& b) {
        if (a.count != b.count) return a.count < b.count;
        return a.latest != b.latest ? a.latest < b.latest : a.key < b.key;
      });
    }
    *entry = {key, 0, update.time};
  }
  entry->count += update.sign;
  if (update.sign > 0) entry->latest = std::max(entry->latest, update.time);
  if (entry->count <= 0) {
    *entry = all[head.size - 1];
    --head.size;
  }
  store(state, head);
  return true;
}

}  // namespace bowerbird
