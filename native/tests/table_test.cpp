// Embedding tables under sanitizers: the index against a map, threads, damaged files, readers beside a writer.
//
//   table_test FOLDER    writes its files there
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_map>

#include "table/served.hpp"
#include "table/table.hpp"

namespace {

using namespace bowerbird;
using namespace bowerbird::embedding;

int failures = 0;
std::filesystem::path folder;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "  FAILED: %s\n", what.c_str());
}

template <typename Error = std::exception>
bool throws(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error&) {
    return true;
  }
  return false;
}

std::string file(const std::string& name) { return (folder / name).string(); }

using KeyList = std::vector<std::uint64_t>;
using RowList = std::vector<std::int64_t>;

TableOptions options(OptimiserKind kind = OptimiserKind::kRowWiseAdagrad, std::size_t dimension = 5, std::size_t threads = 1) {
  TableOptions made;
  made.dimension = dimension;
  made.optimiser.kind = kind;
  made.optimiser.learning_rate = 0.1F;
  made.optimiser.epsilon = 1e-6F;
  made.threads = threads;
  made.config = "the configuration";
  return made;
}

RowList admit(Table& table, const KeyList& keys, std::int64_t time = Table::kOwnClock) {
  RowList rows(keys.size());
  table.admit(keys.data(), keys.size(), nullptr, time, rows.data());
  return rows;
}

template <typename AnyTable>
RowList find(const AnyTable& table, const KeyList& keys) {
  RowList rows(keys.size());
  table.find(keys.data(), keys.size(), rows.data());
  return rows;
}

template <typename AnyTable>
std::vector<float> vectors(const AnyTable& table, const KeyList& keys, std::size_t dimension) {
  const RowList rows = find(table, keys);
  std::vector<float> out(keys.size() * dimension);
  table.take(rows.data(), rows.size(), out.data());
  return out;
}

KeyList random_keys(std::mt19937_64& chance, std::size_t count, std::uint64_t below) {
  KeyList keys(count);
  for (std::uint64_t& key : keys) key = chance() % below;
  return keys;
}

std::vector<float> random_numbers(std::mt19937_64& chance, std::size_t count) {
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(static_cast<double>(chance()) / 0x1p63 - 1.0);
  return numbers;
}

void train(Table& table, std::uint64_t seed, int steps, std::uint64_t below = 3000, std::size_t batch = 500) {
  std::mt19937_64 chance(seed);
  for (int i = 0; i < steps; ++i) {
    const RowList rows = admit(table, random_keys(chance, batch, below));
    const std::vector<float> gradients = random_numbers(chance, rows.size() * table.options().dimension);
    table.update(rows.data(), rows.size(), gradients.data(), -1.0F);
  }
}

// ---- the index ---------------------------------------------------------------------------------

