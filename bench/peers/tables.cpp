// An embedding table as one would write it over a hash map of pointers to rows, with software prefetch: the peer of bench/tables.py.
//
//   tables MAP KEYS FOLDER ROUNDS GROWS      MAP is absl or robin; GROWS is 1 where a map that grows is to be measured, too
//
// FOLDER holds uniform.u32 and zipf.u32 (numbers of keys to ask for) and gradients.f32. Key number i is mix(i + 1). Prints JSON:
// nanoseconds per key of every round; leaves FOLDER/MAP.f32, vectors after the first updates. Run it with
// GLIBC_TUNABLES=glibc.malloc.hugetlb=1, which gives it large pages.
#ifndef PREFETCH_LEVEL  // 3 is what everybody writes: into the first-level cache
#define PREFETCH_LEVEL 3
#endif
#define private public  // robin_map has no prefetch of its own: its bucket's address is what a user would need
#include <tsl/robin_map.h>
#undef private

#include <absl/container/flat_hash_map.h>

#include <time.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kDimension = 16;
constexpr std::size_t kGroup = PREFETCH_LEVEL == 3 ? 16 : 48;  // keys whose memory is asked for side by side
constexpr std::uint32_t kNone = 0xFFFFFFFF;
constexpr float kRate = 0.05F;
constexpr float kEpsilon = 1e-8F;

struct alignas(16) Row {
  float weights[kDimension];
  float state;
};

std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

std::uint64_t key_of(std::uint64_t number) { return mix(number + 1); }

struct KeyHash {
  std::size_t operator()(std::uint64_t key) const { return mix(key); }
};

struct AbslMap : absl::flat_hash_map<std::uint64_t, Row*> {
  [[gnu::always_inline]] void ask_for(std::uint64_t key) const { prefetch(key); }
};

struct RobinMap : tsl::robin_map<std::uint64_t, Row*, KeyHash> {
  [[gnu::always_inline]] void ask_for(std::uint64_t key) const { __builtin_prefetch(m_ht.m_buckets + m_ht.bucket_for_hash(KeyHash()(key)), 0, PREFETCH_LEVEL); }
};

// Rows from large pieces of memory, so that none costs an allocation.
class Rows {
 public:
  Row* make() {
    if (left_ == 0) {
      pieces_.push_back(std::make_unique_for_overwrite<Row[]>(kPiece));
      left_ = kPiece;
    }
    Row* row = pieces_.back().get() + (kPiece - left_--);
    std::memset(static_cast<void*>(row), 0, sizeof(Row));
    return row;
  }

 private:
  static constexpr std::size_t kPiece = 1 << 16;
  std::vector<std::unique_ptr<Row[]>> pieces_;
  std::size_t left_ = 0;
};

// Always inline: GCC drops a call to a function that does nothing but prefetch.
template <int write>
[[gnu::always_inline]] inline void ask_for(const Row* row) {
  const char* end = reinterpret_cast<const char*>(row) + (write ? sizeof(Row) : sizeof(Row::weights));
  __builtin_prefetch(row, PREFETCH_LEVEL == 3 ? write : 0, PREFETCH_LEVEL);
  __builtin_prefetch(end - 1, PREFETCH_LEVEL == 3 ? write : 0, PREFETCH_LEVEL);
}

void step(Row& row, const float* gradient) {
  float squares[kDimension];
  for (std::size_t i = 0; i < kDimension; ++i) squares[i] = gradient[i] * gradient[i];
  float sum = 0;
  for (std::size_t i = 0; i < kDimension; ++i) sum += squares[i];
  row.state += sum / kDimension;
  const float rate = kRate / (std::sqrt(row.state) + kEpsilon);
  for (std::size_t i = 0; i < kDimension; ++i) row.weights[i] -= rate * gradient[i];
}

template <typename Map>
class Table {
 public:
  void reserve(std::uint64_t keys) { map_.reserve(keys); }

  void insert(const std::uint64_t* keys, std::size_t count) {
    for (std::size_t at = 0; at < count; at += kGroup) {
      const std::size_t end = std::min(at + kGroup, count);
      for (std::size_t i = at; i < end; ++i) map_.ask_for(keys[i]);
      for (std::size_t i = at; i < end; ++i) {
        if (const auto [place, is_new] = map_.try_emplace(keys[i], nullptr); is_new) write(place) = rows_.make();
      }
    }
  }

  void find(const std::uint64_t* keys, std::size_t count, Row** out) const {
    for (std::size_t i = 0; i < std::min(kGroup, count); ++i) map_.ask_for(keys[i]);
    for (std::size_t i = 0; i < count; ++i) {
      if (i + kGroup < count) map_.ask_for(keys[i + kGroup]);
      const auto found = map_.find(keys[i]);
      out[i] = found == map_.end() ? nullptr : found->second;
    }
  }

  void take(const std::uint64_t* keys, std::size_t count, Row** found, float* out) const {
    find(keys, count, found);
    for (std::size_t i = 0; i < std::min(kGroup, count); ++i) ask_for<0>(found[i]);
    for (std::size_t i = 0; i < count; ++i) {
      if (i + kGroup < count) ask_for<0>(found[i + kGroup]);
      std::memcpy(out + i * kDimension, found[i]->weights, sizeof(Row::weights));
    }
  }

