// The feature plan as the engine executes it; bowerbird/plan/spec.py says what each part means.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bowerbird {

struct Slot {
  bool is_category;
  std::string name = {};
  std::uint32_t width = 0;  // of a vector
};

struct RecordType {
  bool is_table;
  std::vector<int> slots;
  std::string name = {};
};

struct Hop {
  int table;
  int slot;
};

struct Path {
  int slot;
  std::vector<Hop> hops;
};

enum class Comparison { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn };

struct Test {
  Path path;
  Comparison comparison;
  std::vector<std::uint64_t> keys;
  std::vector<double> numbers;
};

struct Feed {
  int type;
  std::vector<Path> keys;
  std::vector<Test> tests;
  bool has_value;
  Path value;
  std::vector<Path> fields;
};

enum class AggregateKind { kTiles, kTotal, kDecayed, kLast, kFirst, kSequence, kTop };

struct Aggregate {
  AggregateKind kind;
  int family;
  std::vector<Feed> feeds;
  std::int64_t tile = 0;
  std::int64_t reach = 0;  // tiles of a window
  std::int64_t half_life = 0;
  std::int64_t scale = 1;
  std::uint32_t length = 0;
  std::uint32_t fields = 0;
  bool has_sum = false;
  bool has_squares = false;
  bool has_minimum = false;
  bool has_maximum = false;
  bool distinct = false;
  std::int64_t ttl = 0;
  std::string fingerprint = {};
};

enum class Operation {
  kValue, kRead, kRate, kRatio, kDifference, kLog1p, kClip, kAffine, kAge, kCross, kHour, kWeekday,
  kBucketise, kSequence, kMatch, kLatest, kTop, kVector, kFunction
};

enum class What { kNone, kCount, kSum, kMean, kDeviation, kMinimum, kMaximum, kSince, kFraction };

struct Node {
  Operation operation;
  bool per_request;
  std::vector<int> inputs = {};
  Path path = {0, {}};
  int aggregate = -1;
  What what = What::kNone;
  int field = -1;
  std::uint32_t length = 0;
  bool is_category = false;
  std::vector<double> numbers = {};
  std::vector<std::int64_t> instants = {};
  std::vector<std::int64_t> offsets = {};
};

enum class FeatureKind { kCategory, kNumber, kSequence, kVector };

struct Feature {
  FeatureKind kind;
  bool per_request;
  int node;
  std::vector<bool> field_is_category = {};
  std::uint32_t width = 0;
};

struct Plan {
  std::vector<Slot> slots;
  std::vector<RecordType> types;
  int families = 0;
  std::vector<Aggregate> aggregates;
  std::vector<Node> nodes;
  std::vector<Feature> features;
  int item_slot = 0;
};

}  // namespace bowerbird
