// The table of contents of pynn._cuda.
#include <pybind11/pybind11.h>

#include <cstring>
#include <string>

#include "cuda/bindings/bindings.h"
#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"
#include "pynn/abi.h"
#include "runtime/errors.h"

namespace py = pybind11;

namespace {

void raise_as(const char* name, const std::string& text) {
  py::set_error(py::module_::import("pynn.errors").attr(name), text.c_str());
}

void translate(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(pointer);
  } catch (const pynn::ShapeError& error) {
    raise_as("ShapeError", error.what());
  } catch (const pynn::DTypeError& error) {
    raise_as("DTypeError", error.what());
  } catch (const pynn::LabelError& error) {
    raise_as("LabelError", error.what());
  } catch (const pynn::cuda::DeviceError& error) {
    raise_as("DeviceError", error.what());
  } catch (const pynn::cuda::Error& error) {
    if (pynn::cuda::out_of_memory(error)) {
      raise_as("DeviceMemoryError",
               pynn::message(error.what(), "; smaller batches need less memory"));
    } else if (pynn::cuda::destroys_context(error)) {
      pynn::cuda::lose();
      raise_as("DeviceError",
               pynn::message(error.what(),
                             "; what lay on the device is lost: parameters are as they were when "
                             "they were last read. The next call begins anew, where the driver "
                             "lets it"));
    } else {
      raise_as("DeviceError", error.what());
    }
  }
}

// This module comes in a wheel of its own: it must be of the pynn that it is beside.
void check_version() {
  const auto* const host = static_cast<const pynn_host*>(PyCapsule_Import(PYNN_HOST_CAPSULE, 0));
  if (!host) throw py::error_already_set();
  if (std::strcmp(host->version, PYNN_VERSION) != 0)
    throw py::import_error(
        pynn::message("it is of pynn ", PYNN_VERSION, ", and this is pynn ", host->version,
                      "; install pynn-core and pynn-core-cuda13 of one version"));
}

// What moves nothing but memory of the host, or has all of it there.
void take_from_core(py::module_& m) {
  const auto core = py::module_::import("pynn._core");
  for (const char* name : {"flatten", "reshape", "max_pool2d_backward", "philox", "sum_of_squares"})
    m.attr(name) = core.attr(name);
}

}  // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  check_version();
  m.attr("__version__") = PYNN_VERSION;
  py::register_local_exception_translator(&translate);
  pynn::cuda::bind_device(m);
  pynn::cuda::bind_array(m);
  pynn::cuda::bind_activations(m);
  pynn::cuda::bind_products(m);
  pynn::cuda::bind_pools(m);
  pynn::cuda::bind_random(m);
  pynn::cuda::bind_batch_norm(m);
  pynn::cuda::bind_broadcast(m);
  take_from_core(m);
  pynn::cuda::bind_losses(m);
  pynn::cuda::bind_optimizers(m);
  pynn::cuda::bind_pass(m);
  pynn::cuda::bind_plan(m);
}
