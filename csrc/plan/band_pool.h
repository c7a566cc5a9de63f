// A max pool that the convolution before it runs, band by band. A band are the rows of its image
// that some rows of windows cover: they are pooled, and get their gradient, while they are in the
// first-level cache, and the image as a whole lies nowhere.
#pragma once

#include <algorithm>

#include "plan/max_pool2d_stage.h"

namespace pynn {

// Whether each row of windows covers rows of the image that no other does, no row is left out, and
// a band is small enough. channels: of the image.
inline bool pools_in_bands(const Window& w, std::int64_t channels, std::int64_t element_bytes) {
  constexpr std::int64_t kMostBytes = 64 * 1024;
  return w.KH == w.stride_h && w.top == 0 && w.OH * w.KH == w.H && w.KH * w.KW <= kNoPixel &&
         w.KH * w.W * channels * kBlockLanes * element_bytes <= kMostBytes;
}

template <typename T>
class BandPool {
 public:
  // image: the layout of what the convolution gives.
  BandPool(Builder<T>& builder, const MaxPool2dNode& node, bool of_relu, const Layout& image)
      : window_(node.window),
        of_relu_(of_relu),
        image_(image),
        band_(layout_of_band(node.window, image)),
        y_(builder.value(node.y).layout),
        dy_(builder.value(node.y).gradient_layout),
        y_data_(builder.value(node.y).data),
        dy_data_(builder.value(node.y).gradient) {
    if (builder.backward)
      codes_ = builder.arena.add(dy_.size(), builder.segment, builder.backward_time());
  }

  std::int64_t bands() const { return (image_.height + band_.height - 1) / band_.height; }
  std::int64_t first_row(std::int64_t band) const { return band * band_.height; }
  std::int64_t pixels(std::int64_t band) const { return rows(band) * image_.width; }
  const Layout& layout() const { return band_; }  // of a band

  std::string what() const { return message("max_pool2d ", window_.KH, " x ", window_.KW); }

  // y of these channels of a block, from a band of them.
  void forward(const Run<T>& run, BlockRange blocks, std::int64_t block, std::int64_t channel,
               std::int64_t channels, std::int64_t band, const T* x) const {
    const Window window = window_of(rows(band));
    const std::int64_t row = first_row(band) / window.KH;
    T* const y = run.at(y_data_, blocks) + y_.at(row, 0);
    for (std::int64_t i = 0; i < channels; ++i) {
      const std::int64_t plane = block * y_.channels + channel + i;
      isa_table<T>().max_pool2d.forward_block(window, x + i * band_.plane(), band_.row(),
                                              y + plane * y_.plane(), y_.row(), of_relu_,
                                              codes_ < 0 ? nullptr : codes(run, plane, row));
    }
  }

  // The reverse: a band of the image's gradient.
  void backward(const Run<T>& run, BlockRange blocks, std::int64_t block, std::int64_t channel,
                std::int64_t channels, std::int64_t band, T* dx) const {
    const std::int64_t row = first_row(band) / window_.KH;
    for (std::int64_t i = 0; i < channels; ++i)
      backward_rows(run, blocks, block * y_.channels + channel + i, row, rows(band),
                    dx + i * band_.plane());
  }

  // The gradient of the image of these blocks.
  void backward(const Run<T>& run, BlockRange blocks, const Layout& layout, T* dx) const {
    const std::int64_t first = blocks.begin * y_.channels;
    parallel_for(blocks.count() * y_.channels, layout.plane() * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t plane = first + begin; plane < first + end; ++plane)
                     backward_rows(run, blocks, plane, 0, image_.height,
                                   dx + plane * layout.plane() + layout.at(0, 0));
                 });
  }

 private:
  // As many rows of windows as stay near; fewer where there would be too few bands to share.
  static Layout layout_of_band(const Window& w, const Layout& image) {
    constexpr std::int64_t kNearBytes = 32 * 1024, kShares = 8;
    const std::int64_t windows =
        w.KH * image.width * image.channels * image.lanes * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t most = std::min(kNearBytes / windows, w.OH * image.blocks() / kShares);
    Layout band = image;
    band.samples = band.lanes;
    band.height = std::clamp(most, std::int64_t{1}, w.OH) * w.KH;
    spread(band);
    return band;
  }

  std::int64_t rows(std::int64_t band) const {
    return std::min(band_.height, image_.height - first_row(band));
  }

  // Of so many rows of the image.
  Window window_of(std::int64_t rows) const {
    Window window = window_;
    window.H = rows;
    window.OH = rows / window.KH;
    return window;
  }

  // Of a row of windows.
  std::uint8_t* codes(const Run<T>& run, std::int64_t plane, std::int64_t row) const {
    return reinterpret_cast<std::uint8_t*>(run.memory + run.arena->offset(codes_)) +
           plane * dy_.plane() + dy_.at(row, 0);
  }

  void backward_rows(const Run<T>& run, BlockRange blocks, std::int64_t plane, std::int64_t row,
                     std::int64_t rows, T* dx) const {
    isa_table<T>().max_pool2d.backward_block(
        window_of(rows), run.at(dy_data_, blocks) + plane * dy_.plane() + dy_.at(row, 0),
        codes(run, plane, row), false, dx);
  }

  const Window window_;
  const bool of_relu_;
  const Layout image_, band_, y_, dy_;
  const int y_data_, dy_data_;
  int codes_ = -1;  // which pixel of its window each maximum is
};

}  // namespace pynn
