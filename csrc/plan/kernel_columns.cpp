#include "plan/kernel_columns.h"

#include <algorithm>
#include <map>

#include "plan/products.h"

namespace pynn {

bool KernelColumns::suits(const Conv2dShape& shape) {
  const Window& w = shape.window;
  return shape.O / shape.groups <= 2 && w.stride_w == 1 && w.KW >= 3 &&
         shape.C / shape.groups * w.KH >= 16;
}

KernelColumns::KernelColumns(const Conv2dShape& shape, const Layout& x, const Layout& y)
    : shape_(shape), x_(x), y_(y), columns_(multiples<std::int64_t>(shape.window.W, kBlockLanes)) {
  const Window& w = shape.window;
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> known;
  for (std::int64_t h = 0; h < w.OH; ++h) {
    const std::int64_t at = h * w.stride_h - w.top;  // the row of x under kernel row 0
    std::int64_t begin = at < 0 ? (-at + w.dilation_h - 1) / w.dilation_h : 0;
    std::int64_t end = std::min(w.KH, at < w.H ? (w.H - 1 - at) / w.dilation_h + 1 : 0);
    if (x.is_folded()) begin = 0, end = w.KH;
    if (end <= begin) begin = end = 0;
    const auto [entry, fresh] = known.try_emplace({begin, end}, classes_.size());
    if (fresh) {
      RowClass c;
      for (std::int64_t channel = 0; channel < shape.C / shape.groups; ++channel)
        for (std::int64_t kh = begin; kh < end; ++kh) {
          c.a_offsets.push_back(static_cast<std::int32_t>((channel * w.KH + kh) * w.KW));
          c.b_offsets.push_back(static_cast<std::int32_t>(channel * x.plane() +
                                                          (kh - begin) * w.dilation_h * x.row()));
        }
      classes_.push_back(std::move(c));
    }
    rows_.push_back({entry->second, begin < end ? at + begin * w.dilation_h : 0});
  }
}

std::int64_t KernelColumns::flops() const {
  std::int64_t depth = 0;
  for (const Row& row : rows_)
    depth += static_cast<std::int64_t>(classes_[row.row_class].a_offsets.size());
  return 2 * depth * shape_.O * shape_.window.KW * shape_.window.W * kBlockLanes;
}

template <typename T>
void KernelColumns::multiply(std::int64_t output, std::int64_t begin, std::int64_t end, const T* w,
                             const T* x, T* parts) const {
  const Window& window = shape_.window;
  const std::int64_t channels = shape_.C / shape_.groups;
  const std::int64_t group = output / (shape_.O / shape_.groups);
  OuterProduct<T> product{};
  product.rows = window.KW;
  product.columns = end - begin;
  product.a = w + output * channels * window.KH * window.KW;
  product.a_row = 1;
  product.b_columns = product.c_columns = columns_.data() + begin;
  product.c_row = window.W * kBlockLanes;
  product.c = parts + output * output_parts();
  for (const Row& row : rows_) {
    const RowClass& c = classes_[row.row_class];
    product.depth = static_cast<std::int64_t>(c.a_offsets.size());
    product.a_offsets = c.a_offsets.data();
    product.b_offsets = c.b_offsets.data();
    product.b = x + group * channels * x_.plane() + x_.at(row.first, 0);
    isa_table<T>().outer_product.run(product);
    product.c += window.KW * product.c_row;
  }
}

template <typename T>
void KernelColumns::add(std::int64_t output, std::int64_t begin, std::int64_t end, const T* parts,
                        T bias, bool relu, T* y) const {
  const Window& w = shape_.window;
  for (std::int64_t h = begin; h < end; ++h) {
    T* const row = y + output * y_.plane() + y_.at(h, 0);
    std::fill(row, row + w.OW * kBlockLanes, bias);
    const T* part = parts + output * output_parts() + h * w.KW * w.W * kBlockLanes;
    for (std::int64_t kw = 0; kw < w.KW; ++kw, part += w.W * kBlockLanes) {
      const std::int64_t shift = w.left - kw * w.dilation_w;  // from a column of x to one of y
      const std::int64_t first = std::max<std::int64_t>(shift, 0);
      const std::int64_t last = std::min(w.OW, w.W + shift);
      for (std::int64_t i = first * kBlockLanes; i < last * kBlockLanes; ++i)
        row[i] += part[i - shift * kBlockLanes];
    }
    if (relu) isa_table<T>().relu.forward(w.OW * kBlockLanes, row, row);
  }
}

#define PYNN_INSTANTIATE(T)                                                                     \
  template void KernelColumns::multiply(std::int64_t, std::int64_t, std::int64_t, const T*,     \
                                        const T*, T*) const;                                    \
  template void KernelColumns::add(std::int64_t, std::int64_t, std::int64_t, const T*, T, bool, \
                                   T*) const;
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)
#undef PYNN_INSTANTIATE

}  // namespace pynn
