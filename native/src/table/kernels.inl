// The arithmetic of tables for one instruction set: BOWERBIRD_SET is its name and namespace, BOWERBIRD_TARGET its attribute.
// `matches(bucket, key)` is written there before: a bit for each of a bucket's keys that is the one looked for, without a
// branch for each, since none could be foreseen.
//
// Blocks of numbers are vectors of the compiler's own. They are never passed by value, since plain x86-64 has no such registers.
#define BOWERBIRD_BODY [[gnu::always_inline]] inline BOWERBIRD_TARGET

namespace BOWERBIRD_SET {

// ---- blocks --------------------------------------------------------------------------------------

// Reads `count` numbers of a block; what is missing of it is 0.
template <Precision precision>
BOWERBIRD_BODY void load(const std::byte* from, std::size_t count, Block& to) {
  if constexpr (precision == Precision::kFloat32) {
    if (count == kBlock) {
      std::memcpy(&to, from, sizeof(Block));
    } else {
      to = Block{};
      std::memcpy(&to, from, 4 * count);
    }
  } else {
    std::array<std::uint16_t, kBlock> bits{};
    if (count == kBlock) {
      std::memcpy(bits.data(), from, sizeof(bits));
    } else {
      std::memcpy(bits.data(), from, 2 * count);
    }
    std::array<float, kBlock> values;
    for (std::size_t i = 0; i < kBlock; ++i) {
      values[i] = precision == Precision::kFloat16 ? float_of_float16(bits[i]) : float_of_bfloat16(bits[i]);
    }
    std::memcpy(&to, values.data(), sizeof(Block));
  }
}

template <Precision precision>
BOWERBIRD_BODY std::uint16_t halved(float value, bool stochastic, std::uint64_t stream, std::size_t position) {
  if constexpr (precision == Precision::kFloat16) {
    return stochastic ? float16_of(value, chance_at(stream, position)) : float16_of(value);
  } else {
    return stochastic ? bfloat16_of(value, chance_at(stream, position)) : bfloat16_of(value);
  }
}

template <Precision precision>
BOWERBIRD_BODY void store(const Block& from, std::size_t count, std::byte* to, bool stochastic, std::uint64_t stream, std::size_t position) {
  if constexpr (precision == Precision::kFloat32) {
    if (count == kBlock) {
      std::memcpy(to, &from, sizeof(Block));
    } else {
      std::memcpy(to, &from, 4 * count);
    }
  } else {
    std::array<float, kBlock> values;
    std::memcpy(values.data(), &from, sizeof(Block));
    std::array<std::uint16_t, kBlock> bits;
    if (stochastic) {
      for (std::size_t i = 0; i < kBlock; ++i) bits[i] = halved<precision>(values[i], true, stream, position + i);
    } else {
      for (std::size_t i = 0; i < kBlock; ++i) bits[i] = halved<precision>(values[i], false, stream, position + i);
    }
    if (count == kBlock) {
      std::memcpy(to, bits.data(), 2 * kBlock);
    } else {
      std::memcpy(to, bits.data(), 2 * count);
    }
  }
}

BOWERBIRD_BODY void load_floats(const float* from, std::size_t count, Block& to) {
  load<Precision::kFloat32>(reinterpret_cast<const std::byte*>(from), count, to);
}

BOWERBIRD_BODY void store_floats(const Block& from, std::size_t count, float* to) {
  store<Precision::kFloat32>(from, count, reinterpret_cast<std::byte*>(to), false, 0, 0);
}

// Adds the halves of a block, then the halves of that, and so on.
BOWERBIRD_BODY float sum_of(const Block& lanes) {
  std::array<HalfBlock, 2> halves;
  std::memcpy(halves.data(), &lanes, sizeof(Block));
  halves[0] += halves[1];
  std::array<QuarterBlock, 2> quarters;
  std::memcpy(quarters.data(), halves.data(), sizeof(HalfBlock));
  const QuarterBlock four = quarters[0] + quarters[1];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

BOWERBIRD_BODY void root_of(const Block& of, Block& roots) {
  std::array<float, kBlock> values;
  std::memcpy(values.data(), &of, sizeof(Block));
  for (float& value : values) value = std::sqrt(value);
  std::memcpy(&roots, values.data(), sizeof(Block));
}

// ---- lookups -----------------------------------------------------------------------------------

template <Precision precision>
BOWERBIRD_BODY void take_rows(const RowsView& shared, const std::int64_t* numbers, std::size_t count, float* out) {
  const RowsView rows = shared;  // so that the compiler knows that `out` does not lie over it
  const std::size_t dimension = rows.layout.dimension;
  for (std::size_t i = 0; i < std::min(kAhead, count); ++i) rows.prefetch_weights(static_cast<std::uint64_t>(numbers[i]));
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) rows.prefetch_weights(static_cast<std::uint64_t>(numbers[i + kAhead]));
    const std::byte* from = rows.weights(static_cast<std::uint64_t>(numbers[i]));
    float* to = out + i * dimension;
    if constexpr (precision == Precision::kFloat32) {
      if (dimension == kBlock) {
        std::memcpy(to, from, 4 * kBlock);
      } else {
        std::memcpy(to, from, 4 * dimension);
      }
    } else {
      Block block;
      for (std::size_t at = 0; at < dimension; at += kBlock) {
        const std::size_t width = std::min(kBlock, dimension - at);
        load<precision>(from + at * kWidth<precision>, width, block);
        store_floats(block, width, to + at);
      }
    }
  }
}

