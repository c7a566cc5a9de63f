// NVIDIA's cuBLASLt and cuDNN, which pynn does without where they are not found.
#pragma once

#include <dlfcn.h>

#include <string>
#include <vector>

namespace pynn::cuda {

// Where to look, after what the process has loaded already and before the loader's own path; for
// instance the folders of NVIDIA's wheels. Before the first library is looked for.
void set_library_folders(std::vector<std::string> folders);

// Handles of dlopen, looked for once and never closed; null where there is none.
void* cublaslt();
void* cudnn();

// A function of theirs; false where there is none of this name.
template <typename Function>
bool load(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// "cuBLASLt 13.0.2, cuDNN not found".
std::string describe_libraries();

}  // namespace pynn::cuda
