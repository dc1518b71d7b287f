// What a step sees while it runs: the tile's buffers, the candidates, what the run was given.
#pragma once

#include <new>
#include <vector>

#include "pair/plan.hpp"

namespace bowerbird::pair {

// A row of a buffer; buffers get their offsets once all their uses are known.
struct Place {
  std::size_t buffer = 0;
  std::size_t row = 0;
};

// Memory of one thread, which grows to what the largest program needs and is used again.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  float* floats(std::size_t count) {
    if (count > size_) {
      release();
      data_ = static_cast<float*>(::operator new(count * sizeof(float), kAlignment));
      size_ = count;
    }
    return data_;
  }

  // Room for pointers to rows.
  std::vector<const float*> pointers;
  std::vector<Segment> segments;

 private:
  static constexpr std::align_val_t kAlignment{64};
  void release() {
    if (data_ != nullptr) ::operator delete(data_, kAlignment);
    data_ = nullptr;
    size_ = 0;
  }

  float* data_ = nullptr;
  std::size_t size_ = 0;
};

// One run: what it was given, and the positions that each attention looks at.
struct Run {
  const Kernels* kernels = nullptr;
  const Given* given = nullptr;
  std::vector<std::vector<std::uint32_t>> positions;
};

struct Work {
  const Run& run;
  const Kernels& kernels;
  const std::size_t* offsets;  // of buffers, in rows
  float* base;
  Scratch& scratch;
  std::size_t first, size, vectors;  // candidates

  float* at(Place place) const { return base + (offsets[place.buffer] + place.row) * kernels.tile; }
  std::uint32_t* units(Place place) const { return reinterpret_cast<std::uint32_t*>(at(place)); }
};

class Step {
 public:
  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  virtual ~Step() = default;
  // What is the same for all tiles of a run.
  virtual void prepare(Run&) const {}
  virtual void run(const Work& work) const = 0;
};

}  // namespace bowerbird::pair
