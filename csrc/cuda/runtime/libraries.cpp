#include "cuda/runtime/libraries.h"

#include <utility>

#include "runtime/errors.h"

namespace pynn::cuda {
namespace {

std::vector<std::string>& folders() {
  static std::vector<std::string> list;
  return list;
}

void* find(const char* name) {
  if (void* const loaded = dlopen(name, RTLD_NOW | RTLD_NOLOAD)) return loaded;
  for (const std::string& folder : folders())
    if (void* const found = dlopen((folder + "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL))
      return found;
  return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

std::string describe(const char* name, void* handle, const char* version_function, int thousand) {
  if (!handle) return message(name, " not found");
  const auto version = reinterpret_cast<std::size_t (*)()>(dlsym(handle, version_function));
  if (!version) return message(name, " of an unknown version");
  const auto number = static_cast<int>(version());
  return message(name, " ", number / thousand, ".", number % thousand / 100, ".", number % 100);
}

}  // namespace

void set_library_folders(std::vector<std::string> list) { folders() = std::move(list); }

void* cublaslt() {
  static void* const handle = find("libcublasLt.so.13");
  return handle;
}

void* cudnn() {
  static void* const handle = find("libcudnn.so.9");
  return handle;
}

std::string describe_libraries() {
  return describe("cuBLASLt", cublaslt(), "cublasLtGetVersion", 10000) + ", " +
         describe("cuDNN", cudnn(), "cudnnGetVersion", 10000);
}

}  // namespace pynn::cuda
