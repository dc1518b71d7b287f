// The native state under sanitizers: memory paths, budgets, damaged files, and readers beside a writer.
//
//   state_test FOLDER    writes its files there
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "bulk/replay.hpp"
#include "shop.hpp"

namespace {

using namespace bowerbird;
using namespace bowerbird::shop;

std::filesystem::path folder;

std::string file(const std::string& name) {
  const std::filesystem::path path = folder / name;
  std::filesystem::remove(path);
  return path.string();
}

using StatePointer = std::shared_ptr<State>;

StateOptions options(bool versioned, std::size_t threads = 1) {
  StateOptions made;
  made.versioned = versioned;
  made.threads = threads;
  made.plan_json = "the plan";
  made.budget = std::size_t{1} << 30;  // an emulator of another machine keeps tables of what is reserved
  return made;
}

StatePointer make(StateOptions made) { return std::make_shared<State>(plan(), std::move(made)); }
Words seen_by(const StatePointer& state, const Log& log) { return look(Program(plan(), {state}), log.latest()); }

bool throws(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::exception&) {
    return true;
  }
  return false;
}

void write_file(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::vector<char> read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// ---- one thread --------------------------------------------------------------------------------

// Arrays grow, rings turn, tops overflow, events come late: with any threads, versions and batches the same.
void test_growth() {
  const Log log = random_log(1, 12'000);
  const StatePointer plain = make(options(false));
  log.apply(*plain, 0, log.size());
  const Words expected = seen_by(plain, log);
  for (const std::size_t threads : {1, 3}) {
    for (const bool versioned : {false, true}) {
      const StatePointer state = make(options(versioned, threads));
      log.apply(*state, 0, log.size(), versioned ? 97 : 5000);
      expect(state->lsn() == static_cast<std::int64_t>(log.size()), "every record is counted");
      expect(seen_by(state, log) == expected, "threads, versions and batches do not show");
    }
  }
}

// Records [first, first + step) with a read at every third.
template <typename Visit>
void each_piece(const Log& log, std::size_t first, std::size_t step, const Visit& visit) {
  const std::size_t last = std::min(first + step, log.size());
  std::vector<std::int64_t> positions, times;
  std::vector<std::uint64_t> slots[2];
  for (std::size_t at = first; at <= last; at += 3) {
    positions.push_back(static_cast<std::int64_t>(at));
    times.push_back(log.time(std::min(at, log.size() - 1)));
    slots[0].push_back(at % 5);
    slots[1].push_back(at % (kItemsInAll + 2));
  }
  std::vector<std::uint64_t> all(kSlots * positions.size(), 0);
  for (std::size_t i = 0; i < 2; ++i) std::copy(slots[i].begin(), slots[i].end(), all.begin() + static_cast<std::ptrdiff_t>(i * positions.size()));
  const Reads reads{positions.data(), times.data(), all.data(), positions.size()};
  log.with(first, last, [&](const Records& records) { visit(records, reads); });
}

Words replayed(const Log& log, std::size_t threads, std::size_t step) {
  const StatePointer state = make(options(false, threads));
  Program program(plan(), {state});
  Words words;
  for (std::size_t first = 0; first < log.size(); first += step) {
    each_piece(log, first, step, [&](const Records& records, const Reads& reads) { words.add(program.replay(records, reads)); });
  }
  return words;
}

// The same reads by bulk replays of so many batches each.
Words replayed_in_bulk(const Log& log, std::size_t threads, std::size_t step, std::size_t batches) {
  const StatePointer state = make(options(false, threads));
  const auto program = std::make_shared<Program>(plan(), std::vector<StatePointer>{state});
  Words words;
  for (std::size_t first = 0; first < log.size(); first += step * batches) {
    BulkReplay bulk(program, true);
    for (std::size_t begin = first; begin < std::min(first + step * batches, log.size()); begin += step) {
      each_piece(log, begin, step, [&](const Records& records, const Reads& reads) { bulk.add(records, reads); });
    }
    bulk.run();
    words.add(bulk.next(bulk.rows()));
  }
  return words;
}

void test_replay() {
  const Log log = random_log(2, 6000);
  const Words expected = replayed(log, 1, 600);
  for (const std::size_t threads : {1, 2, 5}) {
    expect(replayed_in_bulk(log, threads, 600, 1) == expected, "a bulk replay reads the same");
  }
  expect(replayed(log, 2, 600) == expected, "a replay by two threads reads the same");
  expect(replayed(log, 5, 600) == expected, "a replay by five threads reads the same");
}

void test_expire() {
  for (const bool versioned : {false, true}) {
    PlanBuilder builder;
    const int item = builder.value(PlanBuilder::item(), false);
    const int counts = builder.aggregate(tiles(kMinute, 5), 0, {PlanBuilder::item()});
    const int top = builder.aggregate(of_kind(AggregateKind::kTop, 5, 10 * kMinute), 0, {PlanBuilder::item()}, {PlanBuilder::user()});
    builder.number(builder.read(counts, {item}, What::kCount));
    builder.sequence(builder.read(top, {item}, What::kNone, Operation::kTop), {true, false});
    const auto state = std::make_shared<State>(builder.plan(), options(versioned));
    const Program program(builder.plan(), {state});
    std::size_t gone = 0;
    for (int round = 0; round < 30; ++round) {
      Log log;
      const std::int64_t now = kStart + round * 3 * kMinute;
      for (std::uint64_t i = 0; i < 300; ++i) log.event(i, 1 + static_cast<std::uint64_t>(round) * 100 + i, 1, now);
      log.apply(*state, 0, log.size());
      const Words before = look(program, now + 2000 * kMinute);
      gone += state->expire(now);
      expect(look(program, now + 2000 * kMinute) == before, "expiring changes nothing that is read");
    }
    const Usage usage = state->usage();
    expect(gone > 1000, "keys without an event go");
    expect(usage.family_keys[0] < 1000, "few keys are left");
  }
}

void test_budgets() {
  for (const bool versioned : {false, true}) {
    for (const Full full : {Full::kFail, Full::kRefuse, Full::kExpire}) {
      for (const std::size_t budget : {std::size_t{20'000}, std::size_t{300'000}, std::size_t{2'000'000}}) {
        StateOptions made = options(versioned, 2);
        made.budget = budget;
        made.full = full;
        const Log log = random_log(3, 8000, 4000);
        StatePointer state;
        if (throws([&] { state = make(made); })) {
          expect(budget < 100'000, "a state begins within its budget");
          continue;
        }
        const bool failed = throws([&] { log.apply(*state, 0, log.size(), 500); });
        expect(failed == (full == Full::kFail), "only `fail` fails");
        seen_by(state, log);
        const Usage usage = state->usage();
        expect(usage.arena_bytes <= budget + 4096, "the budget is kept");
        if (full == Full::kRefuse) expect(usage.refused > 0, "refused events are counted");
        if (full == Full::kExpire && budget > 1'000'000) expect(usage.expired > 0, "expired keys are counted");
      }
    }
  }
}

void test_shared_file() {
  const std::string path = file("shared");
  StateOptions made = options(true);
  made.path = path;
  made.budget = std::size_t{256} << 20;
  const Log log = random_log(4, 3000);
  Words expected;
  StatePointer reader;
  {
    const StatePointer writer = make(made);
    expect(throws([&] { make(made); }), "a second writer is refused");
    expect(State::plan_json(path) == "the plan", "the plan stands in the file");
    log.apply(*writer, 0, log.size(), 300);
    expected = seen_by(writer, log);
    reader = std::make_shared<State>(plan(), path);
    expect(reader->lsn() == writer->lsn() && !reader->closed(), "a reader is where the writer is");
    expect(seen_by(reader, log) == expected, "a reader reads what the writer reads");
    expect(throws([&] { State(PlanBuilder().plan(), path); }), "another plan is refused");
  }
  expect(reader->closed(), "a reader sees that the writer has gone");
  expect(seen_by(reader, log) == expected, "what the writer left stays");
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, std::size_t{5000}}) {
    const std::string cut = file("cut");
    write_file(cut, std::vector<char>(size));
    expect(throws([&] { State(plan(), cut); }), "a file that is no state is refused");
    expect(throws([&] { State::plan_json(cut); }), "nor has it a plan");
  }
  expect(throws([&] { State(plan(), file("none")); }), "an absent file is refused");
}

// ---- snapshots ---------------------------------------------------------------------------------

void test_snapshot() {
  const Log log = random_log(5, 6000);
  const std::size_t half = log.size() / 2;
  for (const bool versioned : {false, true}) {
    const std::string path = file("snapshot");
    const StatePointer state = make(options(versioned));
    log.apply(*state, 0, half, 111);
    state->snapshot(path);
    const Words then = seen_by(state, log);
    log.apply(*state, half, log.size(), 111);
    for (const bool back_versioned : {false, true}) {
      const StatePointer back = make(options(back_versioned, 2));
      back->restore(path);
      expect(back->lsn() == static_cast<std::int64_t>(half) && back->restored_to() == back->lsn(), "a snapshot knows its position");
      expect(seen_by(back, log) == then, "a restored state reads the same");
      log.apply(*back, half, log.size(), 1000);
      expect(seen_by(back, log) == seen_by(state, log), "and goes on the same");
      back->snapshot(file("again"));
    }
  }
  StateOptions small = options(false);
  small.budget = 400'000;
  expect(throws([&] { make(small)->restore((folder / "snapshot").string()); }), "a small budget refuses a large snapshot");
  StateOptions other = options(false);
  other.plan_json = "another plan";
  expect(throws([&] { make(other)->restore((folder / "snapshot").string()); }), "another plan's snapshot is refused");
  expect(throws([&] { make(options(false))->restore(file("none")); }), "an absent snapshot is refused");
}

// A damaged snapshot is refused, or the damage does not matter.
void test_damaged_snapshots() {
  const std::string path = file("whole");
  const Log log = random_log(6, 60, 20);
  const StatePointer state = make(options(false));
  log.apply(*state, 0, log.size());
  state->snapshot(path);
  const Words expected = seen_by(state, log);
  const std::vector<char> whole = read_file(path);
  const std::string damaged = file("damaged");
  const auto is_refused = [&](const std::vector<char>& bytes) {
    write_file(damaged, bytes);
    const StatePointer back = make(options(false));
    return throws([&] { back->restore(damaged); }) || (seen_by(back, log) == expected && back->lsn() == state->lsn() &&
                                                       back->restored_to() == back->lsn());
  };
  std::mt19937_64 chance(7);
  for (int i = 0; i < 150; ++i) {
    const auto size = static_cast<std::ptrdiff_t>(i < 60 ? static_cast<std::size_t>(i) * 3 : chance() % whole.size());
    expect(is_refused({whole.begin(), whole.begin() + size}), "a snapshot cut at " + std::to_string(size) + " is refused");
  }
  for (int i = 0; i < 900; ++i) {
    const std::size_t at = i < 500 ? static_cast<std::size_t>(i) / 2 : chance() % whole.size();
    std::vector<char> flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (i % 2 == 0 ? 6 : chance() % 8)));
    expect(is_refused(flipped), "a snapshot flipped at " + std::to_string(at) + " is refused");
  }
  std::vector<char> doubled = whole;
  doubled.insert(doubled.end(), whole.begin(), whole.end());
  expect(is_refused(doubled), "what follows a snapshot's end does not matter");
}