  // Gradients of a key that comes several times are summed, then its row steps once.
  void update(const std::uint64_t* keys, std::size_t count, const float* gradients) {
    const std::size_t places = std::bit_ceil(2 * count);
    slots_.assign(places, kNone);
    distinct_.clear();
    sums_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const float* gradient = gradients + i * kDimension;
      std::size_t at = mix(keys[i]) & (places - 1);
      while (slots_[at] != kNone && distinct_[slots_[at]] != keys[i]) at = (at + 1) & (places - 1);
      if (slots_[at] == kNone) {
        slots_[at] = static_cast<std::uint32_t>(distinct_.size());
        distinct_.push_back(keys[i]);
        sums_.insert(sums_.end(), gradient, gradient + kDimension);
      } else {
        float* sum = sums_.data() + slots_[at] * kDimension;
        for (std::size_t k = 0; k < kDimension; ++k) sum[k] += gradient[k];
      }
    }
    found_.resize(distinct_.size());
    find(distinct_.data(), distinct_.size(), found_.data());
    for (std::size_t i = 0; i < std::min(kGroup, found_.size()); ++i) ask_for<1>(found_[i]);
    for (std::size_t i = 0; i < found_.size(); ++i) {
      if (i + kGroup < found_.size()) ask_for<1>(found_[i + kGroup]);
      step(*found_[i], sums_.data() + i * kDimension);
    }
  }

 private:
  static Row*& write(typename absl::flat_hash_map<std::uint64_t, Row*>::iterator place) { return place->second; }
  static Row*& write(typename tsl::robin_map<std::uint64_t, Row*, KeyHash>::iterator place) { return place.value(); }

  Map map_;
  Rows rows_;
  std::vector<std::uint32_t> slots_;
  std::vector<std::uint64_t> distinct_;
  std::vector<float> sums_;
  std::vector<Row*> found_;
};

template <typename T>
std::vector<T> read(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

double seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename Act>
double nanoseconds(std::size_t count, std::size_t batch, Act&& act) {
  const double start = seconds();
  for (std::size_t at = 0; at + batch <= count; at += batch) act(at);
  return (seconds() - start) * 1e9 / static_cast<double>(count / batch * batch);
}

void print(bool first, const std::string& name, const std::vector<double>& values) {
  std::printf("%s\"%s\": [", first ? "" : ", ", name.c_str());
  for (std::size_t i = 0; i < values.size(); ++i) std::printf("%s%.3f", i == 0 ? "" : ", ", values[i]);
  std::printf("]");
}

// Nanoseconds per key; `known` says whether the map knows their number before.
template <typename Map>
double insert_all(Table<Map>& table, std::uint64_t number, bool known) {
  if (known) table.reserve(number);
  constexpr std::size_t kInserted = 65536;
  std::vector<std::uint64_t> keys(kInserted);
  double inserting = 0;
  for (std::uint64_t at = 0; at < number; at += kInserted) {
    const std::size_t count = std::min<std::uint64_t>(kInserted, number - at);
    for (std::size_t i = 0; i < count; ++i) keys[i] = key_of(at + i);
    const double start = seconds();
    table.insert(keys.data(), count);
    inserting += seconds() - start;
  }
  return inserting * 1e9 / static_cast<double>(number);
}

// The share of this process's memory that lies in large pages.
double large_pages() {
  std::ifstream lines("/proc/self/smaps_rollup");
  double all = 0;
  double large = 0;
  for (std::string word; lines >> word;) {
    if (word == "Rss:") lines >> all;
    if (word == "AnonHugePages:") lines >> large;
  }
  return large / all;
}

template <typename Map>
void run(const std::string& name, std::uint64_t number, const std::string& folder, int rounds, bool grows) {
  std::printf("{");
  for (int turn = 0; turn < 2; ++turn) {  // the first one fetches the memory from the machine that the second one finds
    Table<Map> table;
    const double spent = insert_all(table, number, !grows);
    if (turn == 1) print(true, grows ? "insert" : "insert known size again", {spent});
  }
  Table<Map> table;
  print(false, "insert known size", {insert_all(table, number, true)});
  print(false, "memory in large pages", {large_pages()});
  const std::vector<float> gradients = read<float>(folder + "/gradients.f32");
  std::vector<float> out(65536 * kDimension);
  std::vector<Row*> found(65536);
  bool checked = false;
  for (const std::string shape : {"uniform", "zipf"}) {
    std::vector<std::uint64_t> asked;
    for (const std::uint32_t i : read<std::uint32_t>(folder + "/" + shape + ".u32")) asked.push_back(key_of(i));
    if (!checked) {
      for (std::size_t at = 0; at < 20 * 4096; at += 4096) table.update(asked.data() + at, 4096, gradients.data());
      table.take(asked.data(), 20000, found.data(), out.data());
      std::ofstream(folder + "/" + name + ".f32", std::ios::binary).write(reinterpret_cast<const char*>(out.data()), 20000 * kDimension * 4);
      checked = true;
    }
    for (const std::size_t batch : {4096, 65536}) {
      std::vector<double> finding, taking, updating;
      for (int round = 0; round < rounds; ++round) {
        finding.push_back(nanoseconds(asked.size(), batch, [&](std::size_t at) { table.find(&asked[at], batch, found.data()); }));
        taking.push_back(nanoseconds(asked.size(), batch, [&](std::size_t at) { table.take(&asked[at], batch, found.data(), out.data()); }));
        updating.push_back(nanoseconds(asked.size(), batch, [&](std::size_t at) { table.update(&asked[at], batch, gradients.data()); }));
      }
      const std::string suffix = " " + shape + " " + std::to_string(batch);
      print(false, "find" + suffix, finding);
      print(false, "take" + suffix, taking);
      print(false, "update" + suffix, updating);
    }
  }
  std::printf("}\n");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return 2;
  const std::string map = arguments[1];
  const std::uint64_t number = std::stoull(arguments[2]);
  const int rounds = std::stoi(arguments[4]);
  const bool grows = std::stoi(arguments[5]) != 0;
  if (map == "absl") run<AbslMap>(map, number, arguments[3], rounds, grows);
  if (map == "robin") run<RobinMap>(map, number, arguments[3], rounds, grows);
  return 0;
}
