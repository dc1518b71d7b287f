// The feature plan as the engine executes it; bowerbird/plan/spec.py says what each part means.
#pragma once

#include <cstdint>
#include <vector>

namespace bowerbird {

struct Slot {
  bool is_category;
};

struct RecordType {
  bool is_table;
  std::vector<int> slots;
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

enum class AggregateKind { kTiles, kTotal, kDecayed, kLast, kSequence };

struct Aggregate {
  AggregateKind kind;
  int family;
  std::vector<Feed> feeds;
  std::int64_t tile;
  std::int64_t tiles;
  std::int64_t half_life;
  std::int64_t scale;
  std::uint32_t length;
  std::uint32_t fields;
};

enum class Operation {
  kValue, kRead, kRate, kRatio, kDifference, kLog1p, kClip, kAffine,
  kAge, kCross, kHour, kWeekday, kBucketise, kSequence, kMatch
};

enum class What { kNone, kCount, kSum, kMean, kSince, kFraction };

struct Node {
  Operation operation;
  bool per_request;
  std::vector<int> inputs;
  Path path;
  int aggregate;
  What what;
  int field;
  std::vector<double> numbers;
  std::vector<std::int64_t> instants;
  std::vector<std::int64_t> offsets;
};

enum class FeatureKind { kCategory, kNumber, kSequence };

struct Feature {
  FeatureKind kind;
  bool per_request;
  int node;
  std::vector<bool> field_is_category;
};

struct Plan {
  std::vector<Slot> slots;
  std::vector<RecordType> types;
  int families;
  std::vector<Aggregate> aggregates;
  std::vector<Node> nodes;
  std::vector<Feature> features;
  int item_slot;
};

}  // namespace bowerbird
