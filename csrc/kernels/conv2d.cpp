// Every pass is products of matrices, over blocks of columns (forward with strides of 1 reads the
// padded image instead, see Sizes::flat): a column is one position of the
// window in one sample, and a row of the column matrix is one (channel, kh, kw). Only a block of
// that matrix exists at a time, in the second-level cache.
#include "kernels/conv2d.h"

#include "kernels/depthwise.h"
#include "kernels/gemm.h"
#include "kernels/padded.h"
#include "kernels/tile.h"
#include "simd/sum.h"

namespace pynn::PYNN_ISA {
namespace {

constexpr std::int64_t kBlockColumns = 512;
constexpr std::int64_t kBlockRows = 256;
// Between two rows of a block: not a power of 2, whose rows would all compete for the same few
// lines of the cache.
constexpr std::int64_t kRowStride = kBlockColumns + 16;
constexpr std::int64_t kUnits =
    8;  // that a batch is cut into, if there are samples enough, for the threads
constexpr std::int64_t kMaxShards = 16;
constexpr std::int64_t kShardElements =
    1 << 22;  // of all the shards together, if there is more than one
constexpr std::int64_t kGatherElements =
    1 << 18;  // of dy or y, where a block has more than one sample

PYNN_INLINE std::int64_t at_least_one(std::int64_t value) { return value > 1 ? value : 1; }
PYNN_INLINE std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr int kFlatTile = 2 * kLanes<float>;  // positions of a tile, at most
constexpr std::int64_t kPackedWeights = kGemmScratch - 64;

PYNN_INLINE std::int64_t round_up(std::int64_t count) {
  return ceil_divide(count, kFlatTile) * kFlatTile;
}

// The sizes that follow from a shape, for one group.
struct Sizes {
  explicit Sizes(const Conv2dShape& s)
      : channels(s.C / s.groups),
        outputs(s.O / s.groups),
        kernel(s.window.KH * s.window.KW),
        rows(channels * kernel),
        positions(s.window.OH * s.window.OW),
        pixels(s.window.H * s.window.W) {
    // Small images share a block, yet a batch should leave enough blocks for the threads.
    std::int64_t samples = at_least_one(kBlockColumns / at_least_one(positions));
    samples = smaller(samples, at_least_one(kGatherElements / at_least_one(outputs * positions)));
    shard_block = samples;
    block = smaller(samples, at_least_one(s.N * s.groups / kUnits));
    sample_blocks = ceil_divide(s.N, block);
    const Window& w = s.window;
    block_positions =
        w.OW > 0 && w.OW <= kBlockColumns ? kBlockColumns / w.OW * w.OW : kBlockColumns;
    position_blocks = at_least_one(ceil_divide(positions, block_positions));
    channel_chunk = at_least_one(kBlockRows / kernel);
    channel_chunks = ceil_divide(channels, channel_chunk);
    row_chunks = ceil_divide(rows, kBlockRows);
    panels = ceil_divide(outputs, kRows);
    // What there is of few samples is shared by outputs.
    output_parts = sample_blocks * s.groups * position_blocks < kUnits / 2
                       ? at_least_one(smaller(panels, kUnits / 2))
                       : 1;
    shards =
        smaller(s.N, smaller(kMaxShards, at_least_one(kShardElements / at_least_one(s.O * rows))));
    pointwise = kernel == 1 && w.stride_h == 1 && w.stride_w == 1 && w.top == 0 && w.bottom == 0 &&
                w.left == 0 && w.right == 0;
    pitch = w.W + w.left + w.right;
    const std::int64_t block_rows = block_positions / at_least_one(w.OW);
    const std::int64_t seen_rows =
        (w.OH < block_rows ? w.OH : block_rows) + (w.KH - 1) * w.dilation_h;
    seen_pixels = seen_rows * pitch;
    flat_positions = round_up(smaller(w.OH, block_rows) * pitch);
    const std::int64_t elements =
        round_up(channels * seen_pixels) + kFlatTile + kRows * flat_positions + 2 * rows + 16;
    depthwise = is_depthwise(s);
    flat = !pointwise && w.stride_h == 1 && w.stride_w == 1 && w.OW <= kBlockColumns &&
           4 * w.OW >= 3 * pitch && rows > 0 && w.OW > 0 && rows * kRows <= kPackedWeights &&
           elements <= kBlockRows * kRowStride;
  }

