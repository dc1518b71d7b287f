// Batched lookup for one instruction set: BOWERBIRD_TARGET is its attribute, BOWERBIRD_SET its name. `matches_SET` gives a bit for
// each of a bucket's keys that is the one looked for; without a branch for each, since none could be foreseen.
#define BOWERBIRD_JOIN_(a, b) a##b
#define BOWERBIRD_JOIN(a, b) BOWERBIRD_JOIN_(a, b)

BOWERBIRD_TARGET void BOWERBIRD_JOIN(find_, BOWERBIRD_SET)(const IndexView& view, const std::uint64_t* keys, std::size_t count,
                                                           std::int64_t* rows) {
  const IndexBucket* ahead[kFindAhead];
  for (std::size_t i = 0; i < std::min(kFindAhead, count); ++i) {
    ahead[i] = &view.home(keys[i]);
    __builtin_prefetch(ahead[i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const IndexBucket* bucket = ahead[i % kFindAhead];
    if (i + kFindAhead < count) {
      const IndexBucket* later = &view.home(keys[i + kFindAhead]);
      __builtin_prefetch(later);
      ahead[i % kFindAhead] = later;
    }
    const unsigned found = BOWERBIRD_JOIN(matches_, BOWERBIRD_SET)(*bucket, keys[i]);
    if (keys[i] == kMissingKey) {
      rows[i] = kMissingRow;
    } else if (found != 0) {
      rows[i] = bucket->rows[std::countr_zero(found)];
    } else {
      const std::uint32_t row = bucket->passed == 0 ? kAbsentRow : view.find(keys[i]);
      rows[i] = row == kAbsentRow ? kUnknownRow : row;
    }
  }
}

#undef BOWERBIRD_JOIN
#undef BOWERBIRD_JOIN_
#undef BOWERBIRD_TARGET
#undef BOWERBIRD_SET
