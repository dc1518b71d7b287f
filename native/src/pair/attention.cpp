#include "pair/attention.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace bowerbird::pair {
namespace {

constexpr std::size_t kTogether = 16;  // positions whose scores are at hand at a time

using Pointers = std::array<const float*, kTogether>;

// What both kinds of attention share: positions in blocks, scores, then sums of values weighted by them.
class PositionStep : public Step {
 public:
  PositionStep(Builder& builder, const StepSpec& step, std::size_t heads, bool softmax)
      : number_(builder.next_attention()), keys_(step.keys), values_(step.values), mask_(step.mask), heads_(heads),
        key_width_(builder.spec(step.keys).width), value_width_(builder.spec(step.values).width), softmax_(softmax),
        scores_(builder.room(kTogether)), state_(builder.room(3)), out_(builder.write(step.out)) {}

  void prepare(Run& run) const override {
    auto& positions = run.positions[number_];
    positions.clear();
    const float* mask = mask_ ? run.given[*mask_].row : nullptr;
    for (std::size_t at = 0; at < run.given[keys_].length; ++at) {
      if (mask == nullptr || mask[at] != 0.0f) positions.push_back(static_cast<std::uint32_t>(at));
    }
  }

  void run(const Work& work) const override {
    begin(work);
    const std::size_t width = value_width_ / heads_;
    std::fill_n(work.at(out_), value_width_ * work.kernels.tile, 0.0f);
    for (std::size_t head = 0; head < heads_; ++head) run_head(work, head, head * width, width);
  }

 protected:
  // Before the first score of a tile.
  virtual void begin(const Work&) const {}
  // Scores of `count` positions, a row each.
  virtual void score(const Work& work, std::size_t head, const std::uint32_t* positions, std::size_t count,
                     float* scores) const = 0;

  const float* key(const Work& work, std::uint32_t position) const {
    return work.run.given[keys_].row + position * key_width_;
  }
  std::size_t key_width() const { return key_width_; }
  std::size_t heads() const { return heads_; }

 private:
  void run_head(const Work& work, std::size_t head, std::size_t first, std::size_t width) const {
    const auto& positions = work.run.positions[number_];
    const std::size_t tile = work.kernels.tile;
    float* const scores = work.at(scores_);
    float* const state = work.at(state_);
    float* const out = work.at(out_) + first * tile;
    std::fill_n(state, tile, -std::numeric_limits<float>::max());
    std::fill_n(state + tile, tile, 0.0f);
    for (std::size_t at = 0; at < positions.size(); at += kTogether) {
      const std::size_t count = std::min(kTogether, positions.size() - at);
      score(work, head, positions.data() + at, count, scores);
      if (softmax_) work.kernels.soften(scores, count, work.vectors, state);
      Pointers values{};
      for (std::size_t i = 0; i < count; ++i) {
        values[i] = work.run.given[values_].row + positions[at + i] * value_width_ + first;
      }
      work.kernels.pool(scores, values.data(), count, width, softmax_ ? state + 2 * tile : nullptr, work.vectors, out);
    }
    if (softmax_ && !positions.empty()) work.kernels.divide(out, width, state + tile, work.vectors);
  }

  std::size_t number_, keys_, values_;
  std::optional<std::size_t> mask_;
  std::size_t heads_, key_width_, value_width_;
  bool softmax_;
  Place scores_, state_, out_;
};

class AttentionStep : public PositionStep {
 public:
  AttentionStep(Builder& builder, const StepSpec& step)
      : PositionStep(builder, step, step.heads, true), query_(builder.read(step.in.at(0))), scale_(step.number) {}

 protected:
  void score(const Work& work, std::size_t head, const std::uint32_t* positions, std::size_t count,
             float* scores) const override {
    const std::size_t width = key_width() / heads();
    Pointers keys{};
    for (std::size_t i = 0; i < count; ++i) keys[i] = key(work, positions[i]) + head * width;
    const float* query = work.at(query_) + head * width * work.kernels.tile;
    work.kernels.scores(query, keys.data(), count, width, scale_, work.vectors, scores);
  }