  std::int64_t channels, outputs, kernel, rows, positions, pixels;
  std::int64_t block, shard_block;  // samples in a block of columns
  std::int64_t sample_blocks, position_blocks, channel_chunk, channel_chunks, row_chunks, shards;
  std::int64_t panels, output_parts;  // outputs of a tile; units into which forward cuts these
  std::int64_t block_positions;  // of one sample in a block: whole rows, where that is possible
  bool pointwise;                // the column matrix is the image itself
  bool depthwise;                // there are no products: see depthwise.h
  // Forward without a column matrix: rows of the output are laid `pitch` apart, as those of the
  // padded image are; then a row of the column matrix is a run of the image.
  bool flat;
  std::int64_t pitch, seen_pixels, flat_positions;
};

// Some columns: either positions of one sample, or all positions of several.
struct Columns {
  std::int64_t first_sample, samples, first_position, positions;
  std::int64_t count() const { return samples * positions; }
};

Columns columns_of(const Sizes& z, std::int64_t first_sample, std::int64_t samples,
                   std::int64_t position_block) {
  const std::int64_t first = position_block * z.block_positions;
  return {first_sample, samples, first, smaller(z.positions - first, z.block_positions)};
}

// One row of the column matrix: positions ow_begin ... ow_end of a row of the output see pixels
// inside the image's row.
struct Tap {
  std::int64_t channel, kh, kw, ow_begin, ow_end;
};

PYNN_INLINE void set_columns(const Window& w, Tap& tap) {
  const std::int64_t first = tap.kw * w.dilation_w - w.left;  // the pixel that ow = 0 sees
  const std::int64_t stride = w.stride_w;
  const std::int64_t before = first < 0 ? -first : 0, until = first < w.W ? w.W - first : 0;
  tap.ow_begin = smaller(w.OW, stride == 1 ? before : ceil_divide(before, stride));
  tap.ow_end = smaller(w.OW, stride == 1 ? until : ceil_divide(until, stride));
  if (tap.ow_end < tap.ow_begin) tap.ow_end = tap.ow_begin;
}

PYNN_INLINE Tap tap_of(const Window& w, std::int64_t row) {
  const std::int64_t kernel = w.KH * w.KW;
  Tap tap{row / kernel, row % kernel / w.KW, row % w.KW, 0, 0};
  set_columns(w, tap);
  return tap;
}

// The tap of the next row.
PYNN_INLINE void advance(const Window& w, Tap& tap) {
  if (++tap.kw == w.KW) {
    tap.kw = 0;
    if (++tap.kh == w.KH) {
      tap.kh = 0;
      ++tap.channel;
    }
  }
  set_columns(w, tap);
}

// Calls visit(ow, count, offset, pixels) for each run of positions in one row of the output: ow ...
// ow + count, which lie at `offset` in the line; `pixels` is where the row of the image begins that
// they see, or -1 where that is padding.
template <typename Visit>
PYNN_INLINE void each_run(const Window& w, const Columns& c, const Tap& tap, const Visit& visit) {
  std::int64_t oh = 0, ow = 0;
  if (c.first_position > 0) oh = c.first_position / w.OW, ow = c.first_position % w.OW;
  std::int64_t h = oh * w.stride_h - w.top + tap.kh * w.dilation_h;
  for (std::int64_t offset = 0; offset < c.positions; h += w.stride_h) {
    const std::int64_t count = smaller(w.OW - ow, c.positions - offset);
    visit(ow, count, offset, h >= 0 && h < w.H ? h * w.W : -1);
    offset += count;
    ow = 0;
  }
}

PYNN_INLINE std::int64_t clamp(std::int64_t value, std::int64_t low, std::int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// One row of the column matrix for one sample: image (H, W) -> line (c.positions,). Whole vectors
// are written, up to 15 elements beyond the end of each run: the next run, or the gap between two
// rows of the matrix, takes them. x_end is where reading must stop.
template <typename T>
PYNN_INLINE void gather_line(const Window& w, const Columns& c, const Tap& tap, const T* image,
                             const T* x_end, T* line) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t shift = tap.kw * w.dilation_w - w.left;
  each_run(w, c, tap,
           [&](std::int64_t ow, std::int64_t count, std::int64_t offset, std::int64_t pixels) {
             T* const to = line + offset;
             const std::int64_t begin = pixels < 0 ? count : clamp(tap.ow_begin - ow, 0, count);
             const std::int64_t end = pixels < 0 ? count : clamp(tap.ow_end - ow, begin, count);
             for (std::int64_t i = 0; i < begin; i += lanes) store<T>(to + i, Vector<T>{});
             if (begin < end) {
               const T* const from = image + pixels + (ow + begin) * w.stride_w + shift;
               if (w.stride_w != 1)
                 for (std::int64_t i = 0; i < end - begin; ++i)
                   to[begin + i] = from[i * w.stride_w];
               else if (x_end - from < end - begin + lanes)
                 copy_run(end - begin, from, to + begin);
               else
                 for (std::int64_t i = 0; i < end - begin; i += lanes)
                   store<T>(to + begin + i, load(from + i));
             }
             for (std::int64_t i = end; i < count; i += lanes) store<T>(to + i, Vector<T>{});
           });
}

// The reverse: adds a line to the pixels it came from.
template <typename T>
PYNN_INLINE void scatter_line(const Window& w, const Columns& c, const Tap& tap, const T* line,
                              T* image) {
  constexpr int lanes = kLanes<T>;
  const std::int64_t shift = tap.kw * w.dilation_w - w.left;
  const T* const image_end = image + w.H * w.W;
  each_run(w, c, tap,
           [&](std::int64_t ow, std::int64_t count, std::int64_t offset, std::int64_t pixels) {
             if (pixels < 0) return;
             const std::int64_t begin = clamp(tap.ow_begin - ow, 0, count);
             const std::int64_t end = clamp(tap.ow_end - ow, begin, count);
             const T* const from = line + offset + begin;
             T* const to = image + pixels + (ow + begin) * w.stride_w + shift;
             const std::int64_t size = end - begin;
             std::int64_t i = 0;
             if (w.stride_w == 1) {
               for (; i + lanes <= size; i += lanes)
                 store<T>(to + i, load(to + i) + load(from + i));
               if (i < size && image_end - (to + i) >= lanes) {
                 const Vector<T> old = load(to + i);
                 store<T>(to + i, first_lanes<T>(size - i, old + load(from + i), old));
                 i = size;
               }
             }
             for (; i < size; ++i) to[i * w.stride_w] += from[i];
           });
}

// Rows first ... first + count of the column matrix of group g -> matrix (count, kRowStride).
template <typename T>
void gather_rows(const Conv2dShape& s, const Sizes& z, const Columns& c, std::int64_t g,
                 std::int64_t first, std::int64_t count, const T* x, T* matrix) {
  Tap tap = tap_of(s.window, first);
  for (std::int64_t row = 0; row < count; ++row, advance(s.window, tap)) {
    for (std::int64_t n = 0; n < c.samples; ++n)
      gather_line(s.window, c, tap,
                  x + ((c.first_sample + n) * s.C + g * z.channels + tap.channel) * z.pixels,
                  x + s.N * s.C * z.pixels, matrix + row * kRowStride + n * c.positions);
  }
}

// The block of dy of group g as a matrix (outputs, columns): dy itself for one sample, otherwise a
// copy.
template <typename T>
const T* output_block(const Conv2dShape& s, const Sizes& z, const Columns& c, std::int64_t g,
                      const T* dy, T* copy, std::int64_t& row_stride) {
  const T* first = dy + (c.first_sample * s.O + g * z.outputs) * z.positions + c.first_position;
  if (c.samples == 1) {
    row_stride = z.positions;
    return first;
  }
  row_stride = c.count();
  for (std::int64_t o = 0; o < z.outputs; ++o)
    for (std::int64_t n = 0; n < c.samples; ++n)
      copy_run(z.positions, first + (n * s.O + o) * z.positions,
               copy + o * row_stride + n * z.positions);
  return copy;
}

// Where the parts of the scratch lie.
template <typename T>
struct Parts {
  explicit Parts(T* scratch)
      : product(scratch),
        matrix(scratch + kGemmScratch),
        outputs(matrix + kBlockRows * kRowStride) {}
  T *product, *matrix, *outputs;
  // At the end of the matrix, aligned; only without a column matrix.
  T* offsets(std::int64_t rows) const {
    return outputs - ceil_divide(rows * std::int64_t{sizeof(std::int64_t)}, 64) *
                         (64 / std::int64_t{sizeof(T)});
  }
};

Conv2dUnits units(const Conv2dShape& s) {
  const Sizes z(s);
  Conv2dUnits u;
  u.forward = z.sample_blocks * s.groups * z.position_blocks * z.output_parts;
  u.backward_input = z.sample_blocks * s.groups * z.channel_chunks;
  u.backward_weight = z.shards * s.groups * z.row_chunks;
  u.shards = z.shards;
  u.scratch = kGemmScratch + kBlockRows * kRowStride +
              (z.shard_block > 1 ? z.shard_block * z.outputs * z.positions : 0);
  return u;
}

// c (R, V vectors) = start (R,) + A (depth, R) B, where A is packed and row k of B is at
// image + offsets[k].
template <typename T, int R, int V>
void flat_tile(std::int64_t depth, const T* a, const T* image, const std::int64_t* offsets,
               const T* start, T* c, std::int64_t c_row) {
  constexpr int lanes = kLanes<T>;
  Vector<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const Vector<T> value = broadcast(start ? start[r] : T(0));
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = value;
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    const T* const b = image + offsets[k];
    Vector<T> row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load(b + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = broadcast(a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(value, row[v], sum[r][v]);
    }
    a += R;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store<T>(c + r * c_row + v * lanes, sum[r][v]);
}

template <typename T>
using FlatTile = void (*)(std::int64_t, const T*, const T*, const std::int64_t*, const T*, T*,
                          std::int64_t);

template <typename T, int V, int R = kRows>
FlatTile<T> find_flat_tile(std::int64_t rows) {
  if constexpr (R == 1)
    return flat_tile<T, 1, V>;
  else
    return rows == R ? flat_tile<T, R, V> : find_flat_tile<T, V, R - 1>(rows);
}

// Panels first_panel ... end_panel of the outputs.
template <typename T>
void forward_flat(const Conv2dShape& s, const Sizes& z, const Columns& c, std::int64_t g,
                  std::int64_t first_panel, std::int64_t end_panel, const T* x, const T* w,
                  const T* b, T* y, const Parts<T>& parts) {
  constexpr int lanes = kLanes<T>;
  const Window& window = s.window;
  const std::int64_t top = c.first_position / window.OW, output_rows = c.positions / window.OW;
  const std::int64_t seen_rows = output_rows + (window.KH - 1) * window.dilation_h;
  const std::int64_t count = (output_rows - 1) * z.pitch + window.OW;
  T* const image = parts.matrix;
  T* const result = image + round_up(z.channels * z.seen_pixels) + kFlatTile;
  auto* const offsets = reinterpret_cast<std::int64_t*>(parts.offsets(z.rows));
  Tap tap = tap_of(window, 0);
  for (std::int64_t row = 0; row < z.rows; ++row, advance(window, tap))
    offsets[row] = tap.channel * z.seen_pixels + tap.kh * window.dilation_h * z.pitch +
                   tap.kw * window.dilation_w;

  const bool pack_once = z.rows * z.outputs <= kPackedWeights;
  const T* const w_group = w + g * z.outputs * z.rows;
  for (std::int64_t n = 0; n < c.samples; ++n) {
    const std::int64_t sample = c.first_sample + n;
    for (std::int64_t channel = 0; channel < z.channels; ++channel)
      copy_padded(window, z.pitch, top, seen_rows,
                  x + (sample * s.C + g * z.channels + channel) * z.pixels,
                  image + channel * z.seen_pixels);
    for (std::int64_t panel = first_panel; panel < end_panel; ++panel) {
      const std::int64_t first = z.outputs * panel / z.panels;
      const std::int64_t outputs = z.outputs * (panel + 1) / z.panels - first;
      T* const packed = parts.product + (pack_once ? first * z.rows : 0);
      if (n == 0 || !pack_once)
        pack(outputs, outputs, z.rows, w_group + first * z.rows, z.rows, std::int64_t{1}, packed);
      const FlatTile<T> narrow = find_flat_tile<T, 1>(outputs);
      const FlatTile<T> normal = find_flat_tile<T, 2>(outputs);
      const T* const start = b ? b + g * z.outputs + first : nullptr;
      for (std::int64_t position = 0; position < count; position += 2 * lanes)
        (count - position > lanes ? normal : narrow)(z.rows, packed, image + position, offsets,
                                                     start, result + position, z.flat_positions);
      T* const y_panel =
          y + (sample * s.O + g * z.outputs + first) * z.positions + c.first_position;
      for (std::int64_t o = 0; o < outputs; ++o)
        for (std::int64_t row = 0; row < output_rows; ++row)
          copy_run(window.OW, result + o * z.flat_positions + row * z.pitch,
                   y_panel + o * z.positions + row * window.OW);
    }
  }
}

template <typename T>
void forward(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* x, const T* w,
             const T* b, T* y, T* scratch) {
  const Sizes z(s);
  const Parts<T> parts(scratch);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t part = unit % z.output_parts, block = unit / z.output_parts;
    const std::int64_t g = block / z.position_blocks % s.groups;
    const std::int64_t first = block / (z.position_blocks * s.groups) * z.block;
    const Columns c =
        columns_of(z, first, smaller(s.N - first, z.block), block % z.position_blocks);
    if (z.depthwise && z.block_positions % s.window.OW == 0) {
      for (std::int64_t n = first; n < first + c.samples; ++n)
        pynn::PYNN_ISA::depthwise(s.window, c.first_position / s.window.OW,
                                  (c.first_position + c.positions) / s.window.OW,
                                  x + (n * s.C + g) * z.pixels, w + g * z.rows, b ? b[g] : T(0),
                                  y + (n * s.O + g) * z.positions, parts.matrix);
      continue;
    }
    const std::int64_t first_panel = z.panels * part / z.output_parts;
    const std::int64_t end_panel = z.panels * (part + 1) / z.output_parts;
    if (z.flat) {
      forward_flat(s, z, c, g, first_panel, end_panel, x, w, b, y, parts);
      continue;
    }
    const std::int64_t output = z.panels > 0 ? z.outputs * first_panel / z.panels : 0;
    const std::int64_t outputs =
        z.panels > 0 ? z.outputs * end_panel / z.panels - output : z.outputs;
    T* const y_block = y + (first * s.O + g * z.outputs + output) * z.positions + c.first_position;
    const T* const w_block = w + (g * z.outputs + output) * z.rows;
    const bool whole = c.samples == 1;

    Gemm<T> product;
    product.M = outputs;
    product.N = c.count();
    product.a_row = z.rows;
    product.a_column = 1;
    product.b_column = 1;
    product.c = whole ? y_block : parts.outputs;
    product.c_row = whole ? z.positions : product.N;
    product.row_start = b ? b + g * z.outputs + output : nullptr;
    if (whole && z.pointwise) {
      product.K = z.rows;
      product.a = w_block;
      product.b = x + (first * s.C + g * z.channels) * z.pixels + c.first_position;
      product.b_row = z.pixels;
      gemm(product, parts.product);
      continue;
    }
    product.b = parts.matrix;
    product.b_row = kRowStride;
    product.b_padded = true;
    std::int64_t row = 0;
    do {  // once even where there are no channels: y gets its bias
      product.K = smaller(z.rows - row, kBlockRows);
      product.a = w_block + row;
      product.accumulate = row > 0;
      gather_rows(s, z, c, g, row, product.K, x, parts.matrix);
      gemm(product, parts.product);
      row += product.K;
    } while (row < z.rows);
    if (whole) continue;
    for (std::int64_t n = 0; n < c.samples; ++n)
      for (std::int64_t o = 0; o < outputs; ++o)
        copy_run(z.positions, parts.outputs + o * product.N + n * z.positions,
                 y_block + (n * s.O + o) * z.positions);
  }
}

// Times the zeros around an image, infinity would be NaN.
template <typename T>
bool all_finite(std::int64_t count, const T* w) {
  bool finite = true;
  for (std::int64_t i = 0; i < count; ++i) finite = finite && w[i] - w[i] == T(0);
  return finite;
}

template <typename T>
void backward_input(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                    const T* w, T* dx, T* scratch) {
  const Sizes z(s);
  const Parts<T> parts(scratch);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t channel = unit % z.channel_chunks * z.channel_chunk;
    const std::int64_t channels = smaller(z.channels - channel, z.channel_chunk);
    const std::int64_t g = unit / z.channel_chunks % s.groups;
    const std::int64_t first = unit / (z.channel_chunks * s.groups) * z.block;
    const std::int64_t samples = smaller(s.N - first, z.block);
    if (z.depthwise && all_finite(z.rows, w + g * z.rows)) {
      for (std::int64_t n = first; n < first + samples; ++n)
        depthwise_backward_input(s.window, dy + (n * s.O + g) * z.positions, w + g * z.rows,
                                 dx + (n * s.C + g) * z.pixels, parts.matrix);
      continue;
    }
    const std::int64_t row_end = (channel + channels) * z.kernel;
    T* const dx_group = dx + (first * s.C + g * z.channels) * z.pixels;
    const bool whole = samples == 1 && z.pointwise;
    if (!whole)
      for (std::int64_t n = 0; n < samples; ++n)
        for (std::int64_t i = channel * z.pixels; i < (channel + channels) * z.pixels; ++i)
          dx_group[n * s.C * z.pixels + i] = T(0);

    for (std::int64_t block = 0; block < z.position_blocks; ++block) {
      const Columns c = columns_of(z, first, samples, block);
      Gemm<T> product;
      product.N = c.count();
      product.K = z.outputs;
      product.a_row = 1;
      product.a_column = z.rows;
      product.b = output_block(s, z, c, g, dy, parts.outputs, product.b_row);
      product.b_column = 1;
      for (std::int64_t row = channel * z.kernel; row < row_end; row += kBlockRows) {
        product.M = smaller(row_end - row, kBlockRows);
        product.a = w + g * z.outputs * z.rows + row;
        product.c = whole ? dx_group + row * z.pixels + c.first_position : parts.matrix;
        product.c_row = whole ? z.pixels : kRowStride;
        gemm(product, parts.product);
        if (whole) continue;
        Tap tap = tap_of(s.window, row);
        for (std::int64_t i = 0; i < product.M; ++i, advance(s.window, tap)) {
          for (std::int64_t n = 0; n < samples; ++n)
            scatter_line(s.window, c, tap, parts.matrix + i * kRowStride + n * c.positions,
                         dx_group + (n * s.C + tap.channel) * z.pixels);
        }
      }
    }
  }
}

template <typename T>
void backward_weight(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy,
                     const T* x, T* shards, T* scratch) {
  const Sizes z(s);
  const Parts<T> parts(scratch);
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t row = unit % z.row_chunks * kBlockRows;
    const std::int64_t g = unit / z.row_chunks % s.groups;
    const std::int64_t shard = unit / (z.row_chunks * s.groups);
    const std::int64_t sample_end = s.N * (shard + 1) / z.shards;
    if (z.depthwise) {
      const std::int64_t n = s.N * shard / z.shards;
      depthwise_backward_weight(s.window, sample_end - n, dy + (n * s.O + g) * z.positions,
                                s.O * z.positions, x + (n * s.C + g) * z.pixels, s.C * z.pixels,
                                shards + (shard * s.O + g) * z.rows, parts.matrix);
      continue;
    }

    Gemm<T> product;
    product.M = z.outputs;
    product.N = smaller(z.rows - row, kBlockRows);
    product.a_column = 1;
    product.b = parts.matrix;
    product.b_row = 1;
    product.b_column = kRowStride;
    product.c = shards + (shard * s.O + g * z.outputs) * z.rows + row;
    product.c_row = z.rows;
    std::int64_t samples;
    for (std::int64_t n = s.N * shard / z.shards; n < sample_end; n += samples) {
      samples = smaller(sample_end - n, z.shard_block);
      for (std::int64_t block = 0; block < z.position_blocks; ++block) {
        const Columns c = columns_of(z, n, samples, block);
        gather_rows(s, z, c, g, row, product.N, x, parts.matrix);
        product.K = c.count();
        product.a = output_block(s, z, c, g, dy, parts.outputs, product.a_row);
        gemm(product, parts.product);
        product.accumulate = true;
      }
    }
  }
}

