// What dense layers and convolutions have in common, on blocks of samples and on arrays: which
// values they read and write, and how.
#pragma once

#include "plan/rows.h"
#include "plan/stage.h"

namespace pynn {

// How the gradient of the input is written; and whether another layer that has the same weights, or
// bias, has written theirs before.
struct LayerGradients {
  GradientMode dx = GradientMode::none;
  bool dw_again = false, db_again = false;
};

struct WeightedLayer {
  template <typename T, typename Node>
  WeightedLayer(Builder<T>& builder, const Node& node, const LayerGradients& gradients)
      : x(builder.value(node.x).layout),
        y(builder.value(node.y).layout),
        dx(builder.value(node.x).gradient_layout),
        dy(builder.value(node.y).gradient_layout),
        x_data(builder.value(node.x).data),
        y_data(builder.value(node.y).data),
        dx_data(builder.value(node.x).gradient),
        dy_data(builder.value(node.y).gradient),
        w(node.w),
        b(node.b),
        relu(node.relu),
        dx_mode(gradients.dx),
        needs_dw(builder.value(node.w).needed),
        needs_db(node.b >= 0 && builder.value(node.b).needed),
        dw_again(gradients.dw_again),
        db_again(gradients.db_again),
        masked(builder.value(node.y).masked),
        masks_dx(!x.has_halo() && !dx.has_halo() && builder.masks(node.x, gradients.dx)) {
    if (relu && !masked) builder.keep(node.y);
    if (masks_dx) builder.keep(node.x);
  }

  bool needs_dx() const { return dx_mode != GradientMode::none; }
  bool adds_dx() const { return dx_mode == GradientMode::add; }

  template <typename T>
  const T* weights(const Run<T>& run) const {
    return run.stored[static_cast<std::size_t>(w)];
  }
  template <typename T>
  const T* bias(const Run<T>& run) const {  // null: none
    return b < 0 ? nullptr : run.stored[static_cast<std::size_t>(b)];
  }
  template <typename T>
  ParameterGradient<T> weight_gradient(const Run<T>& run) const {
    return {run, w, dw_again};
  }
  template <typename T>
  ParameterGradient<T> bias_gradient(const Run<T>& run) const {
    return {run, b, db_again};
  }

  // The gradient of y, which has passed relu.
  template <typename T>
  T* pass_relu(const Run<T>& run, BlockRange blocks) const {
    T* const gradient = run.at(dy_data, blocks);
    if (!relu || masked) return gradient;
    const T* const result = run.at(y_data, blocks);
    parallel_rows<2>({&dy, &y}, blocks, [&](std::int64_t count, const auto& at) {
      isa_table<T>().relu.backward(count, gradient + at[0], result + at[1], gradient + at[0]);
    });
    return gradient;
  }

  const Layout x, y, dx, dy;                   // of the values and their gradients
  const int x_data, y_data, dx_data, dy_data;  // buffers
  const int w, b;                              // values
  const bool relu;
  const GradientMode dx_mode;
  const bool needs_dw, needs_db, dw_again, db_again;
  const bool masked, masks_dx;  // by relu: dy already is, dx is to be
};

}  // namespace pynn