 private:
  Place query_;
  float scale_;
};

// A layer of the network that scores a position, and where its operand is.
struct Link {
  std::shared_ptr<const Dense> dense;
  Place floats, units, scale, zero, range;
  std::size_t pointers = 0;  // of its float rows, in the scratch
  bool shifted = true;       // the zero points may be other than 0
};

// Zhou et al., Deep Interest Network (2018), with the first layer split: (W_q + W_d) q and (W_k - W_d) k + b are given.
class TargetAttentionStep : public PositionStep {
 public:
  TargetAttentionStep(Builder& builder, const StepSpec& step)
      : PositionStep(builder, step, 1, step.softmax), query_(builder.read(step.in.at(0))),
        query_part_(builder.read(step.in.at(1))), keys_part_(step.keys_part) {
    std::size_t pointers = 0;
    for (const std::size_t layer : step.layers) {
      Link link{builder.dense(layer), {}, {}, {}, {}, {}, pointers};
      link.shifted = links_.empty() || !links_.back().dense->nonnegative();
      link.floats = builder.room(link.dense->inputs());
      link.units = builder.room(link.dense->groups());
      link.scale = builder.room(1);
      link.zero = builder.room(1);
      link.range = builder.room(2);
      pointers += link.dense->inputs();
      links_.push_back(std::move(link));
    }
  }

 protected:
  void begin(const Work& work) const override {
    auto& pointers = work.scratch.pointers;
    pointers.clear();
    for (const Link& link : links_) {
      for (std::size_t row = 0; row < link.dense->inputs(); ++row) {
        pointers.push_back(work.at({link.floats.buffer, link.floats.row + row}));
      }
    }
  }

  void score(const Work& work, std::size_t, const std::uint32_t* positions, std::size_t count,
             float* scores) const override {
    for (std::size_t i = 0; i < count; ++i) score_one(work, positions[i], scores + i * work.kernels.tile);
  }

 private:
  void score_one(const Work& work, std::uint32_t position, float* score) const {
    meet(work, links_.front(), key(work, position));
    const float* row_add = work.run.given[keys_part_].row + position * links_.front().dense->outputs();
    const float* tile_add = work.at(query_part_);
    for (std::size_t i = 0; i < links_.size(); ++i) {
      const Link& link = links_[i];
      Product product = link.dense->product(0, link.dense->outputs());
      if (i == 0) {
        product.row_adds = &row_add, product.row_add_count = 1;
        product.tile_adds = &tile_add, product.tile_add_count = 1;
      }
      Segment segment{};
      set_operand(work, link, segment, product);
      if (i + 1 < links_.size()) {
        set_result(work, links_[i + 1], product);
      } else {
        product.out = score;
      }
      work.kernels.product(product);
    }
  }

  // The first layer's operand: the query times a key, feature by feature.
  void meet(const Work& work, const Link& first, const float* key) const {
    const float* query = work.at(query_);
    if (first.dense->unit() == Unit::kBf16) {
      return work.kernels.scale_to_halves(query, key, key_width(), work.vectors, work.units(first.units));
    }
    work.kernels.scale_rows(query, key, key_width(), work.vectors, work.at(first.floats));
    if (!is_integer(first.dense->unit())) return;
    clear_range(work, first.range);
    work.kernels.widen_range(rows(work, first), work.at(first.range));
  }

  static Rows rows(const Work& work, const Link& link) {
    return {work.scratch.pointers.data() + link.pointers, link.dense->inputs(), work.vectors};
  }

  static void set_operand(const Work& work, const Link& link, Segment& segment, Product& product) {
    const bool floats = link.dense->unit() == Unit::kFloat;
    segment = {floats ? static_cast<const void*>(work.at(link.floats)) : work.units(link.units), link.dense->groups()};
    product.segments = &segment;
    product.segment_count = 1;
    product.vectors = work.vectors;
    if (!is_integer(link.dense->unit())) return;
    product.lane_scale = work.at(link.scale);
    product.lane_zero = link.shifted ? work.at(link.zero) : nullptr;
    work.kernels.quantise(rows(work, link), work.at(link.range), work.at(link.scale), work.at(link.zero),
                          work.units(link.units));
  }

  static void set_result(const Work& work, const Link& next, Product& product) {
    if (next.dense->unit() == Unit::kBf16) {
      product.halves = work.units(next.units);
      return;
    }
    product.out = work.at(next.floats);
    if (!is_integer(next.dense->unit())) return;
    clear_range(work, next.range);
    product.range = work.at(next.range);
  }

  Place query_, query_part_;
  std::size_t keys_part_;
  std::vector<Link> links_;
};

}  // namespace

void build_target_attention(Builder& builder, const StepSpec& step) {
  builder.add(std::make_unique<TargetAttentionStep>(builder, step));
}

void build_attention(Builder& builder, const StepSpec& step) { builder.add(std::make_unique<AttentionStep>(builder, step)); }

}  // namespace bowerbird::pair