BOWERBIRD_BODY void take_any(const RowsView& rows, Precision precision, const std::int64_t* numbers, std::size_t count, float* out) {
  switch (precision) {
    case Precision::kFloat32: return take_rows<Precision::kFloat32>(rows, numbers, count, out);
    case Precision::kFloat16: return take_rows<Precision::kFloat16>(rows, numbers, count, out);
    case Precision::kBfloat16: return take_rows<Precision::kBfloat16>(rows, numbers, count, out);
  }
}

template <Precision precision>
BOWERBIRD_BODY void pool_bag(const RowsView& rows, const PoolJob& job, std::int64_t begin, std::int64_t end, float* out) {
  const std::size_t dimension = rows.layout.dimension;
  const float share = job.mode == PoolMode::kMean && end > begin ? 1.0F / static_cast<float>(end - begin) : 1.0F;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    Block sum{};
    Block block;
    for (std::int64_t i = begin; i < end; ++i) {
      load<precision>(rows.weights(static_cast<std::uint64_t>(job.rows[i])) + at * kWidth<precision>, width, block);
      const float weight = job.weights == nullptr ? 1.0F : job.weights[i];
      sum += weight * block;
    }
    sum *= share;
    store_floats(sum, width, out + at);
  }
}

template <Precision precision>
BOWERBIRD_BODY void pool_bags(const RowsView& rows, const PoolJob& job, float* out) {
  std::int64_t asked = job.offsets[0];
  const std::int64_t last = job.offsets[job.bags];
  for (std::size_t bag = 0; bag < job.bags; ++bag) {
    const std::int64_t end = job.offsets[bag + 1];
    const std::int64_t wanted = std::min(last, end + static_cast<std::int64_t>(kAhead));
    for (; asked < wanted; ++asked) rows.prefetch_weights(static_cast<std::uint64_t>(job.rows[asked]));
    pool_bag<precision>(rows, job, job.offsets[bag], end, out + bag * rows.layout.dimension);
  }
}

BOWERBIRD_BODY void pool_any(const RowsView& rows, Precision precision, const PoolJob& job, float* out) {
  switch (precision) {
    case Precision::kFloat32: return pool_bags<Precision::kFloat32>(rows, job, out);
    case Precision::kFloat16: return pool_bags<Precision::kFloat16>(rows, job, out);
    case Precision::kBfloat16: return pool_bags<Precision::kBfloat16>(rows, job, out);
  }
}

BOWERBIRD_BODY void draw_any(std::uint64_t stream, float scale, std::size_t count, float* out) {
  if (scale == 0.0F) {
    std::fill_n(out, count, 0.0F);
    return;
  }
  const float factor = coin_scale(scale);
  std::size_t at = 0;
  for (; at + kBlock <= count; at += kBlock) {
    for (std::size_t i = 0; i < kBlock; ++i) out[at + i] = static_cast<float>(coins_at(stream, at + i)) * factor;
  }
  for (; at < count; ++at) out[at] = static_cast<float>(coins_at(stream, at)) * factor;
}

// ---- steps -------------------------------------------------------------------------------------

