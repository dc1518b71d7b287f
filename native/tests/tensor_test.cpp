// Tensor programs under sanitizers: every step on every instruction set of this machine, against the generic one.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "checks.hpp"
#include "tensor/program.hpp"

namespace {

using namespace bowerbird;
using namespace bowerbird::tensor;
using namespace bowerbird::checks;

// Odd sizes: no vector is whole. Inputs are x [kRows, kWidth] and truths [kRows]; nothing follows the values in memory.
constexpr std::size_t kRows = 13, kWidth = 21, kOutputs = 75;
constexpr std::ptrdiff_t kStride = kWidth;

Operand at(std::size_t value, std::ptrdiff_t outer = 0, std::ptrdiff_t inner = 0) { return {value, 0, {outer, inner}}; }

Plan everything(Weight stored) {
  Plan plan;
  plan.values = {{Source::kNumbers, kRows * kWidth, 0, {}}, {Source::kTruths, kRows, 0, {}}};
  plan.floats = kRows;
  std::size_t answers = 0;
  const auto value = [&](std::size_t size) {
    plan.values.push_back({Source::kStep, size, plan.floats, {}});
    plan.floats += size;
    answers += size;
    return plan.values.size() - 1;
  };
  const auto add = [&](StepSpec step) { plan.steps.push_back(std::move(step)); };
  const std::size_t wide = value(kRows * kOutputs), power = value(kRows * kWidth), norm = value(kRows * kWidth);
  const std::size_t sums = value(kWidth), means = value(kRows), turned = value(kRows * kWidth);
  const std::size_t product = value(kRows * kRows), pooled = value(kRows * kWidth);
  add({Op::kLinear, 3, {kRows, kOutputs, kWidth}, at(wide, kOutputs), {at(0, kStride)}, Element::kTanh, {},
       Reduction::kSum, 0, normal(kOutputs * kWidth), normal(kOutputs), stored, 0.0f});
  add({Op::kSoftmax, 2, {kRows, kWidth}, at(power, kStride, 1), {at(0, kStride, 1)}});
  add({Op::kLayerNorm, 2, {kRows, kWidth}, at(norm, kStride, 1), {at(0, kStride, 1)}, Element::kCopy, {},
       Reduction::kSum, 0, normal(kWidth), {}, Weight::kFp32, 1e-5f});
  add({Op::kReduce, 2, {kWidth, kRows}, at(sums, 1), {at(0, 1, kStride)}, Element::kCopy, {}, Reduction::kSum, 1});
  add({Op::kReduce, 2, {kRows, kWidth}, at(means, 1), {at(0, kStride, 1)}, Element::kCopy, {}, Reduction::kMean, 1});
  add({Op::kPointwise, 2, {kWidth, kRows}, at(turned, kRows, 1), {at(1, 0, 1), at(0, 1, kStride), at(sums, 1, 0)},
       Element::kWhere});
  add({Op::kProduct, 3, {kRows, kRows, kWidth}, at(product, kRows, 1), {at(norm, kStride, 1), at(0, 1, kStride)}});
  StepSpec attention{Op::kAttention, 5, {1, kRows, kRows, kWidth, kWidth}, at(pooled, 0, kStride)};
  attention.in = {at(0, 0, kStride), at(norm, 0, kStride), at(power, 0, kStride), at(1, 1)};
  attention.number = 0.2f;
  add(attention);
  plan.answers = answers;
  plan.values.push_back({Source::kAnswers, answers, 0, {}});
  std::size_t place = 0;
  for (std::size_t i = 2; i + 1 < plan.values.size(); ++i) {
    StepSpec copy{Op::kPointwise, 1, {plan.values[i].size}, at(plan.values.size() - 1, 1), {at(i, 1)}};
    copy.out.offset = place;
    place += plan.values[i].size;
    add(copy);
  }
  return plan;
}

std::vector<float> run(const Plan& plan, pair::Isa isa, const std::vector<float>& numbers,
                       const std::vector<std::uint8_t>& truths) {
  check(plan);
  const Program program(plan, isa);
  const std::size_t requests = truths.size() / kRows;
  std::vector<float> answers(requests * plan.answers);
  const void* given[] = {numbers.data(), truths.data()};
  program.run(given, requests, answers.data());
  return answers;
}

void expect_refused(Plan plan, const std::string& what) {
  try {
    check(plan);
    expect(false, what + " is not refused");
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

int main() {
  const std::vector<float> numbers = normal(2 * kRows * kWidth);
  std::vector<std::uint8_t> truths(2 * kRows, 1);
  for (std::size_t i = 0; i < truths.size(); i += 3) truths[i] = 0;
  const pair::Isa best = pair::chosen_isa();
  for (const Weight stored : {Weight::kFp32, Weight::kBf16}) {
    const Plan plan = everything(stored);
    const std::vector<float> expected = run(plan, pair::Isa::kGeneric, numbers, truths);
    for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
      const std::vector<float> found = run(plan, static_cast<pair::Isa>(isa), numbers, truths);
      float worst = 0.0f;
      for (std::size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - expected[i]));
      expect(worst < 1e-4f, std::string("answers by ") + pair::name_of(static_cast<pair::Isa>(isa)));
    }
  }
  Plan beyond = everything(Weight::kFp32);
  beyond.steps[1].in[0].offset = 1;
  expect_refused(beyond, "a step that reads beyond a value");
  Plan given = everything(Weight::kFp32);
  given.steps[1].out.value = 0;
  expect_refused(given, "a step that writes to what is given");
  std::printf("%s\n", failures == 0 ? "tensor programs: all passed" : "tensor programs: FAILED");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
