// What an embedding table is made of; bowerbird/embedding/table_config.py says what each setting means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace bowerbird::embedding {

enum class Precision : std::uint32_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };
enum class OptimiserKind : std::uint32_t { kSgd = 0, kAdagrad = 1, kRowWiseAdagrad = 2, kAdam = 3, kFtrl = 4 };
enum class Evicted : std::uint32_t { kLeastRecent = 0, kLeastFrequent = 1 };

inline constexpr std::uint32_t kMissingRow = 0;
inline constexpr std::uint32_t kUnknownRow = 1;
inline constexpr std::uint32_t kReservedRows = 2;
inline constexpr std::size_t kBlock = 16;  // numbers that the kernels take at a time

struct Optimiser {
  OptimiserKind kind = OptimiserKind::kSgd;
  float learning_rate = 0.01F;
  float l2 = 0.0F;
  float clip = 0.0F;
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
  float initial = 0.0F;
  float beta = 1.0F;
  float l1 = 0.0F;
  bool exact = false;
};

struct Admission {
  std::uint32_t minimum_count = 1;
  double probability = 1.0;
  std::uint64_t filter_keys = 1'000'000;
  double filter_error = 0.01;

  bool counts() const { return minimum_count > 1 || probability < 1.0; }
};

struct Expiry {
  std::uint32_t max_age = 0;  // seconds; 0 is never
  std::uint32_t rare_age = 0;
  std::uint32_t rare_uses = 0;
  std::uint64_t max_bytes = 0;
  Evicted evicted = Evicted::kLeastRecent;
};

struct TableOptions {
  std::size_t dimension = 16;
  Precision precision = Precision::kFloat32;
  bool stochastic = true;  // how half-precision weights are rounded
  float initial_scale = 0.01F;
  std::uint64_t seed = 0;
  Optimiser optimiser;
  Admission admission;
  Expiry expiry;
  std::size_t threads = 1;
  std::string instructions;  // empty: the best that the processor has
  std::string config;        // the options as the caller writes them, kept in every file

  std::size_t weight_bytes() const { return dimension * (precision == Precision::kFloat32 ? 4 : 2); }
  std::size_t state_floats() const {
    switch (optimiser.kind) {
      case OptimiserKind::kSgd: return 0;
      case OptimiserKind::kAdagrad: return dimension;
      case OptimiserKind::kRowWiseAdagrad: return 1;
      default: return 2 * dimension;
    }
  }
};

// What a row carries after its optimiser state.
struct Stamps {
  std::uint32_t time;     // of the last use, seconds
  std::uint32_t uses;     // saturates
  std::uint32_t version;  // the version of which the row's latest change will be part; 0: no row
};

struct TableStatistics {
  std::uint64_t keys = 0, rows = 0, free_rows = 0, index_bytes = 0, row_bytes = 0, filter_bytes = 0;
  std::uint64_t admitted = 0, refused = 0, expired = 0, evicted = 0, steps = 0, version = 0;
  double load = 0.0;
};

// A file is not what was written.
struct DamagedFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A file is whole, but not the one that comes next.
struct WrongOrder : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace bowerbird::embedding
