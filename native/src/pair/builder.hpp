// Turns a plan into steps over buffers: what is read gets loaded, converted or kept where it is made, and buffers whose
// uses do not meet share memory.
#pragma once

#include <memory>

#include "pair/linear.hpp"
#include "pair/work.hpp"

namespace bowerbird::pair {

class Builder {
 public:
  Builder(const Plan& plan, const Kernels& kernels);

  const Kernels& kernels() const { return kernels_; }
  const ValueSpec& spec(std::size_t value) const { return plan_.values[value]; }

  // The rows of a value, for the step that is being built.
  Place read(std::size_t value);
  // The rows that the step being built writes for a value.
  Place write(std::size_t value);
  // Rows that only the step being built uses.
  Place room(std::size_t rows);
  // Values side by side as operands of a unit.
  Operand operand(const std::vector<std::size_t>& values, Unit unit);
  // A layer of the plan, packed once for all steps that multiply with it.
  std::shared_ptr<const Dense> dense(std::size_t layer);
  // A term of a sum, which need not be loaded before.
  Term term(std::size_t value);
  // A value that is others side by side, or some rows of another.
  void join(std::size_t value, std::vector<std::size_t> parts);
  void view(std::size_t value, std::size_t of, std::size_t first);
  // A value that is columns of others side by side, in any order.
  void take(std::size_t value, const std::vector<std::size_t>& of, const std::vector<std::size_t>& places);
  // The value whose product, written by `step`, is kept as later readers want it.
  void makes(std::size_t value, LinearStep* step);

  void add(std::unique_ptr<Step> step) { steps_.push_back(std::move(step)); }
  // The step being built has been added: whatever it touched is in use until then, or until the given step.
  void finish() { finish_at(steps_.empty() ? 0 : steps_.size() - 1); }
  void finish_at(std::size_t number);
  // Attentions are numbered, so that a run can keep the positions of each.
  std::size_t next_attention() { return attentions_++; }
  std::size_t attentions() const { return attentions_; }
  // Whether a product of the steps uses tile registers.
  bool tiled() const;

  std::vector<std::unique_ptr<Step>> take_steps() { return std::move(steps_); }
  // Offsets of buffers in rows; `total` becomes their sum.
  std::vector<std::size_t> lay_out(std::size_t& total) const;

 private:
  struct Value {
    bool placed = false;
    Place place;
    std::vector<std::size_t> parts;
    std::optional<std::size_t> base;
    std::size_t first = 0;
    LinearStep* maker = nullptr;
    std::size_t maker_number = 0;
  };
  struct Buffer {
    std::size_t rows, first, last;
  };
  struct Converted {
    std::vector<std::size_t> values;
    Operand operand;
  };

  Place claim(std::size_t rows, std::size_t first);
  void use(Place place) { touched_.push_back(place.buffer); }
  void use(const Operand& operand);
  void load(std::size_t value);
  std::vector<std::size_t> flat(const std::vector<std::size_t>& values) const;
  std::vector<RowRange> ranges(const std::vector<std::size_t>& values);
  Operand halves(const std::vector<std::size_t>& values, std::size_t width);
  Operand whole(const std::vector<std::size_t>& values, Unit unit, std::size_t width);

  const Plan& plan_;
  const Kernels& kernels_;
  std::vector<Value> values_;
  std::vector<Buffer> buffers_;
  std::vector<Converted> converted_;
  std::vector<std::shared_ptr<const Dense>> dense_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<std::size_t> touched_;  // buffers
  std::size_t attentions_ = 0;
};

// Builds one step of the plan.
void build_step(Builder& builder, const StepSpec& step);

}  // namespace bowerbird::pair
