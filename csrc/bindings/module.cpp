// The table of contents of pynn._core.
#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "host/library_operator.h"
#include "runtime/errors.h"

namespace py = pybind11;

namespace {

void raise_as(const char* name, const std::exception& error) {
  py::set_error(py::module_::import("pynn.errors").attr(name), error.what());
}

void translate(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(pointer);
  } catch (const pynn::ShapeError& error) {
    raise_as("ShapeError", error);
  } catch (const pynn::DTypeError& error) {
    raise_as("DTypeError", error);
  } catch (const pynn::LabelError& error) {
    raise_as("LabelError", error);
  } catch (const pynn::BackendError& error) {
    raise_as("BackendError", error);
  } catch (const pynn::LibraryError& error) {
    raise_as("LibraryError", error);
  } catch (const pynn::OperatorError& error) {
    raise_as("OperatorError", error);
  }
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.attr("__version__") = PYNN_VERSION;
  py::register_local_exception_translator(&translate);
  pynn::bind_add(m);
  pynn::bind_avg_pool2d(m);
  pynn::bind_batch_norm(m);
  pynn::bind_bias(m);
  pynn::bind_concat(m);
  pynn::bind_conv2d(m);
  pynn::bind_cross_entropy(m);
  pynn::bind_drop_block2d(m);
  pynn::bind_dropout(m);
  pynn::bind_leaky_relu(m);
  pynn::bind_library(m);
  pynn::bind_linear(m);
  pynn::bind_log_softmax(m);
  pynn::bind_matmul(m);
  pynn::bind_max_pool2d(m);
  pynn::bind_mse_loss(m);
  pynn::bind_mul(m);
  pynn::bind_optimizers(m);
  pynn::bind_pad2d(m);
  pynn::bind_philox(m);
  pynn::bind_plan(m);
  pynn::bind_relu(m);
  pynn::bind_reshape(m);
  pynn::bind_runtime(m);
  pynn::bind_sigmoid(m);
  pynn::bind_softmax(m);
  pynn::bind_tanh(m);
}
