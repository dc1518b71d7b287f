#include "dense/attention.hpp"

#include <algorithm>

#include "base/team.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t kBlock = 16;  // samples that one task takes

template <typename T>
BOWERBIRD_INLINE void inputs_of(const float* events, const float* query, const Events& shape, T* out) {
  const std::size_t wide = shape.width + shape.query_width;
  for (std::size_t event = 0; event < shape.length; ++event) {
    const float* from = events + event * shape.width;
    T* to = out + event * wide;
    for (std::size_t i = 0; i < shape.width; ++i) store(from[i], to[i]);
    for (const Meeting& part : shape.meetings) {
      T* product = to + shape.width + part.query;
      for (std::size_t i = 0; i < part.width; ++i) store(query[part.query + i] * from[part.event + i], product[i]);
    }
  }
}

template <typename T>
BOWERBIRD_INLINE void inputs_back(const T* gradient, const float* events, const float* query, const Events& shape,
                                  float* gradient_events, float* gradient_query) {
  const std::size_t wide = shape.width + shape.query_width;
  for (std::size_t i = 0; i < shape.query_width; ++i) gradient_query[i] = 0.0f;
  for (std::size_t event = 0; event < shape.length; ++event) {
    const float* from = events + event * shape.width;
    const T* back = gradient + event * wide;
    float* to = gradient_events + event * shape.width;
    for (std::size_t i = 0; i < shape.width; ++i) to[i] += to_float(back[i]);
    for (const Meeting& part : shape.meetings) {
      const T* product = back + shape.width + part.query;
      for (std::size_t i = 0; i < part.width; ++i) to[part.event + i] += to_float(product[i]) * query[part.query + i];
      float* const sums = gradient_query + part.query;
      for (std::size_t i = 0; i < part.width; ++i) sums[i] += to_float(product[i]) * from[part.event + i];
    }
  }
}

template <typename T>
BOWERBIRD_INLINE void rectify(T* x, const T* shift, std::size_t length, std::size_t width) {
  for (std::size_t event = 0; event < length; ++event) {
    T* values = x + event * width;
    for (std::size_t i = 0; i < width; ++i) store(std::max(to_float(values[i]) + to_float(shift[i]), 0.0f), values[i]);
  }
}

template <typename T>
BOWERBIRD_INLINE void rectify_back(const T* y, const T* gradient, std::size_t length, std::size_t width, T* result,
                                   float* sums) {
  for (std::size_t i = 0; i < width; ++i) sums[i] = 0.0f;
  for (std::size_t event = 0; event < length; ++event) {
    const std::size_t at = event * width;
    for (std::size_t i = 0; i < width; ++i) {
      const float g = to_float(y[at + i]) > 0.0f ? to_float(gradient[at + i]) : 0.0f;
      sums[i] += g;
      store(g, result[at + i]);
    }
  }
}

BOWERBIRD_CLONES void pool_kernel(const float* weights, const float* events, std::size_t length, std::size_t width,
                                  float* out) {
  for (std::size_t i = 0; i < width; ++i) out[i] = 0.0f;
  for (std::size_t event = 0; event < length; ++event) {
    const float weight = weights[event];
    const float* const from = events + event * width;
    for (std::size_t i = 0; i < width; ++i) out[i] += weight * from[i];
  }
}

constexpr std::size_t kLanes = 16;  // sums of a product that go on side by side

BOWERBIRD_CLONES void pool_back_kernel(const float* weights, const float* events, const float* gradient,
                                       std::size_t length, std::size_t width, float* gradient_weights,
                                       float* gradient_events) {
  for (std::size_t event = 0; event < length; ++event) {
    const float weight = weights[event];
    const float* const from = events + event * width;
    float* const to = gradient_events + event * width;
    for (std::size_t i = 0; i < width; ++i) to[i] = weight * gradient[i];
    float lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += from[i + lane] * gradient[i + lane];
    }
    for (std::size_t lane = 0; i < width; ++i, ++lane) lanes[lane] += from[i] * gradient[i];
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
      for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    gradient_weights[event] = lanes[0];
  }
}

#define BOWERBIRD_FOR_EACH_TYPE(define) define(float) define(BFloat16)