// What a row's summed gradient is multiplied by so that its norm is at most the clip.
BOWERBIRD_BODY float clip_factor(const UpdateJob& job, const float* summed) {
  const std::size_t dimension = job.rows.layout.dimension;
  Block squares{};
  Block block;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    load_floats(summed + at, std::min(kBlock, dimension - at), block);
    squares += block * block;
  }
  const float norm = std::sqrt(sum_of(squares));
  return norm > job.optimiser->clip ? job.optimiser->clip / norm : 1.0F;
}

// The gradient that a step sees: clipped, with the L2 term; none at all of a row that no entry is of. FTRL has its L2 in the step.
template <OptimiserKind kind>
BOWERBIRD_BODY void gradient_of(const UpdateJob& job, const float* summed, std::size_t at, std::size_t width, float factor,
                                const Block& weights, Block& gradient) {
  if (summed == nullptr) {
    gradient = Block{};
  } else {
    load_floats(summed + at, width, gradient);
  }
  if (factor != 1.0F) gradient *= factor;
  if constexpr (kind != OptimiserKind::kFtrl) {
    const float l2 = job.optimiser->l2;
    if (l2 != 0.0F) gradient += l2 * weights;
  }
}

// One block's step; `first` and `second` are the optimiser's state there, `rate` is the row's where the rows have one.
template <OptimiserKind kind>
BOWERBIRD_BODY void step(const UpdateJob& job, float rate, const Block& gradient, Block& weights, Block& first, Block& second) {
  const Optimiser& by = *job.optimiser;
  Block root;
  if constexpr (kind == OptimiserKind::kSgd || kind == OptimiserKind::kRowWiseAdagrad) {
    weights -= rate * gradient;
  } else if constexpr (kind == OptimiserKind::kAdagrad) {
    first += gradient * gradient;
    root_of(first, root);
    weights -= rate * gradient / (root + by.epsilon);
  } else if constexpr (kind == OptimiserKind::kAdam) {
    first += (1.0F - by.beta1) * (gradient - first);
    second = by.beta2 * second + (1.0F - by.beta2) * (gradient * gradient);
    root_of(second, root);
    weights -= job.step_size * first / (root / job.root_correction + by.epsilon);
  } else {
    const float inverse = 1.0F / rate;
    Block before;
    root_of(second, before);
    second += gradient * gradient;
    root_of(second, root);
    first += gradient - (root - before) * inverse * weights;
    const Block divisor = (by.beta + root) * inverse + by.l2;
    for (std::size_t k = 0; k < kBlock; ++k) {
      const float size = std::fabs(first[k]) - by.l1;
      weights[k] = size > 0.0F ? -std::copysign(size, first[k]) / divisor[k] : 0.0F;
    }
  }
}

// Adds the mean square of the row's gradient to its state and returns the rate of its step.
template <Precision precision>
BOWERBIRD_BODY float row_wise_rate(const UpdateJob& job, std::size_t dimension, const std::byte* row, float* state, const float* summed,
                                   float factor) {
  Block squares{};
  Block weights;
  Block gradient;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    load<precision>(row + at * kWidth<precision>, width, weights);
    gradient_of<OptimiserKind::kRowWiseAdagrad>(job, summed, at, width, factor, weights, gradient);
    squares += gradient * gradient;
  }
  *state += sum_of(squares) / static_cast<float>(dimension);
  return job.learning_rate / (std::sqrt(*state) + job.optimiser->epsilon);
}

template <OptimiserKind kind, Precision precision>
BOWERBIRD_BODY void step_row(const UpdateJob& job, std::size_t dimension, std::uint32_t number, const float* summed) {
  const float factor = job.optimiser->clip > 0.0F && summed != nullptr ? clip_factor(job, summed) : 1.0F;
  std::byte* row = job.rows.weights(number);
  auto* state = reinterpret_cast<float*>(job.rows.state(number));
  float rate = job.learning_rate;
  if constexpr (kind == OptimiserKind::kRowWiseAdagrad) rate = row_wise_rate<precision>(job, dimension, row, state, summed, factor);
  const bool draws = precision != Precision::kFloat32 && job.stochastic;
  const std::uint64_t stream = draws ? stream_of(job.stream, number) : 0;
  Block weights, gradient, first, second;
  for (std::size_t at = 0; at < dimension; at += kBlock) {
    const std::size_t width = std::min(kBlock, dimension - at);
    load<precision>(row + at * kWidth<precision>, width, weights);
    if constexpr (kStateArrays<kind> > 0) load_floats(state + at, width, first);
    if constexpr (kStateArrays<kind> > 1) load_floats(state + dimension + at, width, second);
    gradient_of<kind>(job, summed, at, width, factor, weights, gradient);
    step<kind>(job, rate, gradient, weights, first, second);
    store<precision>(weights, width, row + at * kWidth<precision>, draws, stream, at);
    if constexpr (kStateArrays<kind> > 0) store_floats(first, width, state + at);
    if constexpr (kStateArrays<kind> > 1) store_floats(second, width, state + dimension + at);
  }
  job.rows.stamps(number).version = job.version;
}

