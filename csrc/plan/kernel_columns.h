// A convolution into few channels, by the columns of its kernel. A tile with a row for each channel
// would load a vector for every multiply-add. Here the rows of a tile are the columns of the
// kernel:
//   part(h, kw, w) = sum over channels c and kernel rows kh of weight(c, kh, kw) x(c, h', w)
//   y(h, w) = bias + sum over kw of part(h, kw, w')
// where h' is the row of x that kernel row kh sees from row h of y, and w' the column of x that
// kernel column kw sees from column w.
#pragma once

#include "kernels/conv2d.h"
#include "plan/layout.h"

namespace pynn {

class KernelColumns {
 public:
  // Whether it is worth it.
  static bool suits(const Conv2dShape& shape);

  KernelColumns(const Conv2dShape& shape, const Layout& x, const Layout& y);

  // Elements of the parts of a block: (outputs, rows of y, columns of the kernel, columns of x,
  // 16).
  std::int64_t part_elements() const { return shape_.O * output_parts(); }
  std::int64_t flops() const;  // of a block

  // The parts of an output, for columns begin ... end of x. x, w and parts are of a block.
  template <typename T>
  void multiply(std::int64_t output, std::int64_t begin, std::int64_t end, const T* w, const T* x,
                T* parts) const;
  // Rows begin ... end of an output, of all its parts.
  template <typename T>
  void add(std::int64_t output, std::int64_t begin, std::int64_t end, const T* parts, T bias,
           bool relu, T* y) const;

 private:
  // What rows of y have in common that see the same rows of the kernel.
  struct RowClass {
    std::vector<std::int32_t> a_offsets, b_offsets;
  };
  struct Row {
    std::size_t row_class;
    std::int64_t first;  // row of x that its first kernel row sees
  };
  std::int64_t output_parts() const {
    return shape_.window.OH * shape_.window.KW * shape_.window.W * kBlockLanes;
  }

  const Conv2dShape shape_;
  const Layout x_, y_;
  std::vector<RowClass> classes_;
  std::vector<Row> rows_;
  std::vector<std::int64_t> columns_;
};

}  // namespace pynn