void test_index() {
  std::mt19937_64 chance(1);
  TableIndex index(7);
  std::unordered_map<std::uint64_t, std::uint32_t> map;
  KeyList known;
  for (std::uint32_t i = 0; i < 120'000; ++i) {
    const std::uint64_t key = chance() % 400'000 + 1;
    const TableIndex::Place place = index.place_of(key);
    expect(place.row == (map.contains(key) ? map[key] : kAbsentRow), "a key's place says whether it stands there");
    if (map.contains(key)) {
      if (chance() % 3 == 0) expect(index.remove(key) == map[key] && map.erase(key) == 1, "a removed key had its row");
      continue;
    }
    index.fill(place, key, i + 2);
    map[key] = i + 2;
  }
  expect(index.size() == map.size(), "the index counts its keys");
  expect(index.view().sound(200'000), "no chain is endless");
  std::size_t seen = 0;
  index.each([&](std::uint64_t key, std::uint32_t row) { seen += map.contains(key) && map[key] == row; });
  expect(seen == map.size(), "a walk meets every key once");
  for (std::uint64_t key = 1; key <= 400'000; ++key) known.push_back(key);
  RowList rows(known.size());
  table_kernels("").find(index.view(), known.data(), known.size(), rows.data());
  bool same = true;
  for (std::size_t i = 0; i < known.size(); ++i) {
    same &= rows[i] == (map.contains(known[i]) ? map[known[i]] : 1U);
    same &= index.view().find(known[i]) == (map.contains(known[i]) ? map[known[i]] : 0U);
  }
  expect(same, "every key is found with its row, and no other");
}

// Keys that come and go without end need no more memory than those that are there at once.
void test_index_turnover() {
  TableIndex index(3);
  for (std::uint64_t key = 1; key <= 20'000; ++key) index.insert(key, 2);
  const std::size_t bytes = index.bytes();
  for (std::uint64_t key = 1; key <= 200'000; ++key) {
    expect(index.remove(key) == 2, "the oldest key is there");
    index.insert(key + 20'000, 2);
  }
  expect(index.bytes() <= 2 * bytes, "removed keys leave room");
  expect(index.remove(5) == kAbsentRow, "a key that is not there cannot be removed");
}

// ---- tables ------------------------------------------------------------------------------------

// With any number of threads and any instructions, all weights are the same bits.
void test_threads() {
  for (const auto kind : {OptimiserKind::kSgd, OptimiserKind::kAdagrad, OptimiserKind::kRowWiseAdagrad, OptimiserKind::kAdam, OptimiserKind::kFtrl}) {
    for (const auto precision : {Precision::kFloat32, Precision::kFloat16, Precision::kBfloat16}) {
      TableOptions made = options(kind, 19);
      made.precision = precision;
      made.optimiser.clip = 0.8F;
      made.optimiser.l2 = 0.01F;
      const KeyList keys = [] {
        std::mt19937_64 chance(2);
        return random_keys(chance, 3000, 3000);
      }();
      std::vector<float> expected;
      for (const std::string& instructions : table_instruction_sets()) {
        made.instructions = instructions;
        made.threads = 1 + expected.size() % 3;
        Table table(made);
        train(table, 5, 4, 3000, 9000);
        const std::vector<float> got = vectors(table, keys, 19);
        if (expected.empty()) expected = got;
        expect(got == expected, "instructions and threads do not show: " + instructions);
      }
    }
  }
}

void test_exact_adam() {
  TableOptions made = options(OptimiserKind::kAdam, 16);
  made.optimiser.exact = true;
  made.optimiser.l2 = 0.1F;
  std::vector<float> expected;
  for (const std::size_t threads : {1, 3}) {
    made.threads = threads;
    Table table(made);
    const KeyList keys{11, 12, 13};
    admit(table, keys);
    const std::vector<float> before = vectors(table, keys, 16);
    const RowList one = find(table, {12});
    const std::vector<float> gradient(16, 0.5F);
    table.update(one.data(), 1, gradient.data(), -1.0F);
    const std::vector<float> after = vectors(table, keys, 16);
    for (std::size_t i = 0; i < after.size(); ++i) expect(after[i] != before[i], "every row moves");
    if (expected.empty()) expected = after;
    expect(after == expected, "threads do not show");
  }
}

void test_budget() {
  for (const Evicted policy : {Evicted::kLeastRecent, Evicted::kLeastFrequent}) {
    TableOptions made = options();
    made.expiry.max_bytes = 400'000;
    made.expiry.evicted = policy;
    Table table(made);
    for (std::uint64_t start = 1; start < 60'000; start += 500) {
      KeyList keys;
      for (std::uint64_t key = start; key < start + 500; ++key) keys.push_back(key);
      keys.insert(keys.end(), {1, 2, 3});
      const RowList rows = admit(table, keys);
      const RowList again = find(table, keys);
      expect(rows == again, "no key of a call goes in that call");
    }
    const TableStatistics held = table.statistics();
    expect(held.index_bytes + held.row_bytes + held.filter_bytes <= 400'000, "the budget is kept");
    expect(held.evicted > 50'000 && held.keys > 1000, "keys go one by one");
    expect(find(table, {1, 2, 3})[0] >= 2, "a key that is used stays");
  }
  TableOptions tiny = options();
  tiny.expiry.max_bytes = 1;
  Table table(tiny);
  expect(admit(table, {5, 6}) == RowList{1, 1} && table.statistics().refused == 2, "without room keys are refused");
}

void test_expiry() {
  TableOptions made = options();
  made.expiry.max_age = 100;
  made.expiry.rare_age = 10;
  made.expiry.rare_uses = 2;
  Table table(made);
  admit(table, {1, 2, 3}, 1000);
  admit(table, {2}, 1001);
  expect(table.expire(1005) == 0, "what is young stays");
  expect(table.expire(1050) == 2, "what is rare goes");
  expect(find(table, {1, 2, 3}) == RowList({1, 3, 1}), "and shares row 1 from then on");
  expect(table.expire(1102) == 1, "what is old goes");
  const RowList rows = admit(table, {7, 8, 9, 10}, 1200);
  expect(*std::max_element(rows.begin(), rows.end()) == 5, "freed rows are used again");
}

// ---- files -------------------------------------------------------------------------------------

std::vector<char> read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write_file(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void test_snapshot() {
  std::mt19937_64 chance(9);
  const KeyList keys = random_keys(chance, 4000, 4000);
  TableOptions made = options();
  made.admission.minimum_count = 2;
  Table table(made);
  train(table, 1, 10);
  table.snapshot(file("whole"));
  Table back(made);
  back.restore(file("whole"));
  const MappedTable mapped(file("whole"), true, "");
  expect(mapped.config() == "the configuration" && mapped.header().version == 1, "a snapshot says what it is");
  expect(find(back, keys) == find(table, keys) && find(mapped, keys) == find(table, keys), "keys keep their rows");
  expect(vectors(back, keys, 5) == vectors(table, keys, 5) && vectors(mapped, keys, 5) == vectors(table, keys, 5), "rows keep their weights");
  train(table, 2, 10);
  train(back, 2, 10);
  expect(find(back, keys) == find(table, keys) && vectors(back, keys, 5) == vectors(table, keys, 5), "a restored table goes on the same");
  Table other(options(OptimiserKind::kAdam));
  expect(throws<std::invalid_argument>([&] { other.restore(file("whole")); }), "another optimiser's state is refused");
  expect(throws<std::system_error>([&] { table.snapshot(file("none/whole")); }), "an absent folder is an error");
  expect(throws<std::system_error>([&] { other.restore(file("none")); }), "an absent file is an error");
}

void test_deltas() {
  std::mt19937_64 chance(10);
  const KeyList keys = random_keys(chance, 5000, 5000);
  Table table(options());
  train(table, 1, 5, 2000);
  table.snapshot(file("base"));
  Table replica(options());
  replica.restore(file("base"));
  for (int round = 1; round <= 4; ++round) {
    train(table, 100 + static_cast<std::uint64_t>(round), 3, 5000, 200);
    const KeyList gone = random_keys(chance, 50, 5000);
    table.remove(gone.data(), gone.size());
    table.delta(file("delta" + std::to_string(round)), static_cast<std::uint64_t>(round));
  }
  expect(throws<WrongOrder>([&] { replica.apply_delta(file("delta2")); }), "a delta too far is refused");
  replica.apply_delta(file("delta1"));
  expect(throws<WrongOrder>([&] { replica.apply_delta(file("delta1")); }), "a delta twice is refused");
  for (int round = 2; round <= 4; ++round) replica.apply_delta(file("delta" + std::to_string(round)));
  expect(vectors(replica, keys, 5) == vectors(table, keys, 5), "deltas bring a replica to the table's vectors");
  expect(replica.statistics().keys == table.statistics().keys, "and to its keys");
  Table late(options());
  late.restore(file("base"));
  table.delta(file("long"), 1);
  late.apply_delta(file("long"));
  expect(vectors(late, keys, 5) == vectors(table, keys, 5), "so does one delta since the snapshot");
  train(replica, 3, 1);
  table.delta(file("next"), 4);
  expect(throws<WrongOrder>([&] { replica.apply_delta(file("next")); }), "a replica that was trained is refused");
  expect(throws<WrongOrder>([&] { table.delta(file("bad"), 77); }), "a version that never was is no base");
  expect(throws<std::invalid_argument>([&] { late.restore(file("next")); }), "a delta is not a snapshot");
}

// A damaged file is refused; what a table held before stays.
void test_damaged() {
  Table table(options());
  train(table, 1, 2, 60, 50);
  table.snapshot(file("sound"));
  train(table, 2, 2, 60, 50);
  table.delta(file("sound_delta"), 1);
  const KeyList keys{1, 2, 3, 4, 5, 6, 7, 8};
  std::mt19937_64 chance(3);
  for (const bool is_delta : {false, true}) {
    const std::vector<char> whole = read_file(file(is_delta ? "sound_delta" : "sound"));
    const std::string damaged = file("damaged");
    Table target(options());
    if (is_delta) target.restore(file("sound"));
    const std::vector<float> before = vectors(target, keys, 5);
    const auto read = [&] { is_delta ? target.apply_delta(damaged) : target.restore(damaged); };
    for (int i = 0; i < 40; ++i) {
      const auto size = i == 0 ? 0 : static_cast<std::ptrdiff_t>(chance() % whole.size());
      write_file(damaged, {whole.begin(), whole.begin() + size});
      expect(throws<DamagedFile>(read), "a file cut at " + std::to_string(size) + " is refused");
    }
    const auto header = TableFile(file(is_delta ? "sound_delta" : "sound"), true).header();
    for (int i = 0; i < 200; ++i) {
      std::size_t at = chance() % sizeof(TableFileHeader);
      if (i % 2 == 1) {
        const SectionPlace& place = header.sections[chance() % kSections];
        if (place.bytes == 0) continue;
        at = place.offset + chance() % place.bytes;
      }
      std::vector<char> flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << (chance() % 8)));
      write_file(damaged, flipped);
      expect(throws<DamagedFile>(read), "a file flipped at " + std::to_string(at) + " is refused");
    }
    expect(vectors(target, keys, 5) == before, "a refused file changes nothing");
  }
}

// ---- threads -----------------------------------------------------------------------------------

// Every number of a row is the same, so that a reader would see a row that is half written.
void test_readers_beside_a_writer() {
  TableOptions made = options(OptimiserKind::kSgd, 24, 2);
  made.initial_scale = 0.0F;
  Table table(made);
  KeyList keys;
  for (std::uint64_t key = 1; key <= 300; ++key) keys.push_back(key);
  admit(table, keys);
  std::atomic<bool> done{false};
  std::atomic<int> torn{0};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&] {
      while (!done) {
        const std::vector<float> seen = vectors(table, keys, 24);
        for (std::size_t i = 0; i < seen.size(); ++i) torn += seen[i] != seen[i / 24 * 24];
        std::this_thread::yield();
      }
    });
  }
  for (int i = 1; i <= 60; ++i) {
    const RowList rows = admit(table, keys);
    const std::vector<float> gradients(rows.size() * 24, static_cast<float>(i));
    table.update(rows.data(), rows.size(), gradients.data(), -1.0F);
    if (i % 20 == 0) table.snapshot(file("beside"));
    admit(table, {std::uint64_t{1000} + static_cast<std::uint64_t>(i)});
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  expect(torn == 0, "no reader sees half a row");
}

// A served table is replaced while others read: every row of version n is n throughout, in the file as in what changed.
void test_served() {
  constexpr std::size_t kKeys = 2000;
  constexpr std::size_t kWidth = 24;
  const std::string path = folder / "served";
  std::vector<std::uint64_t> keys(kKeys);
  for (std::size_t i = 0; i < kKeys; ++i) keys[i] = mix(i) | 1;
  const std::vector<float> rows((kKeys + 2) * kWidth, 0.0F);
  for (const RowFormat format : {RowFormat::kFloat32, RowFormat::kFloat16, RowFormat::kInt8}) {
    ServedTable::write(path, keys.data(), kKeys, rows.data(), kWidth, format);
    std::mutex mutex;
    auto current = std::make_shared<const ServedTable>(path, true);
    const auto now = [&] {
      const std::lock_guard lock(mutex);
      return current;
    };
    std::atomic<bool> stop{false};
    std::atomic<int> mixed{0};
    std::vector<std::thread> readers;
    for (int reader = 0; reader < 3; ++reader) {
      readers.emplace_back([&] {
        std::vector<std::int64_t> found(kKeys);
        std::vector<float> taken(kKeys * kWidth);
        while (!stop) {
          const auto table = now();
          table->find(keys.data(), kKeys, found.data());
          table->take(found.data(), kKeys, taken.data());
          for (const float value : taken) mixed += value == taken.front() ? 0 : 1;
        }
      });
    }
    for (int version = 1; version <= 40; ++version) {
      const std::vector<float> vectors(kKeys * kWidth, static_cast<float>(version));
      std::shared_ptr<const ServedTable> next = now()->with({keys.data(), vectors.data(), kKeys, nullptr, 0, nullptr});
      const std::lock_guard lock(mutex);
      current = std::move(next);
    }
    stop = true;
    for (std::thread& reader : readers) reader.join();
    expect(mixed == 0, "a reader saw rows of two versions");
    expect(now()->changed_bytes() < 4 * kKeys * kWidth * sizeof(float) + (std::size_t{1} << 18), "old rows were let go");
  }
  std::vector<char> bytes(std::filesystem::file_size(path));
  std::ifstream(path, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  for (std::size_t cut = 0; cut < bytes.size(); cut += bytes.size() / 7) {
    write_file(path, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut)});
    expect(throws<DamagedFile>([&] { ServedTable(path, false); }), "a file that is cut short");
  }
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(path, bytes);
  expect(throws<DamagedFile>([&] { ServedTable(path, false).verify(); }), "a changed byte");
}

void run(const char* name, const std::function<void()>& test) {
  std::fprintf(stderr, "%s\n", name);
  try {
    test();
  } catch (const std::exception& error) {
    expect(false, std::string(name) + " threw: " + error.what());
  }
}

}  // namespace

int main(int count, char** arguments) {
  folder = count > 1 ? arguments[1] : std::filesystem::temp_directory_path();
  folder /= "table_test." + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  run("index", test_index);
  run("index turnover", test_index_turnover);
  run("threads and instructions", test_threads);
  run("exact Adam", test_exact_adam);
  run("budget", test_budget);
  run("expiry", test_expiry);
  run("snapshot", test_snapshot);
  run("deltas", test_deltas);
  run("damaged files", test_damaged);
  run("readers beside a writer", test_readers_beside_a_writer);
  run("served tables", test_served);
  std::filesystem::remove_all(folder);
  if (failures > 0) std::fprintf(stderr, "%d failed\n", failures);
  return failures > 0 ? 1 : 0;
}
