#include "pair/builder.hpp"

#include <algorithm>
#include <cstring>

namespace bowerbird::pair {
namespace {

// Candidates' rows, or a request's row for all of them, become a tile.
class LoadStep : public Step {
 public:
  LoadStep(std::size_t value, ValueSpec spec, Place out) : value_(value), spec_(spec), out_(out) {}

  void run(const Work& work) const override {
    const Given& given = work.run.given[value_];
    if (spec_.source == Source::kItem) {
      work.kernels.gather(given.stored, work.first, work.size, 0, spec_.width, work.at(out_));
    } else {
      work.kernels.spread(given.row, spec_.width, work.vectors, work.at(out_));
    }
  }

 private:
  std::size_t value_;
  ValueSpec spec_;
  Place out_;
};

// Values side by side become one.
class JoinStep : public Step {
 public:
  JoinStep(std::vector<RowRange> parts, Place out) : parts_(std::move(parts)), out_(out) {}

  void run(const Work& work) const override {
    float* to = work.at(out_);
    for (const RowRange& part : parts_) {
      const std::size_t size = part.rows * work.kernels.tile;
      std::memcpy(to, work.at(part.place), size * sizeof(float));
      to += size;
    }
  }

 private:
  std::vector<RowRange> parts_;
  Place out_;
};

}  // namespace

Builder::Builder(const Plan& plan, const Kernels& kernels)
    : plan_(plan), kernels_(kernels), values_(plan.values.size()), dense_(plan.layers.size()) {}

std::shared_ptr<const Dense> Builder::dense(std::size_t layer) {
  if (!dense_.at(layer)) dense_[layer] = std::make_shared<const Dense>(plan_.layers[layer], kernels_);
  return dense_[layer];
}

bool Builder::tiled() const {
  return std::any_of(dense_.begin(), dense_.end(), [](const auto& dense) { return dense && dense->tiled(); });
}

Place Builder::claim(std::size_t rows, std::size_t first) {
  buffers_.push_back({rows, first, first});
  touched_.push_back(buffers_.size() - 1);
  return {buffers_.size() - 1, 0};
}

void Builder::finish_at(std::size_t number) {
  for (const std::size_t buffer : touched_) buffers_[buffer].last = std::max(buffers_[buffer].last, number);
  touched_.clear();
}

void Builder::use(const Operand& operand) {
  for (const RowRange& range : operand.floats) use(range.place);
  if (operand.unit != Unit::kFloat) use(operand.units);
  if (is_integer(operand.unit)) use(operand.scale), use(operand.zero);
}

Place Builder::room(std::size_t rows) { return claim(rows, steps_.size()); }

Place Builder::write(std::size_t value) {
  values_[value].place = claim(spec(value).width, steps_.size());
  values_[value].placed = true;
  return values_[value].place;
}

void Builder::makes(std::size_t value, LinearStep* step) {
  values_[value].maker = step;
  values_[value].maker_number = steps_.size();
}

void Builder::join(std::size_t value, std::vector<std::size_t> parts) { values_[value].parts = flat(parts); }

void Builder::view(std::size_t value, std::size_t of, std::size_t first) {
  values_[value].base = of;
  values_[value].first = first;
}

void Builder::take(std::size_t value, const std::vector<std::size_t>& of, const std::vector<std::size_t>& places) {
  const std::vector<RowRange> given = ranges(of);
  std::vector<RowRange> parts;
  for (std::size_t place : places) {
    auto from = given.begin();
    for (; place >= from->rows; ++from) place -= from->rows;
    const Place at{from->place.buffer, from->place.row + place};
    const bool follows = !parts.empty() && parts.back().place.buffer == at.buffer &&
                         parts.back().place.row + parts.back().rows == at.row;
    if (follows) {
      ++parts.back().rows;
    } else {
      parts.push_back({at, 1});
    }
  }
  const Place out = write(value);
  add(std::make_unique<JoinStep>(std::move(parts), out));
}

void Builder::load(std::size_t value) {
  Value& made = values_[value];
  if (made.maker != nullptr) {
    made.place = claim(spec(value).width, made.maker_number);
    made.maker->keep_floats(made.place);
  } else if (!made.parts.empty()) {
    std::vector<RowRange> parts = ranges(made.parts);
    made.place = room(spec(value).width);
    add(std::make_unique<JoinStep>(std::move(parts), made.place));
  } else {
    made.place = room(spec(value).width);
    add(std::make_unique<LoadStep>(value, spec(value), made.place));
  }
  made.placed = true;
}

Place Builder::read(std::size_t value) {
  const Value& wanted = values_[value];
  if (wanted.base) {
    const Place base = read(*wanted.base);
    return {base.buffer, base.row + wanted.first};
  }
  if (!wanted.placed) load(value);
  use(wanted.place);
  return wanted.place;
}

std::vector<std::size_t> Builder::flat(const std::vector<std::size_t>& values) const {
  std::vector<std::size_t> all;
  for (const std::size_t value : values) {
    const auto& parts = values_[value].parts;
    if (parts.empty() || values_[value].placed) {
      all.push_back(value);
    } else {
      all.insert(all.end(), parts.begin(), parts.end());
    }
  }
  return all;
}

std::vector<RowRange> Builder::ranges(const std::vector<std::size_t>& values) {
  std::vector<RowRange> all;
  for (const std::size_t value : values) all.push_back({read(value), spec(value).width});
  return all;
}

Operand Builder::operand(const std::vector<std::size_t>& given, Unit unit) {
  const std::vector<std::size_t> values = flat(given);
  if (unit == Unit::kFloat) return {unit, ranges(values), {}, {}, {}, 0, false};
  for (const Converted& known : converted_) {
    if (known.values == values && known.operand.unit == unit) {
      const Operand found = known.operand;
      use(found);
      return found;
    }
  }
  std::size_t width = 0;
  for (const std::size_t value : values) width += spec(value).width;
  const Operand made = unit == Unit::kBf16 ? halves(values, width) : whole(values, unit, width);
  converted_.push_back({values, made});
  use(made);
  return made;
}

Operand Builder::halves(const std::vector<std::size_t>& values, std::size_t width) {
  Operand made{Unit::kBf16, {}, {}, {}, {}, (width + 1) / 2, false};
  LinearStep* const maker = values.size() == 1 ? values_[values[0]].maker : nullptr;
  if (maker != nullptr) {
    made.units = claim(made.groups, values_[values[0]].maker_number);
    maker->keep_halves(made.units);
    return made;
  }
  std::vector<RowRange> rows = ranges(values);
  made.units = room(made.groups);
  add(std::make_unique<ConvertStep>(std::move(rows), made, std::nullopt, Place{}));
  return made;
}

Operand Builder::whole(const std::vector<std::size_t>& values, Unit unit, std::size_t width) {
  std::vector<RowRange> rows = ranges(values);
  const std::size_t in_unit = values_in(unit);
  Operand made{unit, {}, {}, {}, {}, (width + in_unit - 1) / in_unit, true};
  std::optional<Place> range;
  if (LinearStep* const maker = values.size() == 1 ? values_[values[0]].maker : nullptr) {
    range = claim(2, values_[values[0]].maker_number);
    maker->keep_range(*range);
    made.shifted = !maker->nonnegative();
  }
  made.units = room(made.groups);
  made.scale = room(1);
  made.zero = room(1);
  const Place own = room(2);
  add(std::make_unique<ConvertStep>(std::move(rows), made, range, own));
  return made;
}

Term Builder::term(std::size_t value) {
  if (spec(value).source == Source::kRequest) return {Term::Kind::kRow, value, {}};
  if (spec(value).source == Source::kItem && !values_[value].placed) return {Term::Kind::kStored, value, {}};
  return {Term::Kind::kRows, value, read(value)};
}

// First fit: each buffer goes to the lowest place where no buffer of the same time is.
std::vector<std::size_t> Builder::lay_out(std::size_t& total) const {
  std::vector<std::size_t> offsets(buffers_.size(), 0);
  total = 0;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (std::size_t j = 0; j < i; ++j) {
      const bool meet = buffers_[j].first <= buffers_[i].last && buffers_[i].first <= buffers_[j].last;
      if (meet) taken.emplace_back(offsets[j], offsets[j] + buffers_[j].rows);
    }
    std::sort(taken.begin(), taken.end());
    for (const auto& [start, stop] : taken) {
      if (offsets[i] + buffers_[i].rows <= start) break;
      offsets[i] = std::max(offsets[i], stop);
    }
    total = std::max(total, offsets[i] + buffers_[i].rows);
  }
  return offsets;
}

}  // namespace bowerbird::pair
