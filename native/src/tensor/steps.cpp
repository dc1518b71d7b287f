#include "tensor/steps.hpp"

#include <algorithm>
#include <limits>

#include "base/bfloat16.hpp"

namespace bowerbird::tensor {
namespace {

template <typename Action>
class ActionStep : public Step {
 public:
  explicit ActionStep(Action action) : action_(std::move(action)) {}
  void run(const Run& run) const override { action_(run); }

 private:
  Action action_;
};

template <typename Action>
std::unique_ptr<Step> step(Action action) {
  return std::make_unique<ActionStep<Action>>(std::move(action));
}

std::unique_ptr<Step> pointwise(const StepSpec& spec) {
  return step([in = spec.in, out = spec.out,
               work = Pointwise{spec.element, spec.rank, spec.shape, {}, {}, spec.numbers}](const Run& run) {
    Pointwise now = work;
    for (std::size_t i = 0; i < in.size(); ++i) now.in[i] = run.in(in[i]);
    now.out = run.out(out);
    run.kernels.pointwise(now);
  });
}

std::unique_ptr<Step> reduce(const StepSpec& spec) {
  return step([in = spec.in.at(0), out = spec.out,
               work = Reduce{spec.reduction, spec.rank, spec.reduced, spec.shape, {}, {}}](const Run& run) {
    Reduce now = work;
    now.in = run.in(in);
    now.out = run.out(out);
    run.kernels.reduce(now);
  });
}

std::unique_ptr<Step> of_rows(const StepSpec& spec, void (*Kernels::*kernel)(const Rows&)) {
  return step([kernel, in = spec.in.at(0), out = spec.out, weight = spec.weight, bias = spec.bias,
               work = Rows{spec.rank, spec.shape, {}, {}, nullptr, nullptr, spec.number}](const Run& run) {
    Rows now = work;
    now.in = run.in(in);
    now.out = run.out(out);
    if (!weight.empty()) now.weight = weight.data();
    if (!bias.empty()) now.bias = bias.data();
    (run.kernels.*kernel)(now);
  });
}

class LinearStep : public Step {
 public:
  LinearStep(const StepSpec& spec, const Kernels& kernels)
      : in_(spec.in.at(0)), out_(spec.out), element_(spec.element), numbers_(spec.numbers), weight_(spec.stored),
        rows_(spec.shape[0]), outputs_(spec.shape[1]), inputs_(spec.shape[2]), bias_(spec.bias) {
    const std::size_t filled = (outputs_ + kernels.lanes - 1) / kernels.lanes * kernels.lanes;
    if (!bias_.empty()) bias_.resize(filled);
    matrix_.resize(filled * inputs_);
    kernels.pack(spec.weight.data(), 1, static_cast<std::ptrdiff_t>(inputs_), inputs_, outputs_, matrix_.data());
    if (weight_ == Weight::kFp32) return;
    halves_.resize(matrix_.size());
    for (std::size_t i = 0; i < matrix_.size(); ++i) store(matrix_[i], halves_[i]);
    matrix_ = {};
  }

  void run(const Run& run) const override {
    const void* matrix = matrix_.data();
    if (weight_ == Weight::kBf16) matrix = halves_.data();
    float* const out = run.at(out_);
    const float* bias = bias_.empty() ? nullptr : bias_.data();
    run.kernels.dense({weight_, matrix, rows_, inputs_, outputs_, run.at(in_), in_.strides[0], out, out_.strides[0], bias,
                       element_ == Element::kRelu});
    if (element_ == Element::kCopy || element_ == Element::kRelu) return;
    const Strides strides{out_.strides[0], 1};
    run.kernels.pointwise({element_, 2, {rows_, outputs_}, {In{out, strides}}, {out, strides}, numbers_});
  }

 private:
  Operand in_, out_;
  Element element_;
  std::array<float, 3> numbers_;
  Weight weight_;
  std::size_t rows_, outputs_, inputs_;
  std::vector<float> bias_, matrix_;
  std::vector<BFloat16> halves_;
};

// Matrices that are both computed: the second is packed anew for each.
class ProductStep : public Step {
 public:
  explicit ProductStep(const StepSpec& spec) : spec_(spec), batch_(spec.rank - 3) {}

  void run(const Run& run) const override {
    Shape place{};
    std::size_t dim = batch_;
    do {
      run_one(run, place);
      for (dim = batch_; dim > 0 && ++place[dim - 1] == spec_.shape[dim - 1]; --dim) place[dim - 1] = 0;
    } while (dim > 0);
  }

 private:
  float* at(const Run& run, const Operand& operand, const Shape& place) const {
    float* start = run.at(operand);
    for (std::size_t dim = 0; dim < batch_; ++dim) start += static_cast<std::ptrdiff_t>(place[dim]) * operand.strides[dim];
    return start;
  }

