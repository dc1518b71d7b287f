// What goes into an engine and what comes out: columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace bowerbird {

// Vectors that travel beside the slots: for the rows given, `width` numbers each.
struct VectorColumn {
  int slot;
  const std::int64_t* rows;  // ascending
  std::size_t count;
  const float* values;
};

struct Records {
  const std::int32_t* types;  // plus kRetraction
  const std::int64_t* times;
  const std::uint64_t* slots;  // [slots, count]
  std::size_t count;
  std::vector<VectorColumn> vectors = {};
};

inline constexpr std::int32_t kRetraction = 1 << 30;

struct Reads {
  const std::int64_t* positions;
  const std::int64_t* times;
  const std::uint64_t* slots;  // [slots, count]
  std::size_t count;
};

// Memory that grows without being filled with zeros first.
template <typename Value>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  std::size_t size() const { return size_; }
  Value* data() { return data_; }
  const Value* data() const { return data_; }
  Value& operator[](std::size_t at) { return data_[at]; }
  const Value& operator[](std::size_t at) const { return data_[at]; }

  // Makes room for so many more and returns where they go.
  Value* extend(std::size_t count) {
    if (size_ + count > capacity_) grow(size_ + count);
    Value* at = data_ + size_;
    size_ += count;
    return at;
  }
  void push(Value value) { *extend(1) = value; }
  void clear() { size_ = 0; }
  // Gives the memory away, which std::free() takes back.
  Value* release() {
    Value* data = data_;
    data_ = nullptr;
    size_ = capacity_ = 0;
    return data;
  }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }
  void grow(std::size_t least) {
    std::size_t capacity = capacity_ < 64 ? 64 : 2 * capacity_;
    if (capacity < least) capacity = least;
    auto* data = static_cast<Value*>(std::realloc(data_, capacity * sizeof(Value)));  // large memory is moved without being copied
    if (data == nullptr) throw std::bad_alloc();
    data_ = data;
    capacity_ = capacity;
  }

  Value* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// A sequence feature's rows end to end, oldest event first. Fields are bits: keys, or floats in the low half.
struct Ragged {
  Buffer<std::int64_t> offsets;
  std::vector<Buffer<std::uint64_t>> keys;  // by category field
  std::vector<Buffer<float>> numbers;       // by number field
  Buffer<float> age;

  void add_row() { offsets.push(static_cast<std::int64_t>(age.size())); }
};

// Columns of `rows` rows, feature after feature, in plan order within each kind.
struct Columns {
  std::size_t rows = 0;
  std::size_t category_count = 0;
  std::size_t number_count = 0;
  Buffer<std::uint64_t> categories;
  Buffer<float> numbers;
  std::vector<Ragged> sequences;
  std::vector<Buffer<float>> vectors;
};

struct Answer {
  std::int64_t lsn = 0;
  Columns request;
  Columns candidates;
};

}  // namespace bowerbird
