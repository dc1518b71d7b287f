// Steps that are one call of a kernel, or a few.
#include "pair/attention.hpp"
#include "pair/builder.hpp"
#include "pair/field_attention.hpp"

namespace bowerbird::pair {
namespace {

template <typename Action>
class ActionStep : public Step {
 public:
  explicit ActionStep(Action action) : action_(std::move(action)) {}
  void run(const Work& work) const override { action_(work); }

 private:
  Action action_;
};

template <typename Action>
void add_action(Builder& builder, Action action) {
  builder.add(std::make_unique<ActionStep<Action>>(std::move(action)));
}

void build_linear(Builder& builder, const StepSpec& step) {
  std::shared_ptr<const Dense> dense = builder.dense(step.layers.at(0));
  Operand operand = builder.operand(step.in, dense->unit());
  std::vector<Term> terms;
  std::size_t stored = 0;
  for (const std::size_t value : step.adds) {
    terms.push_back(builder.term(value));
    stored += terms.back().kind == Term::Kind::kStored ? 1 : 0;
  }
  const Place room = builder.room(stored * LinearStep::kChunk);
  auto made = std::make_unique<LinearStep>(std::move(dense), std::move(operand), std::move(terms), room);
  if (step.factor && step.after) made->multiply_add(builder.read(*step.factor), builder.read(*step.after));
  builder.makes(step.out, made.get());
  builder.add(std::move(made));
}

void build_binary(Builder& builder, const StepSpec& step) {
  const Place a = builder.read(step.in.at(0)), b = builder.read(step.in.at(1)), out = builder.write(step.out);
  const std::size_t width = builder.spec(step.out).width, tile = builder.kernels().tile;
  const std::size_t a_step = builder.spec(step.in[0]).width == 1 ? 0 : tile;
  const std::size_t b_step = builder.spec(step.in[1]).width == 1 ? 0 : tile;
  add_action(builder, [=, kind = step.binary](const Work& work) {
    work.kernels.binary(kind, work.at(a), a_step, work.at(b), b_step, width, work.vectors, work.at(out));
  });
}

void build_map(Builder& builder, const StepSpec& step) {
  const Place in = builder.read(step.in.at(0)), out = builder.write(step.out);
  const std::size_t width = builder.spec(step.out).width;
  add_action(builder, [=, spec = step.map](const Work& work) {
    Map map{spec.function, {}, {spec.numbers[0], spec.numbers[1]}};
    for (std::size_t i = 0; i < spec.arrays.size(); ++i) map.arrays[i] = spec.arrays[i].data();
    const float* from = work.at(in);
    std::copy(from, from + width * work.kernels.tile, work.at(out));
    work.kernels.map(map, work.at(out), width, work.vectors);
  });
}

void build_layer_norm(Builder& builder, const StepSpec& step) {
  const Place in = builder.read(step.in.at(0)), out = builder.write(step.out);
  const std::size_t width = builder.spec(step.out).width;
  add_action(builder, [=, weight = step.weight, bias = step.bias, epsilon = step.number](const Work& work) {
    work.kernels.layer_norm(work.at(in), weight.empty() ? nullptr : weight.data(), bias.empty() ? nullptr : bias.data(),
                            epsilon, width, work.vectors, work.at(out));
  });
}

void build_softmax(Builder& builder, const StepSpec& step) {
  const Place in = builder.read(step.in.at(0)), out = builder.write(step.out);
  const std::size_t width = builder.spec(step.out).width, group = step.group;
  add_action(builder, [=](const Work& work) {
    for (std::size_t row = 0; row < width; row += group) {
      const std::size_t at = row * work.kernels.tile;
      work.kernels.softmax(work.at(in) + at, group, work.vectors, work.at(out) + at);
    }
  });
}

void build_reduce(Builder& builder, const StepSpec& step) {
  const std::size_t width = builder.spec(step.in.at(0)).width, groups = width / step.group;
  const Place in = builder.read(step.in[0]), out = builder.write(step.out);
  Reduce reduce{step.reduction, nullptr, nullptr, groups, step.group, step.group, 1, 0};
  if (step.across) reduce = {step.reduction, nullptr, nullptr, step.group, 1, groups, step.group, 0};
  add_action(builder, [=](const Work& work) {
    Reduce now = reduce;
    now.in = work.at(in);
    now.out = work.at(out);
    now.vectors = work.vectors;
    work.kernels.reduce(now);
  });
}

void build_weighted_sum(Builder& builder, const StepSpec& step) {
  const std::size_t count = builder.spec(step.in.at(0)).width, width = builder.spec(step.out).width;
  const Place gates = builder.read(step.in[0]);
  std::vector<Place> experts;
  if (step.in.size() == 2) {
    const Place all = builder.read(step.in[1]);
    for (std::size_t e = 0; e < count; ++e) experts.push_back({all.buffer, all.row + e * width});
  } else {
    for (std::size_t e = 0; e < count; ++e) experts.push_back(builder.read(step.in.at(e + 1)));
  }
  const Place out = builder.write(step.out);
  add_action(builder, [=](const Work& work) {
    auto& pointers = work.scratch.pointers;
    pointers.clear();
    for (const Place expert : experts) pointers.push_back(work.at(expert));
    work.kernels.weighted_sum(work.at(gates), pointers.data(), count, width, work.vectors, work.at(out));
  });
}

void build_dot(Builder& builder, const StepSpec& step) {
  const Place a = builder.read(step.in.at(0)), b = builder.read(step.in.at(1)), out = builder.write(step.out);
  const std::size_t width = builder.spec(step.in[0]).width;
  add_action(builder, [=](const Work& work) {
    work.kernels.dot(work.at(a), work.at(b), width, work.vectors, work.at(out));
  });
}

void build_field_dots(Builder& builder, const StepSpec& step) {
  const Place in = builder.read(step.in.at(0)), out = builder.write(step.out);
  const std::size_t width = step.group, fields = builder.spec(step.in[0]).width / width;
  add_action(builder, [=](const Work& work) {
    const std::size_t field = width * work.kernels.tile;
    float* to = work.at(out);
    for (std::size_t i = 0; i < fields; ++i) {
      for (std::size_t j = i + 1; j < fields; ++j, to += work.kernels.tile) {
        work.kernels.dot(work.at(in) + i * field, work.at(in) + j * field, width, work.vectors, to);
      }
    }
  });
}

void build_product(Builder& builder, const StepSpec& step) {
  const Place left = builder.read(step.in.at(0)), right = builder.read(step.in.at(1)), out = builder.write(step.out);
  const Multiply multiply{nullptr, nullptr, nullptr, step.rows, step.inner, step.columns, step.left.row,
                          step.left.column, step.right.row, step.right.column, step.columns, 1.0f, nullptr, 0, 0};
  add_action(builder, [=, batch = step.batch, left_batch = step.left.batch,
                       right_batch = step.right.batch](const Work& work) {
    Multiply now = multiply;
    now.vectors = work.vectors;
    for (std::size_t b = 0; b < batch; ++b) {
      now.left = work.at({left.buffer, left.row + b * left_batch});
      now.right = work.at({right.buffer, right.row + b * right_batch});
      now.out = work.at({out.buffer, out.row + b * multiply.rows * multiply.columns});
      work.kernels.multiply(now);
    }
  });
}

}  // namespace

void build_step(Builder& builder, const StepSpec& step) {
  switch (step.op) {
    case Op::kLinear: return build_linear(builder, step);
    case Op::kBinary: return build_binary(builder, step);
    case Op::kMap: return build_map(builder, step);
    case Op::kLayerNorm: return build_layer_norm(builder, step);
    case Op::kSoftmax: return build_softmax(builder, step);
    case Op::kReduce: return build_reduce(builder, step);
    case Op::kConcat: return builder.join(step.out, step.in);
    case Op::kSlice: return builder.view(step.out, step.in.at(0), step.group);
    case Op::kTake: return builder.take(step.out, step.in, step.places);
    case Op::kWeightedSum: return build_weighted_sum(builder, step);
    case Op::kDot: return build_dot(builder, step);
    case Op::kFieldDots: return build_field_dots(builder, step);
    case Op::kProduct: return build_product(builder, step);
    case Op::kFieldAttention: return build_field_attention(builder, step);
    case Op::kTargetAttention: return build_target_attention(builder, step);
    case Op::kAttention: return build_attention(builder, step);
  }
}

}  // namespace bowerbird::pair
