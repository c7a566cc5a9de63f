#include <vector>

#include "bindings/bindings.h"
#include "bindings/reduction.h"

namespace pynn {
namespace {

constexpr std::int64_t kLossBlock =
    4096;  // values summed together; the sums of the blocks are added in order

py::tuple mse_loss(py::handle prediction_object, py::handle target_object,
                   const std::string& reduction_name, bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  const py::array prediction = dense("prediction", prediction_object);
  const py::array target = dense_as("target", target_object, prediction);
  if (shape_of(prediction) != shape_of(target))
    throw ShapeError(message("target must have the shape of prediction, ", shape_of(prediction),
                             ", got ", shape_of(target)));
  const std::int64_t size = prediction.size(), blocks = (size + kLossBlock - 1) / kLossBlock;
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
    std::vector<double> sums(static_cast<std::size_t>(blocks));
    ReleaseGil nogil(size * 4);
    parallel_for(blocks, kLossBlock * kWorkPerMove, [&](std::int64_t begin, std::int64_t end) {
      const auto& kernels = isa_table<T>().mse_loss;
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * kLossBlock;
        const std::int64_t count = size - first < kLossBlock ? size - first : kLossBlock;
        sums[static_cast<std::size_t>(block)] = kernels.sum(
            count, prediction_data + first, target_data + first, static_cast<T>(2 * factor),
            gradient_data ? gradient_data + first : nullptr);
        if (loss_data)
          kernels.each(count, prediction_data + first, target_data + first, loss_data + first);
      }
    });
    for (double sum : sums) total += sum;
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