  void run_one(const Run& run, const Shape& place) const {
    const std::size_t rows = spec_.shape[batch_], outputs = spec_.shape[batch_ + 1], inputs = spec_.shape[batch_ + 2];
    const std::size_t filled = (outputs + run.kernels.lanes - 1) / run.kernels.lanes * run.kernels.lanes;
    const Operand &a = spec_.in[0], &b = spec_.in[1];
    float* const packed = run.scratch.floats(filled * inputs);
    run.kernels.pack(at(run, b, place), b.strides[batch_], b.strides[batch_ + 1], inputs, outputs, packed);
    run.kernels.dense({Weight::kFp32, packed, rows, inputs, outputs, at(run, a, place), a.strides[batch_],
                       at(run, spec_.out, place), spec_.out.strides[batch_], nullptr, false});
  }

  StepSpec spec_;
  std::size_t batch_;
};

// Softmax attention of positions over positions, on the kernels of pair programs: a tile's lanes are rows.
class AttentionStep : public Step {
 public:
  explicit AttentionStep(const StepSpec& spec)
      : spec_(spec), heads_(spec.shape[0]), rows_(spec.shape[1]), positions_(spec.shape[2]), key_width_(spec.shape[3]),
        value_width_(spec.shape[4]) {}

  void run(const Run& run) const override {
    thread_local std::vector<std::size_t> seen;
    seen.clear();
    for (std::size_t at = 0; at < positions_; ++at) {
      if (is_seen(run, at)) seen.push_back(at);
    }
    auto& pointers = run.scratch.pointers;
    pointers.resize(2 * seen.size());
    for (std::size_t head = 0; head < heads_; ++head) {
      for (std::size_t i = 0; i < seen.size(); ++i) {
        pointers[i] = row(run, spec_.in[1], head, seen[i]);
        pointers[seen.size() + i] = row(run, spec_.in[2], head, seen[i]);
      }
      for (std::size_t first = 0; first < rows_; first += run.tiles.tile) run_tile(run, head, first, seen.size());
    }
  }

 private:
  static constexpr std::size_t kTogether = 32;  // positions whose scores are at hand at a time

  bool is_seen(const Run& run, std::size_t position) const {
    if (spec_.in.size() < 4) return true;
    return run.at(spec_.in[3])[static_cast<std::ptrdiff_t>(position) * spec_.in[3].strides[0]] != 0.0f;
  }

  static float* row(const Run& run, const Operand& operand, std::size_t head, std::size_t at) {
    return run.at(operand) + static_cast<std::ptrdiff_t>(head) * operand.strides[0] +
           static_cast<std::ptrdiff_t>(at) * operand.strides[1];
  }

  void run_tile(const Run& run, std::size_t head, std::size_t first, std::size_t positions) const {
    const auto& tiles = run.tiles;
    const std::size_t tile = tiles.tile, size = std::min(tile, rows_ - first);
    const std::size_t vectors = (size + tiles.lanes - 1) / tiles.lanes;
    float* const query = run.scratch.floats((key_width_ + value_width_ + kTogether + 3) * tile);
    float* const sums = query + key_width_ * tile;
    float* const scores = sums + value_width_ * tile;
    float* const state = scores + kTogether * tile;
    const auto stride = static_cast<std::size_t>(spec_.in[0].strides[1]);
    const pair::Stored rows{pair::Format::kFp32, row(run, spec_.in[0], head, 0), nullptr, nullptr, stride};
    tiles.gather(rows, first, size, 0, key_width_, query);
    std::fill_n(sums, value_width_ * tile, 0.0f);
    std::fill_n(state, tile, -std::numeric_limits<float>::max());
    std::fill_n(state + tile, tile, 0.0f);
    for (std::size_t at = 0; at < positions; at += kTogether) {
      const std::size_t count = std::min(kTogether, positions - at);
      const float* const* keys = run.scratch.pointers.data() + at;
      tiles.scores(query, keys, count, key_width_, spec_.number, vectors, scores);
      tiles.soften(scores, count, vectors, state);
      tiles.pool(scores, keys + positions, count, value_width_, state + 2 * tile, vectors, sums);
    }
    if (positions > 0) tiles.divide(sums, value_width_, state + tile, vectors);
    tiles.scatter(sums, value_width_, size, row(run, spec_.out, head, first),
                  static_cast<std::size_t>(spec_.out.strides[1]));
  }

  StepSpec spec_;
  std::size_t heads_, rows_, positions_, key_width_, value_width_;
};

}  // namespace

std::unique_ptr<Step> made(const StepSpec& spec, const Kernels& kernels) {
  switch (spec.op) {
    case Op::kPointwise: return pointwise(spec);
    case Op::kReduce: return reduce(spec);
    case Op::kSoftmax: return of_rows(spec, &Kernels::softmax);
    case Op::kLayerNorm: return of_rows(spec, &Kernels::layer_norm);
    case Op::kLinear: return std::make_unique<LinearStep>(spec, kernels);
    case Op::kProduct: return std::make_unique<ProductStep>(spec);
    case Op::kAttention: return std::make_unique<AttentionStep>(spec);
  }
  return nullptr;
}

}  // namespace bowerbird::tensor
