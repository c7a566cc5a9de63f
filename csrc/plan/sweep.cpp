#include "plan/sweep.h"

#include <algorithm>
#include <map>
#include <utility>

namespace pynn {
namespace {

using Taps = std::vector<std::int64_t>;

// Cuts the pixels into strips of about equal work, at whole tiles.
void cut(Sweep& sweep, std::int64_t strips, std::int64_t tile) {
  std::int64_t total = 0;
  for (const PixelClass& c : sweep.classes)
    total += static_cast<std::int64_t>(c.b_columns.size() * (c.a_offsets.size() + 2));
  sweep.flops = 2 * total * sweep.rows * kBlockLanes;
  sweep.strips.assign(1, {});
  std::int64_t done = 0;
  for (std::size_t i = 0; i < sweep.classes.size(); ++i) {
    const PixelClass& c = sweep.classes[i];
    const auto pixels = static_cast<std::int64_t>(c.b_columns.size());
    const auto cost = static_cast<std::int64_t>(c.a_offsets.size()) + 2;
    for (std::int64_t begin = 0; begin < pixels;) {
      const auto strip = static_cast<std::int64_t>(sweep.strips.size());
      const std::int64_t room = total * strip / strips - done;
      std::int64_t count = strip == strips ? pixels - begin : room / cost / tile * tile;
      count = std::min(std::max(count, std::min(tile, pixels - begin)), pixels - begin);
      sweep.strips.back().push_back({i, begin, begin + count});
      begin += count;
      done += count * cost;
      if (done >= total * strip / strips && strip < strips) sweep.strips.emplace_back();
    }
  }
  if (sweep.strips.back().empty()) sweep.strips.pop_back();
}

Taps range(std::int64_t count) {
  Taps taps(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) taps[static_cast<std::size_t>(i)] = i;
  return taps;
}

// Taps of the kernel that see the image from an output position.
Taps forward_taps(std::int64_t position, std::int64_t stride, std::int64_t before,
                  std::int64_t count, std::int64_t dilation, std::int64_t size) {
  Taps taps;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = position * stride - before + k * dilation;
    if (at >= 0 && at < size) taps.push_back(k);
  }
  return taps;
}

// Taps through which a pixel reaches an output position.
Taps backward_taps(std::int64_t pixel, std::int64_t stride, std::int64_t before, std::int64_t count,
                   std::int64_t dilation, std::int64_t positions) {
  Taps taps;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t at = pixel + before - k * dilation;
    if (at >= 0 && at % stride == 0 && at / stride < positions) taps.push_back(k);
  }
  return taps;
}

std::int64_t strips_of(const Sweep& sweep, const Layout& from, const Layout& to,
                       std::int64_t groups, std::int64_t element_bytes) {
  constexpr std::int64_t kCacheBytes = 128 * 1024;  // of what a strip reads, and of what it writes
  constexpr std::int64_t kEven = 4;                 // threads that a few strips are shared by
  std::int64_t pixels = 0;
  for (const PixelClass& c : sweep.classes) pixels += static_cast<std::int64_t>(c.b_columns.size());
  const std::int64_t bytes = std::max(from.block(), to.block()) / groups * element_bytes;
  const std::int64_t wanted =
      std::max(kUnits / std::max<std::int64_t>(to.blocks() * groups, 1), bytes / kCacheBytes);
  const std::int64_t most = std::max<std::int64_t>(pixels / 16, 1);
  const std::int64_t even = wanted > 1 ? (wanted + kEven - 1) / kEven * kEven : 1;
  return even <= most ? even : most < kEven ? most : most / kEven * kEven;
}

// Sorts the pixels of `to` into classes. rows_of(h) and columns_of(v) are the taps of a pixel,
// `first` the offset of what its first tap sees, and `next` how far from there another tap's is.
template <typename Rows, typename Columns, typename First, typename Next>
void classify(Sweep& sweep, const Window& w, std::int64_t channels, const Layout& to,
              const Rows& rows_of, const Columns& columns_of, const First& first,
              const Next& next) {
  std::map<std::pair<Taps, Taps>, std::size_t> known;
  for (std::int64_t h = 0; h < to.height; ++h)
    for (std::int64_t v = 0; v < to.width; ++v) {
      const Taps rows = rows_of(h), columns = columns_of(v);
      const auto [entry, fresh] = known.try_emplace({rows, columns}, sweep.classes.size());
      if (fresh) {
        PixelClass c;
        for (std::int64_t channel = 0; channel < channels; ++channel)
          for (const std::int64_t kh : rows)
            for (const std::int64_t kw : columns) {
              c.a_offsets.push_back(static_cast<std::int32_t>((channel * w.KH + kh) * w.KW + kw));
              c.b_offsets.push_back(
                  static_cast<std::int32_t>(next(channel, kh - rows[0], kw - columns[0])));
            }
        sweep.classes.push_back(std::move(c));
      }
      PixelClass& c = sweep.classes[entry->second];
      const bool empty = rows.empty() || columns.empty();
      c.b_columns.push_back(empty ? 0 : first(h, rows[0], v, columns[0]));
      c.c_columns.push_back(to.at(h, v));
    }
}

}  // namespace