// ---- readers beside a writer -------------------------------------------------------------------

// Every batch writes its own number to all items, so that the items of an answer agree.
Plan numbered_plan() {
  PlanBuilder builder;
  const int item = builder.value(PlanBuilder::item(), false);
  const int brand = builder.value(PlanBuilder::brand(), false);
  const std::vector<Path> by{PlanBuilder::item()};
  Aggregate sum = of_kind(AggregateKind::kTotal);
  sum.has_sum = true;
  const int total = builder.aggregate(sum, 0, by);
  const int history = builder.aggregate(of_kind(AggregateKind::kSequence, 60), 0, by, {PlanBuilder::amount(), PlanBuilder::user()});
  const int windowed = builder.aggregate(tiles(kMinute, 30), 0, by);
  const int top = builder.aggregate(of_kind(AggregateKind::kTop, 8, 1'000'000 * kMinute), 0, by, {PlanBuilder::user()});
  builder.number(builder.read(total, {item}, What::kCount));
  builder.number(builder.read(total, {item}, What::kSum));
  builder.number(builder.read(history, {item}, What::kNone, Operation::kLatest, 0));
  builder.number(builder.read(windowed, {item}, What::kCount));
  builder.category(brand);
  builder.sequence(builder.read(history, {item}, What::kNone, Operation::kSequence), {false, true});
  builder.sequence(builder.read(top, {item}, What::kNone, Operation::kTop), {true, false});
  return builder.plan();
}

