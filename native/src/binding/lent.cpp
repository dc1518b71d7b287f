#include "binding/lent.hpp"

#include <cstdint>

namespace bowerbird {
namespace {

// The beginnings of DLPack's structures (dlpack.h 1.3: DLManagedTensorVersioned, DLPackExchangeAPI), as far as they are used.
struct Version {
  std::uint32_t major, minor;
};
struct Managed {
  Version version;
  void* context;
  void (*release)(Managed*);
};
struct Exchange {
  Version version;
  const Exchange* earlier;
  void* allocate;
  int (*lend)(void* object, Managed** managed);
};

constexpr std::uint32_t kMajor = 1;
constexpr const char* kCapsule = "dltensor_versioned";

// Who reads a capsule renames it, and releases the tensor then.
void release_unread(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, kCapsule)) return;
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, kCapsule));
  if (managed->release != nullptr) managed->release(managed);
}

const Exchange* exchange_of(nb::handle type) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const nb::object told = nb::steal(PyObject_GetAttr(type.ptr(), name));
  if (!told.is_valid()) return nullptr;
  const auto* const exchange = static_cast<const Exchange*>(PyCapsule_GetPointer(told.ptr(), "dlpack_exchange_api"));
  return exchange != nullptr && exchange->version.major == kMajor ? exchange : nullptr;
}

}  // namespace

nb::object lent_capsule(nb::handle source) noexcept {
  const Exchange* const exchange = exchange_of(source.type());
  Managed* managed = nullptr;
  if (exchange == nullptr || exchange->lend(source.ptr(), &managed) != 0) {
    PyErr_Clear();
    return {};
  }
  nb::object capsule = nb::steal(PyCapsule_New(managed, kCapsule, release_unread));
  if (!capsule.is_valid()) PyErr_Clear(), managed->release(managed);
  return capsule;
}

}  // namespace bowerbird
