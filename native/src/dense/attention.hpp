// What target attention's first layer is given, and what follows it.
#pragma once

#include <cstddef>
#include <vector>

#include "base/bfloat16.hpp"

namespace bowerbird {

// A part of the query that meets a part of every event: `width` values from `query` and from `event` on.
struct Meeting {
  std::size_t query;
  std::size_t event;
  std::size_t width;
};

struct Events {
  std::size_t samples;
  std::size_t length;
  std::size_t width;
  std::size_t query_width;
  std::vector<Meeting> meetings;
};

// out[b, l] = the event, then query * event for each meeting: [samples, length, width + query_width].
// Every part of the query takes part in exactly one meeting.
void attention_inputs(const float* events, const float* query, const Events& shape, float* out, std::size_t threads);
void attention_inputs(const float* events, const float* query, const Events& shape, BFloat16* out,
                      std::size_t threads);

// Adds to gradient_events, and sets gradient_query.
void attention_inputs_backward(const float* gradient, const float* events, const float* query, const Events& shape,
                               float* gradient_events, float* gradient_query, std::size_t threads);
void attention_inputs_backward(const BFloat16* gradient, const float* events, const float* query, const Events& shape,
                               float* gradient_events, float* gradient_query, std::size_t threads);

// y[b, l] = max(0, x[b, l] + shift[b]), in place; [samples, length, width] and [samples, width].
void shifted_rectifier(float* x, const float* shift, std::size_t samples, std::size_t length, std::size_t width,
                       std::size_t threads);
void shifted_rectifier(BFloat16* x, const BFloat16* shift, std::size_t samples, std::size_t length, std::size_t width,
                       std::size_t threads);

// gradient_x = gradient_y where y > 0, 0 elsewhere; gradient_shift its sums over a sample's events.
void shifted_rectifier_backward(const float* y, const float* gradient_y, std::size_t samples, std::size_t length,
                                std::size_t width, float* gradient_x, float* gradient_shift, std::size_t threads);
void shifted_rectifier_backward(const BFloat16* y, const BFloat16* gradient_y, std::size_t samples, std::size_t length,
                                std::size_t width, BFloat16* gradient_x, float* gradient_shift, std::size_t threads);

// Sums of events by their weights: `out` is float32 [samples, width], weights are float32 [samples, length].
void pool_events(const float* weights, const float* events, const Events& shape, float* out, std::size_t threads);

// Its gradients, of the weights and of the events.
void pool_events_backward(const float* weights, const float* events, const float* gradient, const Events& shape,
                          float* gradient_weights, float* gradient_events, std::size_t threads);

}  // namespace bowerbird