constexpr std::uint64_t kNumbered = 40;
constexpr std::int64_t kPerBatch = 2 * static_cast<std::int64_t>(kNumbered);

// One event and one row of attributes for every item; the batch's number is in all of them.
Log numbered_batch(std::int64_t number) {
  Log log;
  const std::int64_t time = kStart + number * kMinute;
  for (std::uint64_t item = 1; item <= kNumbered; ++item) {
    log.attributes(item, static_cast<std::uint64_t>(number), time, false);
    log.event(static_cast<std::uint64_t>(number) % 11 + 1, item, static_cast<double>(number), time);
  }
  return log;
}

// Whether an answer is what exactly one batch left behind.
bool is_of_one_position(const Answer& answer) {
  const Columns& columns = answer.candidates;
  const std::int64_t number = answer.lsn / kPerBatch;
  if (answer.lsn % kPerBatch != 0) return false;
  for (std::size_t row = 0; row < kNumbered; ++row) {
    if (columns.numbers[row] != static_cast<float>(number)) return false;
    if (columns.numbers[kNumbered + row] != static_cast<float>(number * (number + 1) / 2)) return false;
    if (number > 0 && columns.numbers[2 * kNumbered + row] != static_cast<float>(number)) return false;
    if (columns.categories[row] != static_cast<std::uint64_t>(number)) return false;
    const Ragged& history = columns.sequences[0];
    const std::int64_t begin = history.offsets[row];
    const std::int64_t size = history.offsets[row + 1] - begin;
    if (size != std::min<std::int64_t>(number, 60)) return false;
    for (std::int64_t i = 0; i < size; ++i) {
      if (history.numbers[0][static_cast<std::size_t>(begin + i)] != static_cast<float>(number - size + 1 + i)) return false;
    }
  }
  return true;
}