template <typename T>
void combine(std::int64_t count, std::int64_t size, std::int64_t begin, std::int64_t end,
             const T* shards, T* dw) {
  for (std::int64_t i = begin; i < end; ++i) dw[i] = shards[i];
  for (std::int64_t shard = 1; shard < count; ++shard)
    for (std::int64_t i = begin; i < end; ++i) dw[i] += shards[shard * size + i];
}

template <typename T>
void backward_bias(const Conv2dShape& s, std::int64_t begin, std::int64_t end, const T* dy, T* db) {
  const std::int64_t positions = s.window.OH * s.window.OW;
  for (std::int64_t o = begin; o < end; ++o) {
    double sum = 0;
    for (std::int64_t n = 0; n < s.N; ++n)
      sum += sum_in_double(positions, dy + (n * s.O + o) * positions);
    db[o] = static_cast<T>(sum);
  }
}

}  // namespace

void get(Conv2dKernels<float>& k) {
  k = {units,          forward<float>,      backward_input<float>, backward_weight<float>,
       combine<float>, backward_bias<float>};
}
void get(Conv2dKernels<double>& k) {
  k = {units,           forward<double>,      backward_input<double>, backward_weight<double>,
       combine<double>, backward_bias<double>};
}

}  // namespace pynn::PYNN_ISA