// A piece's rows are asked for side by side while the piece before it waits to step: between the instructions of steps, few requests would
// stand in the processor's window at a time, and finding where pages lie is what takes long.
template <OptimiserKind kind, Precision precision>
BOWERBIRD_BODY void step_rows(const UpdateJob& shared, std::size_t dimension, const RowGroups& groups) {
  const UpdateJob job = shared;  // so that the compiler knows that no row lies over it
  const RowGroups::Group* all = groups.begin();
  const std::size_t count = groups.size();
  for (std::size_t i = 0; i < std::min(kStepPiece, count); ++i) job.rows.prefetch_row(all[i].row);
  for (std::size_t begin = 0; begin < count; begin += kStepPiece) {
    const std::size_t end = std::min(begin + kStepPiece, count);
    for (std::size_t i = end; i < std::min(end + kStepPiece, count); ++i) job.rows.prefetch_row(all[i].row);
    for (std::size_t i = begin; i < end; ++i) step_row<kind, precision>(job, dimension, all[i].row, groups.gradient(all[i]));
  }
}

// A row of one block is worth code of its own: all of it stays in registers.
template <OptimiserKind kind, Precision precision>
BOWERBIRD_BODY void update_rows(const UpdateJob& job, const RowGroups& groups) {
  const std::size_t dimension = job.rows.layout.dimension;
  dimension == kBlock ? step_rows<kind, precision>(job, kBlock, groups) : step_rows<kind, precision>(job, dimension, groups);
}

template <Precision precision>
BOWERBIRD_BODY void update_of(const UpdateJob& job, const RowGroups& groups) {
  switch (job.optimiser->kind) {
    case OptimiserKind::kSgd: return update_rows<OptimiserKind::kSgd, precision>(job, groups);
    case OptimiserKind::kAdagrad: return update_rows<OptimiserKind::kAdagrad, precision>(job, groups);
    case OptimiserKind::kRowWiseAdagrad: return update_rows<OptimiserKind::kRowWiseAdagrad, precision>(job, groups);
    case OptimiserKind::kAdam: return update_rows<OptimiserKind::kAdam, precision>(job, groups);
    case OptimiserKind::kFtrl: return update_rows<OptimiserKind::kFtrl, precision>(job, groups);
  }
}

BOWERBIRD_BODY void update_any(const UpdateJob& job, Precision precision, const RowGroups& groups) {
  switch (precision) {
    case Precision::kFloat32: return update_of<Precision::kFloat32>(job, groups);
    case Precision::kFloat16: return update_of<Precision::kFloat16>(job, groups);
    case Precision::kBfloat16: return update_of<Precision::kBfloat16>(job, groups);
  }
}

BOWERBIRD_BODY void sweep_any(const UpdateJob& job, const RowGroups& groups, std::size_t lane, std::size_t lanes) {
  for (std::uint64_t number = 0; number < job.rows.rows; ++number) {
    const auto row = static_cast<std::uint32_t>(number);
    if (lanes > 1 && RowGroups::lane_of(row, lanes) != lane) continue;
    if (job.rows.stamps(row).version == 0) continue;
    const RowGroups::Group* group = groups.find(row);
    step_row<OptimiserKind::kAdam, Precision::kFloat32>(job, job.rows.layout.dimension, row, group == nullptr ? nullptr : groups.gradient(*group));
  }
}

// ---- finding -----------------------------------------------------------------------------------

// Keys whose buckets were asked for.
struct AskedKeys {
  std::uint64_t hashes[kFindPiece];
  const IndexBucket* buckets[kFindPiece];
};