Answer read_numbered(const Program& program) {
  static const std::vector<std::uint64_t> candidates = [] {
    std::vector<std::uint64_t> all;
    for (std::uint64_t item = 1; item <= kNumbered; ++item) all.push_back(item);
    return all;
  }();
  const std::uint64_t request[kSlots] = {1, 0, 0, 0, 0};
  return program.read(kStart + 5000 * kMinute, request, candidates.data(), candidates.size());
}

// A thread for each of the states given reads while batches are written.
void run_beside(State& writer, const std::vector<StatePointer>& looked_at, std::int64_t batches) {
  std::atomic<bool> done{false};
  std::atomic<std::int64_t> reads{0}, wrong{0}, back{0};
  std::vector<std::thread> threads;
  for (const StatePointer& state : looked_at) {
    threads.emplace_back([&, state] {
      const Program program(numbered_plan(), {state});
      std::int64_t last = 0;
      while (!done) {
        const Answer answer = read_numbered(program);
        if (!is_of_one_position(answer)) ++wrong;
        if (answer.lsn < last) ++back;
        last = answer.lsn;
        ++reads;
      }
    });
  }
  threads.emplace_back([&] {
    while (!done) {
      expect(writer.usage().family_keys.size() == 1, "sizes are given while the writer writes");
      writer.aggregate_bytes();
    }
  });
  for (std::int64_t number = 1; number <= batches; ++number) {
    const Log batch = numbered_batch(number);
    batch.apply(writer, 0, batch.size());
    if (number % 7 == 0) writer.expire(kStart);
    if (number % 16 == 0) std::this_thread::yield();
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  expect(wrong == 0, std::to_string(wrong) + " answers mix positions");
  expect(back == 0, "a reader never goes back");
  expect(reads > 0, "readers read");
}

void test_readers_beside_a_writer(std::size_t threads) {
  const StatePointer state = std::make_shared<State>(numbered_plan(), options(true, threads));
  run_beside(*state, {state, state, state}, 600);
  expect(state->usage().arena_bytes < (std::size_t{64} << 20), "what no reader needs is used again");
}

void test_readers_of_a_file() {
  StateOptions made = options(true);
  made.path = file("live");
  const auto state = std::make_shared<State>(numbered_plan(), made);
  run_beside(*state, {std::make_shared<State>(numbered_plan(), made.path), std::make_shared<State>(numbered_plan(), made.path)}, 400);
}

void test_snapshots_beside_a_writer() {
  const std::string path = file("fuzzy");
  const auto state = std::make_shared<State>(numbered_plan(), options(true));
  constexpr std::int64_t kBatches = 300;
  std::atomic<std::int64_t> written{0};
  std::thread writer([&] {
    for (std::int64_t number = 1; number <= kBatches; ++number) {
      const Log batch = numbered_batch(number);
      batch.apply(*state, 0, batch.size());
      written = number;
    }
  });
  const Program whole(numbered_plan(), {state});
  std::size_t fuzzy = 0;
  for (bool last = false; !last;) {
    last = written == kBatches;
    state->snapshot(path);
    const auto back = std::make_shared<State>(numbered_plan(), options(true));
    back->restore(path);
    fuzzy += back->restored_to() > back->lsn() ? 1 : 0;
    for (std::int64_t number = back->lsn() / kPerBatch + 1; back->lsn() < back->restored_to(); ++number) {
      const Log batch = numbered_batch(number);
      batch.apply(*back, 0, batch.size());
    }
    const Program program(numbered_plan(), {back});
    expect(is_of_one_position(read_numbered(program)), "a snapshot taken under writing is one position after its tail");
  }
  writer.join();
  std::fprintf(stderr, "  %zu snapshots with shards at several positions\n", fuzzy);
}

// A reader that dies while it reads holds nothing for ever.
void test_dead_reader() {
  const auto state = std::make_shared<State>(numbered_plan(), [] {
    StateOptions made = options(true);
    made.path = file("dead");
    return made;
  }());
  const Log first = numbered_batch(1);
  first.apply(*state, 0, first.size());
  const pid_t child = fork();
  if (child == 0) {
    new ReadGuard(state->control());
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  for (std::int64_t number = 2; number < 300; ++number) {
    const Log batch = numbered_batch(number);
    batch.apply(*state, 0, batch.size());
  }
  expect(state->usage().retired_blocks < 1000, "a dead reader's blocks are used again");
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
  folder /= "state_test." + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  run("growth", test_growth);
  run("replay", test_replay);
  run("expire", test_expire);
  run("budgets", test_budgets);
  run("shared file", test_shared_file);
  run("snapshot", test_snapshot);
  run("damaged snapshots", test_damaged_snapshots);
  run("readers beside a writer", [] { test_readers_beside_a_writer(1); });
  run("readers beside a writer of two threads", [] { test_readers_beside_a_writer(2); });
  run("readers of a file", test_readers_of_a_file);
  run("snapshots beside a writer", test_snapshots_beside_a_writer);
  run("dead reader", test_dead_reader);
  std::filesystem::remove_all(folder);
  if (failures > 0) std::fprintf(stderr, "%d failed\n", failures);
  return failures > 0 ? 1 : 0;
}
