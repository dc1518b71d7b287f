// Pair programs under sanitizers: every step on every instruction set of this machine, against the generic one.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "checks.hpp"
#include "pair/program.hpp"
#if defined(BOWERBIRD_WIDE_KERNELS)
#include "amx_checks.hpp"
#include "amx_instructions.hpp"
#endif

namespace {

using namespace bowerbird::pair;
using namespace bowerbird::checks;

LayerSpec layer(std::size_t inputs, std::size_t outputs, Precision precision, Function function = Function::kRelu) {
  LayerSpec made{outputs, inputs, normal(outputs * inputs), normal(outputs), {}, precision};
  for (float& value : made.weight) value /= std::sqrt(static_cast<float>(inputs));
  made.map.function = function;
  return made;
}

constexpr std::size_t kLength = 19, kKey = 5, kFirst = 33, kWide = 77, kStored = 11;
enum Value : std::size_t { kQuery, kPart, kPartial, kUser, kHistory, kHistoryPart, kMask, kFirstStep };

StepSpec step(Op op, std::size_t out, std::vector<std::size_t> in) {
  StepSpec made;
  made.op = op;
  made.out = out;
  made.in = std::move(in);
  return made;
}

// Every kind of step, one after another.
class Everything {
 public:
  explicit Everything(Precision precision) {
    plan.values = {{Source::kItem, kKey}, {Source::kItem, kFirst}, {Source::kItem, kWide}, {Source::kRequest, kWide},
                   {Source::kSequence, kKey}, {Source::kSequence, kFirst}, {Source::kSequence, 1}};
    StepSpec& attention = add(Op::kTargetAttention, kKey, {kQuery, kPart});
    attention.keys = attention.values = kHistory;
    attention.keys_part = kHistoryPart;
    attention.mask = kMask;
    attention.softmax = true;
    attention.layers = {add(layer(kKey, kFirst, precision)), add(layer(kFirst, 9, precision)),
                        add(layer(9, 1, Precision::kFp32))};
    plan.layers[attention.layers[0]].bias.clear();
    StepSpec& heads = add(Op::kAttention, kKey, {kQuery});
    heads.keys = heads.values = kHistory;
    heads.number = 0.5f;
    StepSpec& first = add(Op::kLinear, kWide, {kFirstStep, kFirstStep + 1});
    first.layers = {add(layer(2 * kKey, kWide, precision))};
    first.adds = {kUser, kPartial};
    const std::size_t sigmoid = add(layer(kWide, 21, precision, Function::kSigmoid));
    add(Op::kLinear, 21, {kFirstStep + 2}).layers = {sigmoid};
    add(Op::kLinear, 21, {kFirstStep + 2}).layers = {sigmoid};
    const std::size_t x = last();
    add(Op::kConcat, 21 + kKey, {x, kQuery});
    add(Op::kSlice, 21, {last()}).group = 3;
    add(Op::kBinary, 21, {last(), x}).binary = Binary::kMul;
    add(Op::kMap, 21, {last()}).map.function = Function::kTanh;
    StepSpec& cross = add(Op::kLinear, 21, {last()});
    cross.layers = {add(layer(21, 21, precision, Function::kNone))};
    cross.factor = cross.after = x;
    add(Op::kLayerNorm, 21, {last()}).number = 1e-5f;
    add(Op::kSoftmax, 21, {last()}).group = 7;
    const std::size_t soft = last();
    add(Op::kFieldDots, 3, {soft}).group = 7;
    add(Op::kWeightedSum, 7, {last(), soft});
    add(Op::kReduce, 1, {last()}).group = 7;
    add(Op::kDot, 1, {x, soft});
    const std::size_t dot = last();
    add(Op::kTake, 4 * 21, {x, soft});
    for (std::size_t i = 0; i < 4 * 21; ++i) plan.steps.back().places.push_back((5 * i) % (2 * 21));
    const std::size_t fields = last();
    StepSpec& product = add(Op::kProduct, 2 * 7 * 6, {fields, fields});
    product.batch = 2, product.rows = 7, product.inner = 3, product.columns = 6;
    product.left = {42, 3, 1}, product.right = {42, 1, 7};
    StepSpec& mixed = add(Op::kFieldAttention, 4 * 21, {fields, fields, fields});
    mixed.heads = 2, mixed.group = 3, mixed.number = 0.3f;
    plan.outputs = {kFirstStep, kFirstStep + 1, kFirstStep + 2, x, dot - 1, dot, last() - 1, last()};
  }