#define BOWERBIRD_KERNELS(T)                                                                                      \
  BOWERBIRD_CLONES void inputs_kernel(const float* events, const float* query, const Events& shape, T* out) {     \
    inputs_of(events, query, shape, out);                                                                         \
  }                                                                                                               \
  BOWERBIRD_CLONES void inputs_back_kernel(const T* gradient, const float* events, const float* query,            \
                                           const Events& shape, float* gradient_events, float* gradient_query) {  \
    inputs_back(gradient, events, query, shape, gradient_events, gradient_query);                                 \
  }                                                                                                               \
  BOWERBIRD_CLONES void rectify_kernel(T* x, const T* shift, std::size_t length, std::size_t width) {             \
    rectify(x, shift, length, width);                                                                             \
  }                                                                                                               \
  BOWERBIRD_CLONES void rectify_back_kernel(const T* y, const T* gradient, std::size_t length, std::size_t width, \
                                            T* result, float* sums) {                                             \
    rectify_back(y, gradient, length, width, result, sums);                                                       \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_KERNELS)

// Calls task(sample) for each sample, in blocks.
template <typename Task>
void for_samples(std::size_t samples, std::size_t threads, const Task& task) {
  run_team(threads, (samples + kBlock - 1) / kBlock, [&](std::size_t block) {
    const std::size_t last = std::min(samples, (block + 1) * kBlock);
    for (std::size_t sample = block * kBlock; sample < last; ++sample) task(sample);
  });
}

}  // namespace

void pool_events(const float* weights, const float* events, const Events& shape, float* out, std::size_t threads) {
  for_samples(shape.samples, threads, [&](std::size_t sample) {
    pool_kernel(weights + sample * shape.length, events + sample * shape.length * shape.width, shape.length, shape.width,
                out + sample * shape.width);
  });
}

void pool_events_backward(const float* weights, const float* events, const float* gradient, const Events& shape,
                          float* gradient_weights, float* gradient_events, std::size_t threads) {
  for_samples(shape.samples, threads, [&](std::size_t sample) {
    const std::size_t own = sample * shape.length * shape.width, at = sample * shape.width;
    pool_back_kernel(weights + sample * shape.length, events + own, gradient + at, shape.length, shape.width,
                     gradient_weights + sample * shape.length, gradient_events + own);
  });
}

#define BOWERBIRD_PUBLIC(T)                                                                                          \
  void attention_inputs(const float* events, const float* query, const Events& shape, T* out, std::size_t threads) { \
    const std::size_t own = shape.length * shape.width, wide = own + shape.length * shape.query_width;               \
    for_samples(shape.samples, threads, [&](std::size_t sample) {                                                    \
      inputs_kernel(events + sample * own, query + sample * shape.query_width, shape, out + sample * wide);          \
    });                                                                                                              \
  }                                                                                                                  \
  void attention_inputs_backward(const T* gradient, const float* events, const float* query, const Events& shape,    \
                                 float* gradient_events, float* gradient_query, std::size_t threads) {               \
    const std::size_t own = shape.length * shape.width, wide = own + shape.length * shape.query_width;               \
    for_samples(shape.samples, threads, [&](std::size_t sample) {                                                    \
      inputs_back_kernel(gradient + sample * wide, events + sample * own, query + sample * shape.query_width, shape, \
                         gradient_events + sample * own, gradient_query + sample * shape.query_width);               \
    });                                                                                                              \
  }                                                                                                                  \
  void shifted_rectifier(T* x, const T* shift, std::size_t samples, std::size_t length, std::size_t width,           \
                         std::size_t threads) {                                                                      \
    for_samples(samples, threads, [&](std::size_t sample) {                                                          \
      rectify_kernel(x + sample * length * width, shift + sample * width, length, width);                            \
    });                                                                                                              \
  }                                                                                                                  \
  void shifted_rectifier_backward(const T* y, const T* gradient_y, std::size_t samples, std::size_t length,          \
                                  std::size_t width, T* gradient_x, float* gradient_shift, std::size_t threads) {    \
    for_samples(samples, threads, [&](std::size_t sample) {                                                          \
      const std::size_t at = sample * length * width;                                                                \
      rectify_back_kernel(y + at, gradient_y + at, length, width, gradient_x + at, gradient_shift + sample * width); \
    });                                                                                                              \
  }
BOWERBIRD_FOR_EACH_TYPE(BOWERBIRD_PUBLIC)

}  // namespace bowerbird
