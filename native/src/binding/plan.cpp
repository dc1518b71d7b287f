#include "binding/plan.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <stdexcept>
#include <string>

namespace nb = nanobind;

namespace bowerbird {
namespace {

template <typename T>
T get(const nb::handle& object, const char* name) {
  return nb::cast<T>(object[name]);
}

template <typename Value>
Value named(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  if (found == values.end()) throw std::invalid_argument("the engine does not know '" + name + "'");
  return found->second;
}

Comparison comparison_of(const std::string& name) {
  return named<Comparison>({{"==", Comparison::kEqual}, {"!=", Comparison::kNotEqual}, {"<", Comparison::kLess},
                            {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater},
                            {">=", Comparison::kGreaterEqual}, {"in", Comparison::kIn}}, name);
}

AggregateKind aggregate_kind_of(const std::string& name) {
  return named<AggregateKind>({{"tiles", AggregateKind::kTiles}, {"total", AggregateKind::kTotal},
                               {"decayed", AggregateKind::kDecayed}, {"last", AggregateKind::kLast},
                               {"first", AggregateKind::kFirst}, {"sequence", AggregateKind::kSequence},
                               {"top", AggregateKind::kTop}}, name);
}

Operation operation_of(const std::string& name) {
  return named<Operation>({{"value", Operation::kValue}, {"read", Operation::kRead}, {"rate", Operation::kRate},
                           {"ratio", Operation::kRatio}, {"difference", Operation::kDifference},
                           {"log1p", Operation::kLog1p}, {"clip", Operation::kClip}, {"affine", Operation::kAffine},
                           {"age", Operation::kAge}, {"cross", Operation::kCross}, {"hour", Operation::kHour},
                           {"weekday", Operation::kWeekday}, {"bucketise", Operation::kBucketise},
                           {"sequence", Operation::kSequence}, {"match", Operation::kMatch}, {"latest", Operation::kLatest},
                           {"top", Operation::kTop}, {"vector", Operation::kVector}, {"function", Operation::kFunction}}, name);
}

What what_of(const std::string& name) {
  return named<What>({{"", What::kNone}, {"count", What::kCount}, {"sum", What::kSum}, {"mean", What::kMean},
                      {"std", What::kDeviation}, {"min", What::kMinimum}, {"max", What::kMaximum}, {"since", What::kSince}, {"fraction", What::kFraction}}, name);
}

FeatureKind feature_kind_of(const std::string& name) {
  return named<FeatureKind>({{"category", FeatureKind::kCategory}, {"number", FeatureKind::kNumber},
                             {"sequence", FeatureKind::kSequence}, {"vector", FeatureKind::kVector}}, name);
}

Path path_of(const nb::handle& object) {
  Path path{get<int>(object, "slot"), {}};
  for (const nb::handle hop : object["hops"]) path.hops.push_back({nb::cast<int>(hop[0]), nb::cast<int>(hop[1])});
  return path;
}

std::vector<Path> paths_of(const nb::handle& list) {
  std::vector<Path> paths;
  for (const nb::handle path : list) paths.push_back(path_of(path));
  return paths;
}

Test test_of(const nb::handle& object) {
  return {path_of(object["path"]), comparison_of(get<std::string>(object, "comparison")),
          get<std::vector<std::uint64_t>>(object, "keys"), get<std::vector<double>>(object, "numbers")};
}

Feed feed_of(const nb::handle& object) {
  const nb::object value = object["value"];
  Feed feed{get<int>(object, "type"), paths_of(object["keys"]), {}, !value.is_none(), {0, {}}, paths_of(object["fields"])};
  if (feed.has_value) feed.value = path_of(value);
  for (const nb::handle test : object["tests"]) feed.tests.push_back(test_of(test));
  return feed;
}

Aggregate aggregate_of(const nb::handle& object) {
  Aggregate aggregate{};
  aggregate.kind = aggregate_kind_of(get<std::string>(object, "kind"));
  aggregate.family = get<int>(object, "family");
  aggregate.tile = get<std::int64_t>(object, "tile");
  aggregate.reach = aggregate.tile == 0 ? 0 : get<std::int64_t>(object, "window") / aggregate.tile;
  aggregate.half_life = get<std::int64_t>(object, "half_life");
  aggregate.scale = get<std::int64_t>(object, "scale");
  aggregate.length = get<std::uint32_t>(object, "length");
  aggregate.fields = get<std::uint32_t>(object, "fields");
  aggregate.distinct = get<bool>(object, "distinct");
  aggregate.ttl = get<std::int64_t>(object, "ttl");
  aggregate.fingerprint = get<std::string>(object, "fingerprint");
  for (const std::string& part : get<std::vector<std::string>>(object, "parts")) {
    aggregate.has_sum |= part == "sum";
    aggregate.has_squares |= part == "squares";
    aggregate.has_minimum |= part == "minimum";
    aggregate.has_maximum |= part == "maximum";
  }
  for (const nb::handle feed : object["feeds"]) aggregate.feeds.push_back(feed_of(feed));
  return aggregate;
}

Node node_of(const nb::handle& object) {
  const nb::object path = object["path"];
  Node node{};
  node.operation = operation_of(get<std::string>(object, "op"));
  node.per_request = get<std::string>(object, "stage") == "request";
  node.inputs = get<std::vector<int>>(object, "inputs");
  node.path = path.is_none() ? Path{0, {}} : path_of(path);
  node.aggregate = get<int>(object, "aggregate");
  node.what = what_of(get<std::string>(object, "what"));
  node.field = get<int>(object, "field");
  node.length = get<std::uint32_t>(object, "length");
  node.is_category = get<bool>(object, "is_category");
  node.numbers = get<std::vector<double>>(object, "numbers");
  node.instants = get<std::vector<std::int64_t>>(object, "instants");
  node.offsets = get<std::vector<std::int64_t>>(object, "offsets");
  return node;
}

Feature feature_of(const nb::handle& object) {
  Feature feature{feature_kind_of(get<std::string>(object, "kind")), get<std::string>(object, "stage") == "request",
                  get<int>(object, "node"), {}, get<std::uint32_t>(object, "width")};
  for (const nb::handle field : object["fields"]) feature.field_is_category.push_back(get<bool>(field, "is_category"));
  return feature;
}

}  // namespace

Plan plan_from_python(const nb::dict& source) {
  Plan plan{};
  for (const nb::handle slot : source["slots"]) {
    const auto type = get<std::string>(slot, "type");
    plan.slots.push_back({type != "number" && type != "vector", get<std::string>(slot, "name"), get<std::uint32_t>(slot, "width")});
  }
  for (const nb::handle type : source["types"]) {
    plan.types.push_back({get<std::string>(type, "kind") == "table", get<std::vector<int>>(type, "slots"), get<std::string>(type, "name")});
  }
  plan.families = static_cast<int>(nb::len(nb::list(source["families"])));
  for (const nb::handle aggregate : source["aggregates"]) plan.aggregates.push_back(aggregate_of(aggregate));
  for (const nb::handle node : source["nodes"]) plan.nodes.push_back(node_of(node));
  for (const nb::handle feature : source["features"]) plan.features.push_back(feature_of(feature));
  plan.item_slot = get<int>(source, "item_slot");
  return plan;
}

}  // namespace bowerbird
