// Building a program from a plan, and its outputs.
#include "plan/program.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "plan/program_values.hpp"

namespace bowerbird {

Program::Program(Plan plan, std::vector<std::shared_ptr<State>> states) : plan_(std::move(plan)), states_(std::move(states)) {
  on_blocks_.resize(plan_.nodes.size());
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    on_blocks_[i] = node.aggregate >= 0 || node.operation == Operation::kMatch ||
                    std::any_of(node.inputs.begin(), node.inputs.end(), [this](int input) { return on_blocks_[static_cast<std::size_t>(input)]; });
  }
  build_locates();
  build_side(whole_, true, true);
  build_side(request_, true, false);
  build_side(candidate_, false, true);
}

std::pair<const AttributeTable*, int> Program::attribute(const Hop& hop) const {
  const std::string& table = plan_.types[static_cast<std::size_t>(hop.table)].name;
  const std::string& slot = plan_.slots[static_cast<std::size_t>(hop.slot)].name;
  for (const auto& state : states_) {
    int offset = -1;
    if (const AttributeTable* found = state->find_table(table, slot, offset)) return {found, offset};
  }
  throw std::invalid_argument("no state holds the attribute " + slot);
}

std::size_t Program::locate_of(const Node& node, const Aggregate& aggregate, std::size_t& place) {
  for (std::size_t state = 0; state < states_.size(); ++state) {
    std::size_t family = 0;
    if (!states_[state]->find_aggregate(aggregate.fingerprint, family, place)) continue;
    for (std::size_t i = 0; i < locates_.size(); ++i) {
      if (locates_[i].state == state && locates_[i].family == family && locates_[i].keys == node.inputs) return i;
    }
    const auto all_inputs = [&](auto holds) {
      return std::all_of(node.inputs.begin(), node.inputs.end(), [&](int input) { return holds(plan_.nodes[static_cast<std::size_t>(input)]); });
    };
    const auto is_slot = [](const Node& key) { return key.operation == Operation::kValue && key.path.hops.empty(); };
    const bool per_request = all_inputs([](const Node& key) { return key.per_request; });
    const bool repeats = !all_inputs([&](const Node& key) { return key.per_request || is_slot(key); });
    locates_.push_back({state, family, node.inputs, per_request, repeats, {}});
    return locates_.size() - 1;
  }
  throw std::invalid_argument("no state holds the aggregate " + aggregate.fingerprint);
}

void Program::build_locates() {
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    const bool is_match = node.operation == Operation::kMatch;
    const Node& source = is_match ? plan_.nodes[static_cast<std::size_t>(node.inputs[0])] : node;
    if (source.aggregate < 0) continue;
    std::size_t at = 0;
    Locate& locate = locates_[locate_of(source, plan_.aggregates[static_cast<std::size_t>(source.aggregate)], at)];
    const Family& family = states_[locate.state]->family(locate.family);
    BlockRead read{static_cast<int>(i), node.operation, node.what, &family.layout().places()[at], family.clock_of(at), node.field,
                   node.length, is_match ? node.inputs[1] : -1, source.operation == Operation::kTop, node.per_request,
                   node.is_category, false, {}};
    read.counts_tiles = read.operation == Operation::kRead && read.what == What::kCount &&
                        read.place->aggregate->kind == AggregateKind::kTiles;
    std::size_t sequence = 0;
    for (const Feature& feature : plan_.features) {
      if (feature.kind != FeatureKind::kSequence) continue;
      if (feature.node == static_cast<int>(i)) read.features.push_back(sequence);
      ++sequence;
    }
    locate.reads.push_back(std::move(read));
  }
}

void Program::build_side(Side& side, bool request, bool candidate) {
  const auto wanted = [&](bool per_request) { return per_request ? request : candidate; };
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const Node& node = plan_.nodes[i];
    if (!wanted(node.per_request)) continue;
    if (node.operation == Operation::kValue) {
      side.values.emplace_back(static_cast<int>(i), side.paths.add(node.path, plan_.slots, *this));
    } else if (node.aggregate < 0 && node.operation != Operation::kMatch && node.operation != Operation::kVector &&
               node.operation != Operation::kFunction) {
      (on_blocks_[i] ? side.after : side.before).push_back(static_cast<int>(i));
    }
  }
  for (std::size_t i = 0; i < plan_.features.size(); ++i) {
    const Feature& feature = plan_.features[i];
    if (feature.kind == FeatureKind::kSequence) side.sequence_places.push_back(side.sequences.size());
    if (!wanted(feature.per_request)) continue;
    if (feature.kind == FeatureKind::kCategory) side.categories.push_back(i);
    if (feature.kind == FeatureKind::kNumber) side.numbers.push_back(i);
    if (feature.kind == FeatureKind::kSequence) side.sequences.push_back(i);
    if (feature.kind != FeatureKind::kVector) continue;
    const Path& path = plan_.nodes[static_cast<std::size_t>(feature.node)].path;
    const auto [lookup, offset] = side.paths.add_vector(path, plan_.slots, *this);
    side.vectors.push_back({side.vector_features.size(), static_cast<std::size_t>(lookup), offset, feature.width});
    side.vector_features.push_back(i);
  }
}

Columns Program::columns(const Side& side, std::size_t rows) const {
  Columns out;
  out.rows = rows;
  out.category_count = side.categories.size();
  out.number_count = side.numbers.size();
  out.categories.extend(rows * side.categories.size());
  out.numbers.extend(rows * side.numbers.size());
  for (const std::size_t feature : side.sequences) out.sequences.push_back(ragged_like(plan_.features[feature]));
  for (const VectorRead& vector : side.vectors) out.vectors.emplace_back().extend(rows * vector.width);
  return out;
}

std::vector<bool> Program::computed_with() const {
  std::vector<bool> found(plan_.nodes.size(), false);
  for (const int after : whole_.after) {
    for (const int input : plan_.nodes[static_cast<std::size_t>(after)].inputs) found[static_cast<std::size_t>(input)] = true;
  }
  return found;
}

void Program::copy_vector(const VectorRead& vector, const std::byte* block, float* to) {
  if (block == nullptr) {
    std::fill_n(to, vector.width, std::numeric_limits<float>::quiet_NaN());
  } else {
    std::copy_n(reinterpret_cast<const float*>(block + vector.offset), vector.width, to);
  }
}

void Program::emit(const Side& side, const Values& values, const PathSet::Space& space, std::size_t first, std::size_t count,
                   Columns& out) const {
  const auto source = [&](std::size_t feature) { return static_cast<std::size_t>(plan_.features[feature].node); };
  for (std::size_t i = 0; i < side.categories.size(); ++i) {
    const std::uint64_t* column = values.columns[source(side.categories[i])];
    std::copy(column, column + count, out.categories.data() + i * out.rows + first);
  }
  for (std::size_t i = 0; i < side.numbers.size(); ++i) {
    const std::uint64_t* column = values.columns[source(side.numbers[i])];
    float* to = out.numbers.data() + i * out.rows + first;
    for (std::size_t row = 0; row < count; ++row) to[row] = static_cast<float>(number(column[row]));
  }
  for (const VectorRead& vector : side.vectors) {
    const std::byte* const* blocks = &space.blocks[vector.lookup * count];
    float* to = out.vectors[vector.feature].data() + first * vector.width;
    for (std::size_t row = 0; row < count; ++row, to += vector.width) copy_vector(vector, blocks[row], to);
  }
}

}  // namespace bowerbird