void lay_in_panels(Sweep& sweep, std::int64_t most_rows) {
  const std::int64_t panels = (sweep.rows + most_rows - 1) / most_rows;
  sweep.panel_rows = (sweep.rows + panels - 1) / panels;
  for (PixelClass& c : sweep.classes)
    for (std::int32_t& offset : c.a_offsets) offset *= static_cast<std::int32_t>(sweep.panel_rows);
}

void cut_into_bands(Sweep& sweep, const Layout& to, std::int64_t rows) {
  sweep.strips.clear();
  for (std::int64_t row = 0; row < to.height; row += rows) {
    const std::int64_t begin = to.at(row, 0), end = to.at(std::min(row + rows, to.height), 0);
    sweep.strips.emplace_back();
    for (std::size_t i = 0; i < sweep.classes.size(); ++i) {
      const std::vector<std::int64_t>& pixels = sweep.classes[i].c_columns;  // in order
      const auto at = [&](std::int64_t offset) {
        return std::lower_bound(pixels.begin(), pixels.end(), offset) - pixels.begin();
      };
      if (at(begin) < at(end)) sweep.strips.back().push_back({i, at(begin), at(end)});
    }
  }
}

Sweep forward_sweep(const Conv2dShape& s, const Layout& x, const Layout& y, std::int64_t tile,
                    std::int64_t element_bytes) {
  const Window& w = s.window;
  Sweep sweep;
  const std::int64_t channels = s.C / s.groups;
  sweep.rows = s.O / s.groups;
  sweep.a_row = channels * w.KH * w.KW;
  std::int64_t seen = 0;
  for (std::int64_t oh = 0; oh < w.OH; ++oh)
    for (std::int64_t ow = 0; ow < w.OW; ++ow)
      seen += static_cast<std::int64_t>(
          forward_taps(oh, w.stride_h, w.top, w.KH, w.dilation_h, w.H).size() *
          forward_taps(ow, w.stride_w, w.left, w.KW, w.dilation_w, w.W).size());
  // Where a pixel takes little work, and few taps fall into the halo, multiplying its zeros costs
  // less than many small classes.
  const bool whole = sweep.a_row < 24 && static_cast<double>(seen) >
                                             0.85 * static_cast<double>(w.OH * w.OW * w.KH * w.KW);
  classify(
      sweep, w, channels, y,
      [&](std::int64_t oh) {
        return whole || x.is_folded()
                   ? range(w.KH)
                   : forward_taps(oh, w.stride_h, w.top, w.KH, w.dilation_h, w.H);
      },
      [&](std::int64_t ow) {
        return whole ? range(w.KW) : forward_taps(ow, w.stride_w, w.left, w.KW, w.dilation_w, w.W);
      },
      [&](std::int64_t oh, std::int64_t kh, std::int64_t ow, std::int64_t kw) {
        return x.at(oh * w.stride_h - w.top + kh * w.dilation_h,
                    ow * w.stride_w - w.left + kw * w.dilation_w);
      },
      [&](std::int64_t channel, std::int64_t kh, std::int64_t kw) {
        return channel * x.plane() + kh * w.dilation_h * x.row() + kw * w.dilation_w * kBlockLanes;
      });
  cut(sweep, strips_of(sweep, x, y, s.groups, element_bytes), tile);
  return sweep;
}

Sweep backward_sweep(const Conv2dShape& s, const Layout& dx, const Layout& dy, std::int64_t tile,
                     std::int64_t element_bytes) {
  const Window& w = s.window;
  Sweep sweep;
  const std::int64_t outputs = s.O / s.groups;
  sweep.rows = s.C / s.groups;
  sweep.a_row = outputs * w.KH * w.KW;
  classify(
      sweep, w, outputs, dx,
      [&](std::int64_t h) {
        return dy.is_folded() ? range(w.KH)
                              : backward_taps(h, w.stride_h, w.top, w.KH, w.dilation_h, w.OH);
      },
      [&](std::int64_t v) {
        return backward_taps(v, w.stride_w, w.left, w.KW, w.dilation_w, w.OW);
      },
      [&](std::int64_t h, std::int64_t kh, std::int64_t v, std::int64_t kw) {
        return dy.at((h + w.top - kh * w.dilation_h) / w.stride_h,
                     (v + w.left - kw * w.dilation_w) / w.stride_w);
      },
      [&](std::int64_t output, std::int64_t kh, std::int64_t kw) {
        return output * dy.plane() - kh * w.dilation_h / w.stride_h * dy.row() -
               kw * w.dilation_w / w.stride_w * kBlockLanes;
      });
  cut(sweep, strips_of(sweep, dy, dx, s.groups, element_bytes), tile);
  return sweep;
}

}  // namespace pynn
