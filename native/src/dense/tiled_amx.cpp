#include "dense/attention_tiles.hpp"
#include "dense/cross_tiles.hpp"
#include "dense/mlp_tiles.hpp"
#include "dense/tiled.hpp"
#include "pair/emulated_registers.hpp"
#if defined(BOWERBIRD_AMX)
#include "pair/amx_registers.hpp"
#endif

namespace bowerbird::tiled {
namespace {

#if defined(BOWERBIRD_AMX)

// A thread's set-up is put back afterwards: other libraries on it may count on theirs.
struct TrainingRegisters : pair::AmxRegisters {
  static void open() {
    asm volatile("sttilecfg %0" : "=m"(before()));
    pair::AmxRegisters::open();
  }
  static void close() { asm volatile("ldtilecfg %0" : : "m"(before())); }

 private:
  static pair::TileConfiguration& before() {
    static thread_local pair::TileConfiguration configuration;
    return configuration;
  }
};

#else

using TrainingRegisters = pair::EmulatedRegisters;

#endif

template <typename Registers>
Layers table() {
  return {
      forward<Registers, float>,          forward<Registers, BFloat16>,
      input_gradient<Registers, float>,   input_gradient<Registers, BFloat16>,
      weight_gradient<Registers, float>,  weight_gradient<Registers, BFloat16>,
      cross_forward<Registers>,           cross_backward<Registers>,
      attention_forward<Registers>,       attention_backward<Registers>,
      mlp_forward<Registers, float>,      mlp_forward<Registers, BFloat16>,
      mlp_backward<Registers, float>,     mlp_backward<Registers, BFloat16>,
  };
}

}  // namespace

const Layers& amx_layers() {
  static const Layers made = table<TrainingRegisters>();
  return made;
}

const Layers& amx_emulated_layers() {
  static const Layers made = table<pair::EmulatedRegisters>();
  return made;
}

}  // namespace bowerbird::tiled
