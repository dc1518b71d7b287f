#include "plan_binding.hpp"

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
                               {"sequence", AggregateKind::kSequence}}, name);
}

Operation operation_of(const std::string& name) {
  return named<Operation>({{"value", Operation::kValue}, {"read", Operation::kRead}, {"rate", Operation::kRate},
                           {"ratio", Operation::kRatio}, {"difference", Operation::kDifference},
                           {"log1p", Operation::kLog1p}, {"clip", Operation::kClip}, {"affine", Operation::kAffine},
                           {"age", Operation::kAge}, {"cross", Operation::kCross}, {"hour", Operation::kHour},
                           {"weekday", Operation::kWeekday}, {"bucketise", Operation::kBucketise},
                           {"sequence", Operation::kSequence}, {"match", Operation::kMatch}}, name);
}

What what_of(const std::string& name) {
  return named<What>({{"", What::kNone}, {"count", What::kCount}, {"sum", What::kSum}, {"mean", What::kMean},
                      {"since", What::kSince}, {"fraction", What::kFraction}}, name);
}

FeatureKind feature_kind_of(const std::string& name) {
  return named<FeatureKind>({{"category", FeatureKind::kCategory}, {"number", FeatureKind::kNumber},
                             {"sequence", FeatureKind::kSequence}}, name);
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
  const auto tile = get<std::int64_t>(object, "tile");
  Aggregate aggregate{aggregate_kind_of(get<std::string>(object, "kind")), get<int>(object, "family"), {}, tile,
                      tile == 0 ? 0 : get<std::int64_t>(object, "window") / tile, get<std::int64_t>(object, "half_life"),
                      get<std::int64_t>(object, "scale"), get<std::uint32_t>(object, "length"), get<std::uint32_t>(object, "fields")};
  for (const nb::handle feed : object["feeds"]) aggregate.feeds.push_back(feed_of(feed));
  return aggregate;
}

Node node_of(const nb::handle& object) {
  const nb::object path = object["path"];
  return {operation_of(get<std::string>(object, "op")), get<std::string>(object, "stage") == "request",
          get<std::vector<int>>(object, "inputs"), path.is_none() ? Path{0, {}} : path_of(path),
          get<int>(object, "aggregate"), what_of(get<std::string>(object, "what")), get<int>(object, "field"),
          get<std::vector<double>>(object, "numbers"), get<std::vector<std::int64_t>>(object, "instants"),
          get<std::vector<std::int64_t>>(object, "offsets")};
}

Feature feature_of(const nb::handle& object) {
  Feature feature{feature_kind_of(get<std::string>(object, "kind")), get<std::string>(object, "stage") == "request",
                  get<int>(object, "node"), {}};
  for (const nb::handle field : object["fields"]) feature.field_is_category.push_back(get<bool>(field, "is_category"));
  return feature;
}

}  // namespace

Plan plan_from_python(const nb::dict& source) {
  Plan plan{};
  for (const nb::handle slot : source["slots"]) plan.slots.push_back({get<std::string>(slot, "type") != "number"});
  for (const nb::handle type : source["types"]) {
    plan.types.push_back({get<std::string>(type, "kind") == "table", get<std::vector<int>>(type, "slots")});
  }
  plan.families = static_cast<int>(nb::len(nb::list(source["families"])));
  for (const nb::handle aggregate : source["aggregates"]) plan.aggregates.push_back(aggregate_of(aggregate));
  for (const nb::handle node : source["nodes"]) plan.nodes.push_back(node_of(node));
  for (const nb::handle feature : source["features"]) plan.features.push_back(feature_of(feature));
  plan.item_slot = get<int>(source, "item_slot");
  return plan;
}

}  // namespace bowerbird
