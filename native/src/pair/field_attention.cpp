#include "pair/field_attention.hpp"

#include <algorithm>
#include <limits>

namespace bowerbird::pair {
namespace {

// Fields of a candidate look at fields of the same candidate: for each query the softmax of its products with the keys
// weighs the values. A few queries meet a few keys at a time, with the running softmax of attention over positions, so
// that scores stay in the nearest cache.
class FieldAttentionStep : public Step {
 public:
  FieldAttentionStep(Builder& builder, const StepSpec& step)
      : heads_(step.heads), width_(step.group), queries_(fields(builder, step.in.at(0), width_)),
        keys_(fields(builder, step.in.at(1), width_)), value_width_(builder.spec(step.in.at(2)).width / (heads_ * keys_)),
        scale_(step.number), query_(builder.read(step.in[0])), key_(builder.read(step.in[1])),
        value_(builder.read(step.in[2])), scores_(builder.room(kQueries * kKeys)), state_(builder.room(kQueries * kState)),
        out_(builder.write(step.out)) {}

  void run(const Work& work) const override {
    std::fill_n(work.at(out_), heads_ * queries_ * value_width_ * work.kernels.tile, 0.0f);
    for (std::size_t head = 0; head < heads_; ++head) {
      for (std::size_t first = 0; first < queries_; first += kQueries) {
        run_queries(work, head, first, std::min(kQueries, queries_ - first));
      }
    }
  }

 private:
  static constexpr std::size_t kQueries = 4, kKeys = 32;
  static constexpr std::size_t kState = 3;  // greatest score, sum, and what earlier sums are multiplied by

  std::size_t fields(const Builder& builder, std::size_t value, std::size_t width) const {
    return builder.spec(value).width / (heads_ * width);
  }

  static float* row(const Work& work, Place place, std::size_t row) { return work.at({place.buffer, place.row + row}); }

  void run_queries(const Work& work, std::size_t head, std::size_t first, std::size_t count) const {
    const std::size_t tile = work.kernels.tile;
    float* const scores = work.at(scores_);
    float* const state = work.at(state_);
    float* const out = row(work, out_, (head * queries_ + first) * value_width_);
    for (std::size_t query = 0; query < count; ++query) {
      std::fill_n(state + query * kState * tile, tile, -std::numeric_limits<float>::max());
      std::fill_n(state + (query * kState + 1) * tile, tile, 0.0f);
    }
    Multiply score{row(work, query_, (head * queries_ + first) * width_), nullptr, scores, count, width_, 0, width_, 1, 1,
                   width_, kKeys, scale_, nullptr, 0, work.vectors};
    Multiply pool{scores, nullptr, out, count, 0, value_width_, kKeys, 1, value_width_, 1, value_width_, 1.0f,
                  state + 2 * tile, kState, work.vectors};
    for (std::size_t key = 0; key < keys_; key += kKeys) {
      score.columns = pool.inner = std::min(kKeys, keys_ - key);
      score.right = row(work, key_, (head * keys_ + key) * width_);
      pool.right = row(work, value_, (head * keys_ + key) * value_width_);
      work.kernels.multiply(score);
      for (std::size_t query = 0; query < count; ++query) {
        work.kernels.soften(scores + query * kKeys * tile, pool.inner, work.vectors, state + query * kState * tile);
      }
      work.kernels.multiply(pool);
    }
    for (std::size_t query = 0; query < count; ++query) {
      const float* const sum = state + (query * kState + 1) * tile;
      work.kernels.divide(out + query * value_width_ * tile, value_width_, sum, work.vectors);
    }
  }

  std::size_t heads_, width_, queries_, keys_, value_width_;
  float scale_;
  Place query_, key_, value_, scores_, state_, out_;
};

}  // namespace

void build_field_attention(Builder& builder, const StepSpec& step) {
  builder.add(std::make_unique<FieldAttentionStep>(builder, step));
}

}  // namespace bowerbird::pair
