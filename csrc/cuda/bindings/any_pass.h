// What Python sees of a pass, whatever its dtype: as of the processor's (bindings/bind_plan.cpp),
// and whole steps.
#pragma once

#include <cstdint>
#include <memory>

#include "bindings/arrays.h"
#include "cuda/bindings/device_array.h"
#include "cuda/bindings/twin.h"
#include "cuda/plan/plan.h"
#include "cuda/plan/step.h"

namespace pynn::cuda {

class AnyPass {
 public:
  virtual ~AnyPass() = default;
  virtual bool lost() const = 0;
  virtual void set_stored(int value, const py::array& array) = 0;
  virtual void set_twin(int value, std::shared_ptr<Twin> twin, std::int64_t offset) = 0;
  virtual void set_stream(std::uint64_t seed, std::int64_t step, std::int64_t first_sample) = 0;
  virtual void set_input(int value, const py::array& array) = 0;
  virtual int forward(int node) = 0;
  virtual int backward(int node) = 0;
  virtual py::array read(int value) = 0;
  virtual void write(int value, const py::array& array) = 0;
  virtual py::array read_gradient(int value) = 0;
  virtual void write_gradient(int value, const py::array& array, bool add) = 0;
  virtual py::list statistics(std::size_t node) = 0;
  // Whole steps.
  virtual void set_update(int value, int group, const py::list& state) = 0;
  virtual void set_limits(double clip_value, double clip_norm) = 0;
  virtual void set_loss(const Loss& loss) = 0;
  virtual py::tuple step(const py::array& array, const py::array& target, std::uint64_t seed,
                         std::int64_t step, const py::list& settings) = 0;
  virtual void forward_all(const py::array& array, std::uint64_t seed, std::int64_t step) = 0;
  virtual py::tuple backward_all(const py::array& gradient, const py::list& settings) = 0;
  virtual py::tuple epoch(const DeviceArray& x, const DeviceArray& y,
                          const py::array_t<std::int64_t>& order, double scale, std::uint64_t seed,
                          std::int64_t step, const py::list& settings) = 0;
};

// `owner` keeps the plan alive.
template <typename T>
std::unique_ptr<AnyPass> start_pass(const Plan<T>& plan, py::object owner);

}  // namespace pynn::cuda
