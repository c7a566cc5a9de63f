#include "plan/fold.h"

#include <algorithm>

#include "plan/graph.h"
#include "threaded/conv2d.h"

namespace pynn {
namespace {

// A node as far as bands are concerned: `stride` rows of x become a row of y.
struct Step {
  int x, y;
  std::int64_t height = 0;  // of y
  std::int64_t stride = 1;
  std::int64_t work = 0;
};

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool pools_whole_rows(const Window& w) {
  return w.top == 0 && w.KH == w.stride_h && w.dilation_h == 1 && w.OH * w.KH <= w.H;
}

// Whether bands can go through this node; what it does then.
bool goes_through(const PlanGraph& graph, const PlanNode& node, std::vector<Step>& steps) {
  const auto height = [&](int value) { return graph.shapes[static_cast<std::size_t>(value)][2]; };
  if (const auto* const conv = std::get_if<Conv2dNode>(&node)) {
    const Window& w = conv->shape.window;
    if (w.stride_h != 1) return false;
    steps.push_back({conv->x, conv->y, w.OH, 1, threaded::work_of(conv->shape)});
    if (!conv->pool) return true;
    if (!pools_whole_rows(conv->pool->window)) return false;
    steps.push_back({conv->y, conv->pool->y, conv->pool->window.OH, conv->pool->window.KH});
    return true;
  }
  if (const auto* const pool = std::get_if<MaxPool2dNode>(&node)) {
    if (!pools_whole_rows(pool->window)) return false;
    steps.push_back({pool->x, pool->y, pool->window.OH, pool->window.KH});
    return true;
  }
  if (const auto* const pointwise = std::get_if<PointwiseNode>(&node)) {
    steps.push_back({pointwise->x, pointwise->y, height(pointwise->y)});
    return true;
  }
  return false;
}

}  // namespace

Fold fold_of(const PlanGraph& graph) {
  constexpr std::int64_t kLeastWork = 1 << 20;  // that a fold saves, in floating-point operations
  Fold best;
  if (graph.inputs.size() != 1 || graph.winograd) return best;
  int x = graph.inputs[0];
  const std::int64_t batch = graph.shapes[static_cast<std::size_t>(x)][0];
  const std::int64_t samples = batch % kBlockLanes;
  if (batch < kBlockLanes || samples == 0 || 2 * samples > kBlockLanes) return best;
  std::vector<int> uses(graph.shapes.size(), 0);
  for (const PlanNode& node : graph.nodes)
    for (const int input : ports(node).inputs)
      if (input >= 0) ++uses[static_cast<std::size_t>(input)];
  ++uses[static_cast<std::size_t>(graph.output)];
  std::size_t i = 0;
  if (const auto* const reshape = std::get_if<ReshapeNode>(&graph.nodes[0]);
      reshape && reshape->x == x && uses[static_cast<std::size_t>(x)] == 1) {
    x = reshape->y;
    ++i;
  }
  if (graph.shapes[static_cast<std::size_t>(x)].size() != 4) return best;
  const std::int64_t height = graph.shapes[static_cast<std::size_t>(x)][2];
  const std::int64_t most_bands = kBlockLanes / samples;
  std::vector<Step> steps;
  std::int64_t most_saved = kLeastWork;
  // Every end is tried: small images at the end of many layers would make bands of many empty rows.
  for (int y = x; i < graph.nodes.size(); ++i) {
    const PlanNode& node = graph.nodes[i];
    if (std::holds_alternative<FusedNode>(node)) {
      if (best.nodes == i) ++best.nodes;
      continue;
    }
    if (ports(node).inputs[0] != y || uses[static_cast<std::size_t>(y)] != 1 ||
        !goes_through(graph, node, steps))
      break;
    y = ports(node).output;
    // Rows of a band, from the last value back to the first, as many as the highest image needs.
    std::vector<std::int64_t> ratio(steps.size() + 1, 1);
    for (std::size_t k = steps.size(); k-- > 0;) ratio[k] = ratio[k + 1] * steps[k].stride;
    const auto rows_for = [&](std::int64_t of_image, std::int64_t each) {
      return up(of_image, most_bands * each);
    };
    std::int64_t last = rows_for(height, ratio[0]);
    for (std::size_t k = 0; k < steps.size(); ++k)
      last = std::max(last, rows_for(steps[k].height, ratio[k + 1]));
    double saved = 0;
    for (std::size_t k = 0; k < steps.size(); ++k)
      saved +=
          static_cast<double>(steps[k].work * kBlockLanes / batch) *
          (1 - static_cast<double>(last * ratio[k + 1]) / static_cast<double>(steps[k].height));
    if (saved < static_cast<double>(most_saved)) continue;
    most_saved = static_cast<std::int64_t>(saved);
    best = {i + 1, batch / kBlockLanes, samples, up(height, last * ratio[0]), x, y, {}};
    best.rows.resize(graph.shapes.size());
    best.rows[static_cast<std::size_t>(x)] = last * ratio[0];
    for (std::size_t k = 0; k < steps.size(); ++k) {
      const std::int64_t rows = last * ratio[k + 1];
      best.rows[static_cast<std::size_t>(steps[k].y)] = rows;
      best.bands = std::max(best.bands, up(steps[k].height, rows));
    }
  }
  return best;
}

Layout folded(Layout layout, const Fold& fold, std::int64_t rows) {
  layout.samples = fold.samples;
  layout.bands = fold.bands;
  layout.image_height = layout.height;
  layout.height = rows;
  layout.top = layout.bottom = 0;
  return layout;
}

namespace {

// Calls visit(image rows, offset) for each channel and row of the bands: the row of each lane's
// image, null where there is none, and where it lies in the bands.
template <typename Element, typename Visit>
void each_row(const Layout& layout, Element* images, const Visit& visit) {
  parallel_for(layout.channels * layout.height, layout.width * kBlockLanes * kWorkPerMove,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t unit = begin; unit < end; ++unit) {
                   const std::int64_t channel = unit / layout.height, row = unit % layout.height;
                   Element* lanes[kBlockLanes] = {};
                   for (std::int64_t band = 0; band < layout.bands; ++band) {
                     const std::int64_t h = band * layout.height + row;
                     for (std::int64_t i = 0; i < layout.samples && h < layout.image_height; ++i)
                       lanes[band * layout.samples + i] =
                           images + ((i * layout.channels + channel) * layout.image_height + h) *
                                        layout.width;
                   }
                   visit(lanes, channel * layout.plane() + layout.at(row, 0));
                 }
               });
}

}  // namespace

