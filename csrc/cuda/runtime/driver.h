// What this machine has of what pynn needs to compute on a GPU.
#pragma once

#include <string>

namespace pynn::cuda {

// Empty where there is a device that pynn can use; otherwise what is missing, and what to do.
std::string look_for_device();

// "CUDA 13.0, driver 13.0, NVIDIA H200 (compute capability 9.0)"; empty where something is missing.
std::string describe();

}  // namespace pynn::cuda