BOWERBIRD_BODY void ask_for(const IndexView& view, const std::uint64_t* keys, std::size_t count, AskedKeys& asked) {
  for (std::size_t i = 0; i < count; ++i) asked.hashes[i] = view.hash(keys[i]);
  for (std::size_t i = 0; i < count; ++i) {
    asked.buckets[i] = &view.home(asked.hashes[i]);
    prefetch_far(asked.buckets[i]);
  }
}

BOWERBIRD_BODY std::uint32_t row_in(const IndexBucket& bucket, unsigned found) {
  const std::uint32_t row = bucket.rows[std::countr_zero(found | kLastSlot)];
  return found != 0 ? row : kUnknownRow;
}

// Keys whose bucket overflowed into the next one wait until that is here, too. Without a branch on what a first bucket holds: each
// would wait for it, and be guessed wrong for one key in twenty.
BOWERBIRD_BODY void answer(const IndexView& view, const std::uint64_t* keys, std::size_t count, AskedKeys& asked, std::int64_t* rows) {
  std::uint16_t late[kFindPiece];
  std::size_t later = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const IndexBucket& bucket = *asked.buckets[i];
    const unsigned found = matches(bucket, keys[i]);
    rows[i] = keys[i] == kMissingKey ? kMissingRow : row_in(bucket, found);
    late[later] = static_cast<std::uint16_t>(i);
    later += static_cast<std::size_t>(found == 0) & static_cast<std::size_t>(bucket.passed != 0);
  }
  for (std::size_t i = 0; i < later; ++i) {
    const IndexBucket*& bucket = asked.buckets[late[i]];
    bucket = &view.after_home(asked.hashes[late[i]]);
    prefetch_far(bucket);
  }
  for (std::size_t i = 0; i < later; ++i) {
    const std::size_t at = late[i];
    const IndexBucket& bucket = *asked.buckets[at];
    const unsigned found = matches(bucket, keys[at]);
    std::uint32_t row = found != 0 ? row_in(bucket, found) : kAbsentRow;
    if (found == 0 && bucket.passed != 0) row = view.find(keys[at], asked.hashes[at]);
    if (row != kAbsentRow) rows[at] = row;
  }
}

// Buckets are asked for side by side, a piece's while the piece before it is answered: between the instructions of answers, few requests
// would stand in the processor's window at a time.
BOWERBIRD_BODY void find_rows(const IndexView& view, const std::uint64_t* keys, std::size_t count, std::int64_t* rows) {
  AskedKeys asked[2];
  ask_for(view, keys, std::min(kFindPiece, count), asked[0]);
  for (std::size_t at = 0, now = 0; at < count; at += kFindPiece, now = 1 - now) {
    const std::size_t next = at + kFindPiece;
    if (next < count) ask_for(view, keys + next, std::min(kFindPiece, count - next), asked[1 - now]);
    answer(view, keys + at, std::min(kFindPiece, count - at), asked[now], rows + at);
  }
}

// ---- the functions -------------------------------------------------------------------------------

BOWERBIRD_TARGET void find(const IndexView& index, const std::uint64_t* keys, std::size_t count, std::int64_t* rows) {
  const IndexView view = index;  // so that the compiler knows that `rows` does not lie over it
  find_rows(view, keys, count, rows);
}
BOWERBIRD_TARGET void take(const RowsView& rows, Precision precision, const std::int64_t* numbers, std::size_t count, float* out) {
  take_any(rows, precision, numbers, count, out);
}
BOWERBIRD_TARGET void pool(const RowsView& rows, Precision precision, const PoolJob& job, float* out) { pool_any(rows, precision, job, out); }
BOWERBIRD_TARGET void draw(std::uint64_t stream, float scale, std::size_t count, float* out) { draw_any(stream, scale, count, out); }
BOWERBIRD_TARGET void update(const UpdateJob& job, Precision precision, const RowGroups& groups) { update_any(job, precision, groups); }
BOWERBIRD_TARGET void sweep(const UpdateJob& job, const RowGroups& groups, std::size_t lane, std::size_t lanes) {
  sweep_any(job, groups, lane, lanes);
}

TableKernels kernels(const char* name) { return {name, find, take, pool, draw, update, sweep}; }

}  // namespace BOWERBIRD_SET

#undef BOWERBIRD_BODY
#undef BOWERBIRD_TARGET
#undef BOWERBIRD_SET