template <typename T>
void to_bands(const Layout& layout, const T* images, T* bands) {
  const auto& kernels = isa_table<T>().sample_blocks;
  each_row(layout, images, [&](const T* const* rows, std::int64_t offset) {
    kernels.gather(layout.width, rows, bands + offset);
  });
  join_bands(layout, bands);
}

template <typename T>
void from_bands(const Layout& layout, const T* bands, T* images) {
  const auto& kernels = isa_table<T>().sample_blocks;
  each_row(layout, images, [&](T* const* rows, std::int64_t offset) {
    kernels.scatter(layout.width, bands + offset, rows);
  });
}

template <typename T>
void join_bands(const Layout& layout, T* bands) {
  const std::int64_t height = layout.height, rows = layout.top + height + layout.bottom;
  parallel_for(
      layout.channels, rows * layout.row() * kWorkPerMove / 4,
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t unit = begin * rows; unit < end * rows; ++unit) {
          T* const plane = bands + unit / rows * layout.plane();
          const std::int64_t row = unit % rows - layout.top;
          // Bands for which this row lies within the image.
          const std::int64_t first = row < 0 ? up(-row, height) : 0;
          const std::int64_t last =
              std::clamp(up(layout.image_height - row, height), first, layout.bands);
          if (row >= 0 && row < height && last == layout.bands) continue;
          // It is a row of bands that lie so many further.
          const std::int64_t further = row < 0 ? -first : row / height;
          isa_table<T>().sample_blocks.take(
              layout.row() / kBlockLanes, first * layout.samples, last * layout.samples,
              plane + layout.at(row - further * height, -layout.left) + further * layout.samples,
              plane + layout.at(row, -layout.left));
        }
      });
}

#define PYNN_INSTANTIATE(T)                              \
  template void to_bands(const Layout&, const T*, T*);   \
  template void from_bands(const Layout&, const T*, T*); \
  template void join_bands(const Layout&, T*);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)
#undef PYNN_INSTANTIATE

}  // namespace pynn
