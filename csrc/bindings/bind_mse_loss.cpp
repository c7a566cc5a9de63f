#include "bindings/bindings.h"
#include "bindings/reduction.h"
#include "threaded/mse_loss.h"

namespace pynn {
namespace {

py::tuple mse_loss(py::handle prediction_object, py::handle target_object,
                   const std::string& reduction_name, bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  const py::array prediction = dense("prediction", prediction_object);
  const py::array target = dense_as("target", target_object, prediction);
  if (shape_of(prediction) != shape_of(target))
    throw ShapeError(message("target must have the shape of prediction, ", shape_of(prediction),
                             ", got ", shape_of(target)));
  const std::int64_t size = prediction.size();
  std::optional<py::array> loss, gradient;
  if (return_grad) gradient = empty(shape_of(prediction), prediction);
  if (reduction == Reduction::kNone) loss = empty(shape_of(prediction), prediction);
  const double factor = reduction == Reduction::kMean && size > 0 ? 1.0 / double(size) : 1.0;
  double total = 0;
  by_dtype(prediction, [&](auto zero) {
    using T = decltype(zero);
    const T *prediction_data = data<T>(prediction), *target_data = data<T>(target);
    T* loss_data = loss ? mutable_data<T>(*loss) : nullptr;
    T* gradient_data = gradient ? mutable_data<T>(*gradient) : nullptr;
    ReleaseGil nogil(size * 4);
    total = threaded::squared_error(size, prediction_data, target_data, static_cast<T>(2 * factor),
                                    gradient_data);
    if (!loss_data) return;
    constexpr std::int64_t kPiece = 4096;
    parallel_for((size + kPiece - 1) / kPiece, kPiece * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   const std::int64_t first = begin * kPiece, last = std::min(end * kPiece, size);
                   isa_table<T>().mse_loss.each(last - first, prediction_data + first,
                                                target_data + first, loss_data + first);
                 });
  });
  py::object result = loss ? py::object(*loss) : py::object(py::float_(total * factor));
  return py::make_tuple(result, gradient ? py::object(*gradient) : py::object(py::none()));
}

}  // namespace

void bind_mse_loss(py::module_& m) {
  using namespace py::literals;
  m.def("mse_loss", &mse_loss, "prediction"_a, "target"_a, "reduction"_a, "return_grad"_a);
}

}  // namespace pynn
