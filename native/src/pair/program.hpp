// A pair program: what is left to compute per candidate, in tiles of candidates that fit the cache.
#pragma once

#include <memory>

#include "pair/builder.hpp"

namespace bowerbird::pair {

class Program {
 public:
  Program(const Plan& plan, Isa isa);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Scores `count` candidates: `given` by value, `answers` float32 [count, width] by output. A candidate's answer depends
  // neither on the others nor on the number of threads. May be called by several threads at once.
  void run(const Given* given, std::size_t count, std::size_t threads, float* const* answers) const;

  Isa isa() const { return isa_; }
  std::size_t tile() const { return kernels_.tile; }
  // Memory that a thread needs.
  std::size_t scratch_bytes() const { return rows_ * kernels_.tile * sizeof(float); }

 private:
  struct Output {
    Place place;
    std::size_t width;
  };

  void run_tile(const Run& run, std::size_t first, std::size_t size, float* const* answers) const;

  Isa isa_;
  const Kernels& kernels_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<Output> outputs_;
  std::vector<std::size_t> offsets_;
  std::size_t rows_ = 0;
  std::size_t attentions_ = 0;
  bool tiled_ = false;
};

}  // namespace bowerbird::pair
