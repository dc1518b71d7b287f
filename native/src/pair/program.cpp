#include "pair/program.hpp"

#include <algorithm>
#include <optional>

#include "base/team.hpp"

namespace bowerbird::pair {
namespace {

// Tile registers are a thread's for the time of a tile: who needs none pays nothing when threads change places.
class OpenRegisters {
 public:
  explicit OpenRegisters(const Kernels& kernels) : kernels_(kernels) { kernels_.open(); }
  OpenRegisters(const OpenRegisters&) = delete;
  OpenRegisters& operator=(const OpenRegisters&) = delete;
  ~OpenRegisters() { kernels_.close(); }

 private:
  const Kernels& kernels_;
};

}  // namespace

Program::Program(const Plan& plan, Isa isa) : isa_(isa), kernels_(kernels_of(isa)) {
  Builder builder(plan, kernels_);
  for (const StepSpec& step : plan.steps) {
    build_step(builder, step);
    builder.finish();
  }
  for (const std::size_t value : plan.outputs) outputs_.push_back({builder.read(value), plan.values[value].width});
  steps_ = builder.take_steps();
  builder.finish_at(steps_.size());
  attentions_ = builder.attentions();
  tiled_ = builder.tiled();
  offsets_ = builder.lay_out(rows_);
}

void Program::run(const Given* given, std::size_t count, std::size_t threads, float* const* answers) const {
  thread_local Run run;
  run.kernels = &kernels_;
  run.given = given;
  if (run.positions.size() < attentions_) run.positions.resize(attentions_);
  for (const auto& step : steps_) step->prepare(run);
  const std::size_t tile = kernels_.tile, tiles = (count + tile - 1) / tile;
  const Run& shared = run;
  run_team(threads, tiles, [&](std::size_t number) {
    run_tile(shared, number * tile, std::min(tile, count - number * tile), answers);
  });
}

void Program::run_tile(const Run& run, std::size_t first, std::size_t size, float* const* answers) const {
  thread_local Scratch scratch;
  float* const base = scratch.floats(rows_ * kernels_.tile);
  const std::size_t vectors = (size + kernels_.lanes - 1) / kernels_.lanes;
  const Work work{run, kernels_, offsets_.data(), base, scratch, first, size, vectors};
  std::optional<OpenRegisters> open;
  if (tiled_) open.emplace(kernels_);
  for (const auto& step : steps_) step->run(work);
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const auto [place, width] = outputs_[i];
    kernels_.scatter(work.at(place), width, size, answers[i] + first * width, width);
  }
}

}  // namespace bowerbird::pair