  std::size_t last() const { return plan.values.size() - 1; }

  Plan plan;

 private:
  std::size_t add(LayerSpec layer) {
    plan.layers.push_back(std::move(layer));
    return plan.layers.size() - 1;
  }

  StepSpec& add(Op op, std::size_t width, std::vector<std::size_t> in) {
    plan.values.push_back({Source::kStep, width});
    plan.steps.push_back(step(op, last(), std::move(in)));
    return plan.steps.back();
  }
};

// Inputs of one run, each in memory of exactly its size.
struct Inputs {
  explicit Inputs(std::size_t count)
      : query(normal(count * kKey)), part(normal(count * kFirst)), user(normal(kWide)), history(normal(kLength * kKey)),
        history_part(normal(kLength * kFirst)), mask(kLength), stored(kStored * kWide), scales(kStored, 0.02f), places(count) {
    for (std::size_t i = 0; i < kLength; ++i) mask[i] = i % 3 == 0 ? 0.0f : 1.0f;
    for (auto& value : stored) value = static_cast<std::int8_t>(source());
    for (auto& place : places) place = static_cast<std::int64_t>(source() % kStored);
    given.resize(64);
    given[kQuery].stored = {Format::kFp32, query.data(), nullptr, nullptr, kKey};
    given[kPart].stored = {Format::kFp32, part.data(), nullptr, nullptr, kFirst};
    given[kPartial].stored = {Format::kInt8, stored.data(), scales.data(), places.data(), kWide};
    given[kUser].row = user.data();
    given[kHistory] = {{}, history.data(), kLength};
    given[kHistoryPart] = {{}, history_part.data(), kLength};
    given[kMask] = {{}, mask.data(), kLength};
  }

  std::vector<float> query, part, user, history, history_part, mask;
  std::vector<std::int8_t> stored;
  std::vector<float> scales;
  std::vector<std::int64_t> places;
  std::vector<Given> given;
};

std::vector<std::vector<float>> answers(const Plan& plan, const Program& program, const Inputs& inputs, std::size_t count,
                                        std::size_t threads) {
  std::vector<std::vector<float>> found;
  std::vector<float*> places;
  for (const std::size_t output : plan.outputs) found.emplace_back(count * plan.values[output].width, NAN);
  for (auto& each : found) places.push_back(each.data());
  program.run(inputs.given.data(), count, threads, places.data());
  return found;
}

// Whether all answers differ by less than the tolerance; a NaN never does.
bool close(const std::vector<std::vector<float>>& left, const std::vector<std::vector<float>>& right, float tolerance) {
  for (std::size_t i = 0; i < left.size(); ++i) {
    for (std::size_t j = 0; j < left[i].size(); ++j) {
      if (!(std::abs(left[i][j] - right[i][j]) < tolerance)) return false;
    }
  }
  return left.size() == right.size();
}

void test(const std::string& name, const Plan& plan, Isa isa, float tolerance) {
  const Program generic(plan, Isa::kGeneric), program(plan, isa);
  for (const std::size_t count : {0, 1, 17, 49, 150}) {
    const Inputs inputs(count);
    const auto found = answers(plan, program, inputs, count, 1);
    const bool right = close(found, answers(plan, generic, inputs, count, 1), tolerance);
    expect(right, name + ": other answers than the generic kernels' for " + std::to_string(count));
    expect(found == answers(plan, program, inputs, count, 3), name + ": threads change the answer");
  }
}

}  // namespace

int main() {
  const char* const names[] = {"generic", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated"};
  for (const char* const name : names) {
    setenv("BOWERBIRD_ISA", name, 1);
    Isa isa{};
    try {
      isa = chosen_isa();
    } catch (const std::invalid_argument& error) {
      std::printf("  %s\n", error.what());
      continue;
    }
    expect(std::string(name_of(isa)) == name, "another instruction set than asked for");
    test(std::string(name) + " fp32", Everything(Precision::kFp32).plan, isa, 1e-4f);
    test(std::string(name) + " bf16", Everything(Precision::kBf16).plan, isa, 0.1f);
    test(std::string(name) + " int8", Everything(Precision::kInt8).plan, isa, 0.1f);
#if defined(BOWERBIRD_WIDE_KERNELS)
    if (isa == Isa::kAmxEmulated) check_emulated_registers(), check_the_check(), check_instructions();
#endif
  }
  if (failures == 0) std::printf("pair programs: all well\n");
  return failures == 0 ? 0 : 1;
}
