// Two ways to a convolution and its input gradient, which is a convolution of dy:
//
// * Without tensor cores, every thread has its position and sample (or four of them) and a few
//   output channels in registers; the weights come through shared memory, the values straight from
//   the image, where neighbouring lanes read neighbouring samples. Nothing is unfolded and no lane
//   is wasted on channels that are not there. Where results are few, teams of a block share their
//   terms. The order of a sum is the shape's, whatever the number of channels and positions that a
//   thread has.
// * With tensor cores, a product (product.h) whose second factor is gathered from the image.
//
// The weight gradient is a product over positions and samples, in shards.
#include "cuda/kernels/conv2d.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cuda/kernels/bias.h"
#include "cuda/kernels/product.h"

namespace pynn::cuda {
namespace {

// One of the two directions: forward, the image is x and the positions are those of y; backward,
// the image is dy and the positions are the pixels of x.
struct Geometry {
  int N, groups;
  int image_channels, channels;  // of a group: summed over, and of the result
  int IH, IW;                    // of the image
  int PH, PW;                    // positions
  int KH, KW, stride_h, stride_w, dilation_h, dilation_w;
  int top, left;
  Divider samples, across;  // N, PW
  // Backward, with a stride, only some pixels of dy meet a pixel of x: those that these divide.
  bool strided = false;
  Divider down_step, across_step;

  __host__ __device__ int plane() const { return IH * IW * N; }
  __host__ __device__ int taps() const { return KH * KW; }
};

void check_sizes(const Conv2dShape& s) {
  const Window& w = s.window;
  narrow(s.N, s.C, w.H, w.W);
  narrow(s.N, s.O, w.OH, w.OW);
  narrow(s.O, s.C / s.groups, w.KH, w.KW);
  // Positions of taps may lie outside of the image by as much as this.
  narrow(w.H + w.top + w.KH * w.dilation_h);
  narrow(w.W + w.left + w.KW * w.dilation_w);
}

Geometry forward_geometry(const Conv2dShape& s) {
  check_sizes(s);
  const Window& w = s.window;
  Geometry g{};
  g.N = narrow(s.N), g.groups = narrow(s.groups);
  g.image_channels = narrow(s.C / s.groups), g.channels = narrow(s.O / s.groups);
  g.IH = narrow(w.H), g.IW = narrow(w.W), g.PH = narrow(w.OH), g.PW = narrow(w.OW);
  g.KH = narrow(w.KH), g.KW = narrow(w.KW);
  g.stride_h = narrow(w.stride_h), g.stride_w = narrow(w.stride_w);
  g.dilation_h = narrow(w.dilation_h), g.dilation_w = narrow(w.dilation_w);
  g.top = narrow(w.top), g.left = narrow(w.left);
  g.samples = Divider(g.N), g.across = Divider(g.PW);
  return g;
}

Geometry backward_geometry(const Conv2dShape& s) {
  Geometry g = forward_geometry(s);
  std::swap(g.image_channels, g.channels);
  std::swap(g.IH, g.PH);
  std::swap(g.IW, g.PW);
  g.across = Divider(g.PW);
  g.strided = g.stride_h > 1 || g.stride_w > 1;
  g.down_step = Divider(g.stride_h);
  g.across_step = Divider(g.stride_w);
  return g;
}

// Where the window of a position begins in the image, and how far from there a tap is. `place` and
// `offset` are the same in elements of a channel.
struct Spot {
  int h, v, place;
};
struct Reach {
  int h, v, offset, channel;  // channel: its plane's place, where it belongs to a channel
};

template <bool kBackward>
__device__ __forceinline__ Spot spot(const Geometry& g, int row, int column, int sample) {
  Spot s;
  s.h = kBackward ? row + g.top : row * g.stride_h - g.top;
  s.v = kBackward ? column + g.left : column * g.stride_w - g.left;
  s.place = (g.strided ? 0 : (s.h * g.IW + s.v) * g.N) + sample;
  return s;
}
template <bool kBackward>
__device__ __forceinline__ Reach reach(const Geometry& g, int kh, int kw) {
  Reach r;
  r.h = (kBackward ? -kh : kh) * g.dilation_h;
  r.v = (kBackward ? -kw : kw) * g.dilation_w;
  r.offset = (r.h * g.IW + r.v) * g.N;
  r.channel = 0;
  return r;
}
// Whether there is such a pixel, and where.
template <bool kBackward>
__device__ __forceinline__ bool find_pixel(const Geometry& g, const Spot& s, const Reach& r,
                                           int& place) {
  int h = s.h + r.h, v = s.v + r.v;
  if (kBackward && g.strided) {
    if (h < 0 || v < 0) return false;
    if (g.down_step.split(h, h) != 0 || g.across_step.split(v, v) != 0) return false;
    place = (h * g.IW + v) * g.N + s.place;
  } else {
    place = s.place + r.offset;
  }
  return static_cast<unsigned>(h) < static_cast<unsigned>(g.IH) &&
         static_cast<unsigned>(v) < static_cast<unsigned>(g.IW);
}

constexpr int kDirectThreads = 256;
constexpr int kMostTeams = 8;  // of whole warps
// Terms whose weights lie in shared memory at a time: a run of channels and of taps.
constexpr int kDirectTerms = 512;

struct DirectRuns {
  int channels, taps;
};
inline DirectRuns direct_runs(const Geometry& g) {
  const int taps = g.taps() < kDirectTerms ? g.taps() : kDirectTerms;
  const int room = kDirectTerms / (taps ? taps : 1);
  return {room < g.image_channels ? room : g.image_channels, taps};
}

template <typename T>
struct Direct {
  Geometry g;
  DirectRuns runs;
  int teams;    // of a block, which share the terms of its results
  int columns;  // positions times samples; tiles of four positions times samples where pooled
  int channel_tiles;
  Divider tiles_across;  // where pooled
  const T *image, *w, *bias;
  ActivationOf<T> activation;  // of the result
  const T* at;                 // where not null, the result is a gradient before this activation
  ActivationOf<T> before;
  bool add;
  T* y;
  std::uint8_t* codes;
};

// kChannels: of the result, of a thread. kPlaces: positions of a thread; with kPooled the four of a
// 2 x 2 tile, of which the maximum is the result.
template <typename T, bool kBackward, int kChannels, int kPlaces, bool kPooled>
__global__ void __launch_bounds__(kDirectThreads, 2) direct_kernel(Direct<T> d) {
  begin_kernel();
  T* const weights = shared_memory<T>();  // (taps, channels of the image, kChannels) of a run
  const Geometry& g = d.g;
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = kDirectThreads / d.teams, team = thread / lanes, lane = thread % lanes;
  const int group = static_cast<int>(blockIdx.y) / d.channel_tiles;
  const int channel0 = static_cast<int>(blockIdx.y) % d.channel_tiles * kChannels;
  const int channels = min(kChannels, g.channels - channel0);
  const int taps = g.taps(), plane = g.plane();
  const T* const image = d.image + static_cast<std::size_t>(group) * g.image_channels * plane;
  // w: (O/groups, C/groups, taps) of this group; which of its axes is summed over differs.
  const int channel_stride = (kBackward ? 1 : g.image_channels) * taps;
  const int image_stride = (kBackward ? g.channels : 1) * taps;
  const T* const w = d.w + static_cast<std::size_t>(group) * g.channels * g.image_channels * taps +
                     channel0 * channel_stride;

  constexpr int kColumns = kPooled ? 1 : kPlaces;
  const int column0 = static_cast<int>(blockIdx.x) * lanes * kColumns + lane;
  Spot spots[kPlaces];
  PYNN_UNROLL
  for (int q = 0; q < kColumns; ++q) {
    const int column = min(column0 + q * lanes, d.columns - 1);
    int position, line;
    const int sample = g.samples.split(column, position);
    if constexpr (kPooled) {
      const int tile = d.tiles_across.split(position, line);
      PYNN_UNROLL
      for (int i = 0; i < 4; ++i)
        spots[i] = spot<kBackward>(g, 2 * line + i / 2, 2 * tile + i % 2, sample);
    } else {
      const int across = g.across.split(position, line);
      spots[q] = spot<kBackward>(g, line, across, sample);
    }
  }

  T sum[kPlaces][kChannels];
  PYNN_UNROLL
  for (int q = 0; q < kPlaces; ++q) {
    PYNN_UNROLL
    for (int r = 0; r < kChannels; ++r) sum[q][r] = T(0);
  }
  for (int c0 = 0; c0 < g.image_channels; c0 += d.runs.channels) {
    const int run_channels = min(d.runs.channels, g.image_channels - c0);
    for (int tap0 = 0; tap0 < taps; tap0 += d.runs.taps) {
      const int run_taps = min(d.runs.taps, taps - tap0);
      __syncthreads();
      for (int i = thread; i < run_channels * run_taps * kChannels; i += kDirectThreads) {
        const int tap = i % run_taps, rest = i / run_taps;
        const int c = rest % run_channels, r = rest / run_channels;
        weights[(tap * run_channels + c) * kChannels + r] =
            r < channels ? w[r * channel_stride + (c0 + c) * image_stride + tap0 + tap] : T(0);
      }
      __syncthreads();
      // The team's share: some of the channels, or of the taps where there are few channels.
      const bool shares_channels = run_channels >= d.teams;
      const int whole = shares_channels ? run_channels : run_taps;
      const int begin = team * whole / d.teams, end = (team + 1) * whole / d.teams;
      const int c_begin = shares_channels ? begin : 0, c_end = shares_channels ? end : run_channels;
      const int tap_begin = shares_channels ? 0 : begin, tap_end = shares_channels ? run_taps : end;
      int kh = (tap0 + tap_begin) / g.KW, kw = (tap0 + tap_begin) % g.KW;
      for (int tap = tap_begin; tap < tap_end; ++tap) {
        const Reach tap_reach = reach<kBackward>(g, kh, kw);
        bool inside[kPlaces], any = false;
        const T* pixel[kPlaces];
        PYNN_UNROLL
        for (int q = 0; q < kPlaces; ++q) {
          int place;
          inside[q] = find_pixel<kBackward>(g, spots[q], tap_reach, place);
          pixel[q] = image + (inside[q] ? (c0 + c_begin) * plane + place : 0);
          any = any || inside[q];
        }
        if (++kw == g.KW) {
          kw = 0;
          ++kh;
        }
        // Forward the padding counts as zeros, which times infinity are NaN; backward there is no
        // padding.
        if (kBackward && !any) continue;
        const T* weight = weights + (tap * run_channels + c_begin) * kChannels;
#pragma unroll 4
        for (int c = c_begin; c < c_end; ++c, weight += kChannels) {
          T value[kPlaces];
          PYNN_UNROLL
          for (int q = 0; q < kPlaces; ++q) {
            value[q] = inside[q] ? *pixel[q] : T(0);
            pixel[q] += plane;
          }
          PYNN_UNROLL
          for (int r = 0; r < kChannels; ++r) {
            const T factor = weight[r];
            PYNN_UNROLL
            for (int q = 0; q < kPlaces; ++q) sum[q][r] += value[q] * factor;
          }
        }
      }
    }
  }

  // The sums of teams half ... 2 half join those of 0 ... half.
  for (int half = d.teams / 2; half > 0; half /= 2) {
    T* const place = shared_memory<T>() + team % half * lanes + lane;
    const int pitch = half * lanes;
    __syncthreads();
    if (team >= half && team < 2 * half) {
      PYNN_UNROLL
      for (int q = 0; q < kPlaces; ++q) {
        PYNN_UNROLL
        for (int r = 0; r < kChannels; ++r) place[(q * kChannels + r) * pitch] = sum[q][r];
      }
    }
    __syncthreads();
    if (team < half) {
      PYNN_UNROLL
      for (int q = 0; q < kPlaces; ++q) {
        PYNN_UNROLL
        for (int r = 0; r < kChannels; ++r) sum[q][r] += place[(q * kChannels + r) * pitch];
      }
    }
  }
  if (team != 0) return;

  const int first_channel = group * g.channels + channel0;
  PYNN_UNROLL
  for (int r = 0; r < kChannels; ++r) {
    if (r >= channels) break;
    const T b = d.bias ? d.bias[first_channel + r] : T(0);
    const std::size_t line = static_cast<std::size_t>(first_channel + r) * d.columns;
    if constexpr (kPooled) {
      T best = d.activation(sum[0][r] + b);
      int code = 0;
      PYNN_UNROLL
      for (int q = 1; q < 4; ++q) {
        const T value = d.activation(sum[q][r] + b);
        // The first of equal values wins, and the first NaN over everything.
        if (!(value <= best) && best == best) best = value, code = q;
      }
      if (column0 < d.columns) {
        d.y[line + column0] = best;
        d.codes[line + column0] = static_cast<std::uint8_t>(code);
      }
    } else {
      PYNN_UNROLL
      for (int q = 0; q < kPlaces; ++q) {
        const int column = column0 + q * lanes;
        if (column >= d.columns) continue;
        T value = d.activation(sum[q][r] + b);
        if (d.at) value = d.before.backward(value, d.at[line + column]);
        if (d.add) value += d.y[line + column];
        d.y[line + column] = value;
      }
    }
  }
}

template <typename T, bool kBackward, int kChannels, int kPlaces, bool kPooled>
void launch_direct(Direct<T> d, cudaStream_t stream) {
  const Geometry& g = d.g;
  d.channel_tiles = (g.channels + kChannels - 1) / kChannels;
  const int lines = narrow(d.channel_tiles, g.groups);
  if (lines > 65535)
    throw std::invalid_argument("a convolution of " + std::to_string(lines) +
                                " groups of channels");
  const int terms = d.runs.channels * d.runs.taps;
  const int elements =
      kChannels * (d.teams > 1 ? std::max(terms, kDirectThreads / 2 * kPlaces) : terms);
  constexpr int kMost = kChannels * std::max(kDirectTerms, kDirectThreads / 2 * kPlaces);
  static_assert(kMost * sizeof(T) <= kMaxSharedBytes);
  launch(stream,
         dim3(blocks_of(d.columns, kDirectThreads / d.teams * (kPooled ? 1 : kPlaces)),
              static_cast<unsigned>(lines)),
         kDirectThreads, static_cast<std::size_t>(elements) * sizeof(T),
         direct_kernel<T, kBackward, kChannels, kPlaces, kPooled>, d);
}

// What the choices below count on: processors of a large device, and blocks at once on each.
constexpr double kProcessors = 132, kBlocksAtOnce = 2;

// Teams for results that alone would leave the device idle, while each has some terms.
int choose_teams(const Geometry& g, std::int64_t columns) {
  constexpr double kThreads = kProcessors * 1024;
  constexpr int kFewestTerms = 6;
  const double threads = static_cast<double>(columns) * ((g.channels + 7) / 8) * g.groups;
  const std::int64_t terms = std::int64_t{g.image_channels} * g.taps();
  int teams = 1;
  while (teams < kMostTeams && threads * teams < kThreads && terms / (2 * teams) >= kFewestTerms)
    teams *= 2;
  return teams;
}

// What a launch costs, roughly, in cycles of one processor. Its blocks come in waves; a thread
// issues its multiply-adds and loads, or waits for loads, four under way at a time; and a block
// loads the weights.
double direct_cost(const Geometry& g, std::int64_t columns, int teams, int channels, int places) {
  constexpr double kLoad = 400, kWarps = kDirectThreads / 32.0, kIssued = 4;  // kIssued: a cycle
  const double blocks = static_cast<double>(blocks_of(columns, kDirectThreads / teams * places)) *
                        ((g.channels + channels - 1) / channels) * g.groups;
  const double waves = std::ceil(blocks / (kProcessors * kBlocksAtOnce));
  const double resident = std::fmin(std::fmax(blocks / kProcessors, 1), kBlocksAtOnce);
  const double terms = static_cast<double>(g.image_channels) * g.taps();
  const double term = channels * places + 2.0 * places + channels / 4.0 + 1;
  const double issue = terms / teams * term * kWarps * resident / kIssued;
  const double wait = terms / teams / 4 * kLoad;
  const double weights = terms * channels / kDirectThreads * 20;
  return waves * (std::fmax(issue, wait) + weights);
}

struct DirectTile {
  int channels, places;
};
DirectTile forced_tile{0, 0};

// The cheapest of the tiles, or the one that is forced.
template <std::size_t kCount>
DirectTile choose_tile(const Geometry& g, std::int64_t columns, int teams,
                       const DirectTile (&tiles)[kCount]) {
  DirectTile best = tiles[0];
  for (const DirectTile& tile : tiles) {
    if (tile.channels == forced_tile.channels && tile.places == forced_tile.places) return tile;
    if (direct_cost(g, columns, teams, tile.channels, tile.places) <
        direct_cost(g, columns, teams, best.channels, best.places))
      best = tile;
  }
  return best;
}

template <typename T, bool kBackward>
void run_direct(Direct<T> d, cudaStream_t stream) {
  if (d.columns == 0 || d.g.channels == 0) return;
  d.runs = direct_runs(d.g);
  d.teams = choose_teams(d.g, d.columns);
  if constexpr (sizeof(T) == 8) {
    launch_direct<T, kBackward, 4, 1, false>(d, stream);
  } else {
    constexpr DirectTile kTiles[] = {{1, 1}, {1, 4}, {4, 1}, {4, 4}, {8, 1}, {8, 4}, {16, 4}};
    const DirectTile tile = choose_tile(d.g, d.columns, d.teams, kTiles);
    const auto is = [tile](int c, int p) { return tile.channels == c && tile.places == p; };
    if (is(1, 1)) launch_direct<T, kBackward, 1, 1, false>(d, stream);
    if (is(1, 4)) launch_direct<T, kBackward, 1, 4, false>(d, stream);
    if (is(4, 1)) launch_direct<T, kBackward, 4, 1, false>(d, stream);
    if (is(4, 4)) launch_direct<T, kBackward, 4, 4, false>(d, stream);
    if (is(8, 1)) launch_direct<T, kBackward, 8, 1, false>(d, stream);
    if (is(8, 4)) launch_direct<T, kBackward, 8, 4, false>(d, stream);
    if (is(16, 4)) launch_direct<T, kBackward, 16, 4, false>(d, stream);
  }
}

template <typename T>
void run_pooled(Direct<T> d, cudaStream_t stream) {
  if (d.columns == 0 || d.g.channels == 0) return;
  d.runs = direct_runs(d.g);
  d.teams = choose_teams(d.g, d.columns);
  if constexpr (sizeof(T) == 8) {
    launch_direct<T, false, 4, 4, true>(d, stream);
  } else {
    constexpr DirectTile kTiles[] = {{1, 4}, {4, 4}, {8, 4}};
    // Tiles of positions are the columns here, and every thread has the four places of one.
    const int channels = choose_tile(d.g, 4 * std::int64_t{d.columns}, d.teams, kTiles).channels;
    if (channels == 1) launch_direct<T, false, 1, 4, true>(d, stream);
    if (channels == 4) launch_direct<T, false, 4, 4, true>(d, stream);
    if (channels == 8) launch_direct<T, false, 8, 4, true>(d, stream);
  }
}

// Factors of products that are gathered from an image.

// The image at a position (Spot) and a channel's tap (Reach).
template <typename T, bool kBackward>
struct Patches {
  Geometry g;
  Divider taps, KW;
  const T* image;

  __device__ __forceinline__ Spot position(int j) const {
    int position, line;
    const int sample = g.samples.split(j, position);
    const int across = g.across.split(position, line);
    return spot<kBackward>(g, line, across, sample);
  }
  __device__ __forceinline__ Reach tap(int i) const {
    int channel, kh;
    const int tap = taps.split(i, channel);
    const int kw = KW.split(tap, kh);
    Reach result = reach<kBackward>(g, kh, kw);
    result.channel = channel * g.plane();
    return result;
  }
  __device__ __forceinline__ T value(const Spot& spot, const Reach& tap) const {
    int place;
    return find_pixel<kBackward>(g, spot, tap, place) ? image[tap.channel + place] : T(0);
  }
};

template <typename T, bool kBackward>
struct PatchesOfTerms : Patches<T, kBackward> {  // b (channels and taps, positions)
  static constexpr Along kAlong = Along::lines;
  __device__ __forceinline__ Spot line(int j) const { return this->position(j); }
  __device__ __forceinline__ Reach term(int k) const { return this->tap(k); }
  __device__ __forceinline__ T at(const Spot& spot, const Reach& tap) const {
    return this->value(spot, tap);
  }
};
template <typename T>
struct PatchesOfLines : Patches<T, false> {  // b (positions, channels and taps)
  static constexpr Along kAlong = Along::terms;
  static constexpr bool kLinesAreTabled = true;
  __device__ __forceinline__ Reach line(int j) const { return this->tap(j); }
  __device__ __forceinline__ Spot term(int k) const { return this->position(k); }
  __device__ __forceinline__ T at(const Reach& tap, const Spot& spot) const {
    return this->value(spot, tap);
  }
};

// The weights of a group, forward (channels, image channels and taps), backward with w's first two
// axes exchanged.
template <typename T, bool kBackward>
struct Weights {
  static constexpr Along kAlong = Along::terms;
  const T* w;
  Divider taps;
  int line_stride, term_stride;  // term_stride: of a channel of the image
  __device__ __forceinline__ int line(int i) const { return i * line_stride; }
  __device__ __forceinline__ int term(int k) const {
    if constexpr (!kBackward) return k;
    int channel;
    const int tap = taps.split(k, channel);
    return channel * term_stride + tap;
  }
  __device__ __forceinline__ T at(int line, int term) const { return w[line + term]; }
};

template <typename T, bool kBackward>
struct GatheredProblem {
  struct Part {
    Weights<T, kBackward> a;
    PatchesOfTerms<T, kBackward> b;
    int begin, end;
    ProductResult<T> result;
    T* row_sums;
  };
  int M, N;
  Part first;
  int weights_of_group, image_of_group, result_of_group;
  __device__ __forceinline__ Part part(int group) const {
    Part part = first;
    part.a.w += static_cast<std::size_t>(group) * weights_of_group;
    part.b.image += static_cast<std::size_t>(group) * image_of_group;
    part.result.y += static_cast<std::size_t>(group) * result_of_group;
    if (part.result.bias) part.result.bias += group * M;
    if (part.result.at) part.result.at += static_cast<std::size_t>(group) * result_of_group;
    return part;
  }
};

template <typename T, bool kBackward>
void run_gathered(const Direct<T>& d, Precision precision, cudaStream_t stream) {
  const Geometry& g = d.g;
  const int terms = narrow(g.image_channels, g.taps());
  ProductResult<T> result(d.y, d.columns);
  result.bias = d.bias;
  result.activation = d.activation;
  result.at = d.at;
  result.before = d.before;
  result.add = d.add;
  result.find_quads();
  GatheredProblem<T, kBackward> problem{};
  problem.M = g.channels, problem.N = d.columns;
  problem.first.a = {d.w, Divider(g.taps()), kBackward ? g.taps() : terms,
                     kBackward ? narrow(g.channels, g.taps()) : g.taps()};
  static_cast<Patches<T, kBackward>&>(problem.first.b) = {g, Divider(g.taps()), Divider(g.KW),
                                                          d.image};
  problem.first.begin = 0, problem.first.end = terms;
  problem.first.result = result;
  problem.weights_of_group = narrow(g.channels, terms);
  problem.image_of_group = narrow(g.image_channels, g.plane());
  problem.result_of_group = narrow(g.channels, d.columns);
  if (many_tiles(problem.M, problem.N, g.groups))
    launch_product<T, ProductTile<T, true, 64, 2, 2>>(problem, g.groups, precision, stream);
  else
    launch_product<T, ProductTile<T, true, 32, 1, 1>>(problem, g.groups, precision, stream);
}

// Whether a tile of a tensor core's product would be filled.
bool fills_tensor_cores(const Geometry& g, Precision precision) {
  return precision != Precision::fp32 && g.channels >= 16 && g.image_channels * g.taps() >= 16;
}

template <typename T, bool kBackward>
void run(const Direct<T>& d, Precision precision, cudaStream_t stream) {
  if constexpr (sizeof(T) == 4)
    if (fills_tensor_cores(d.g, precision)) return run_gathered<T, kBackward>(d, precision, stream);
  run_direct<T, kBackward>(d, stream);
}

template <typename T>
struct WeightProblem {
  struct Part {
    StridedFactor<T, Along::terms> a;
    PatchesOfLines<T> b;
    int begin, end;
    ProductResult<T> result;
    T* row_sums;
  };
  int M, N;
  Part first;
  Divider shards;
  int shard_terms, terms, channels_of_group, image_of_group, weights, outputs;
  __device__ __forceinline__ Part part(int z) const {
    int group;
    const int shard = shards.split(z, group);
    Part part = first;
    part.a.from += static_cast<std::size_t>(group) * channels_of_group;
    part.b.image += static_cast<std::size_t>(group) * image_of_group;
    part.begin = min(shard * shard_terms, terms);
    part.end = min(part.begin + shard_terms, terms);
    part.result.y +=
        static_cast<std::size_t>(shard) * weights + static_cast<std::size_t>(group) * M * N;
    if (part.row_sums) part.row_sums += shard * outputs + group * M;
    return part;
  }
};

}  // namespace

template <typename T>
void conv2d_forward(const Conv2dShape& s, Precision precision, const T* x, const T* w, const T* b,
                    const Activation& activation, T* y, cudaStream_t stream) {
  Direct<T> d{};
  d.g = forward_geometry(s);
  d.columns = narrow(s.N, d.g.PH, d.g.PW);
  d.image = x, d.w = w, d.bias = b, d.y = y;
  d.activation = ActivationOf<T>(activation);
  run<T, false>(d, precision, stream);
}

template <typename T>
void conv2d_forward_pooled(const Conv2dShape& s, Precision, const T* x, const T* w, const T* b,
                           const Activation& activation, T* y, std::uint8_t* codes,
                           cudaStream_t stream) {
  Direct<T> d{};
  d.g = forward_geometry(s);
  d.columns = narrow(s.N, d.g.PH / 2, d.g.PW / 2);
  d.tiles_across = Divider(d.g.PW / 2);
  d.image = x, d.w = w, d.bias = b, d.y = y, d.codes = codes;
  d.activation = ActivationOf<T>(activation);
  run_pooled(d, stream);
}

template <typename T>
void conv2d_backward_input(const Conv2dShape& s, Precision precision, const T* dy, const T* w,
                           const Activation& activation, const T* at, bool add, T* dx,
                           cudaStream_t stream) {
  Direct<T> d{};
  d.g = backward_geometry(s);
  d.columns = narrow(s.N, d.g.PH, d.g.PW);
  d.image = dy, d.w = w, d.y = dx, d.add = add;
  d.at = activation.kind == Activation::Kind::none ? nullptr : at;
  d.before = ActivationOf<T>(activation);
  run<T, true>(d, precision, stream);
}

std::int64_t conv2d_weight_shards(const Conv2dShape& s) {
  const Geometry g = forward_geometry(s);
  constexpr std::int64_t kBlocks = 264;  // two for each processor of a large device
  constexpr std::int64_t kFewestTerms =
      512;  // of a shard: the groups of a block have some runs each
  const std::int64_t terms = narrow(s.N, g.PH, g.PW);
  const std::int64_t lines = std::int64_t{g.image_channels} * g.taps();
  const std::int64_t tile = g.channels <= 16 ? 16 : 32;
  const std::int64_t tiles =
      (fills_tiles(g.channels, lines) ? large_tiles(g.channels, lines)
                                      : (g.channels + tile - 1) / tile * ((lines + 31) / 32)) *
      g.groups;
  const std::int64_t wanted = kBlocks / (tiles > 0 ? tiles : 1), possible = terms / kFewestTerms;
  const std::int64_t shards = wanted < possible ? wanted : possible;
  return shards < 1 ? 1 : shards;
}

template <typename T>
void conv2d_backward_weight(const Conv2dShape& s, Precision precision, const T* dy, const T* x,
                            T* dw, T* db, cudaStream_t stream) {
  const Geometry g = forward_geometry(s);
  const std::int64_t shards = conv2d_weight_shards(s);
  const int terms = narrow(s.N, g.PH, g.PW);
  const bool sums_here = db && (precision == Precision::fp32 || sizeof(T) == 8);
  WeightProblem<T> problem{};
  problem.M = g.channels, problem.N = narrow(g.image_channels, g.taps());
  problem.first.a = {dy, terms, 1};
  static_cast<Patches<T, false>&>(problem.first.b) = {g, Divider(g.taps()), Divider(g.KW), x};
  problem.first.result = ProductResult<T>(dw, problem.N);
  problem.first.result.find_quads(narrow(s.O, problem.N));
  problem.first.row_sums = sums_here ? db : nullptr;
  problem.shards = Divider(narrow(shards));
  problem.shard_terms = narrow(((terms + shards - 1) / shards + 15) / 16 * 16);
  problem.terms = terms;
  problem.channels_of_group = narrow(g.channels, terms);
  problem.image_of_group = narrow(g.image_channels, g.plane());
  problem.weights = narrow(s.O, problem.N), problem.outputs = narrow(s.O);
  if (problem.N > 0) {
    // The tiles that conv2d_weight_shards counts; shards are there where they are few.
    if constexpr (sizeof(T) == 8) {
      launch_product<T, ProductTile<T, false, 16, 1, 1>>(problem, narrow(shards, g.groups),
                                                         precision, stream);
    } else {
      product<T>(problem, shards * g.groups, precision, stream);
    }
  }
  if (db && (!sums_here || problem.N == 0)) {
    // The first shard's sums are everything; the others' are nothing.
    bias_backward(s.O, terms, dy, false, db, stream);
    if (shards > 1)
      check(cudaMemsetAsync(db + s.O, 0, static_cast<std::size_t>((shards - 1) * s.O) * sizeof(T),
                            stream),
            "clearing memory");
  }
}

void conv2d_set_tile(int channels, int places) { forced_tile = {channels, places}; }

#define PYNN_INSTANTIATE(T)                                                                        \
  template void conv2d_forward(const Conv2dShape&, Precision, const T*, const T*, const T*,        \
                               const Activation&, T*, cudaStream_t);                               \
  template void conv2d_forward_pooled(const Conv2dShape&, Precision, const T*, const T*, const T*, \
                                      const Activation&, T*, std::uint8_t*, cudaStream_t);         \
  template void conv2d_backward_input(const Conv2dShape&, Precision, const T*, const T*,           \
                                      const Activation&, const T*, bool, T*, cudaStream_t);        \
  template void conv2d_backward_weight(const Conv2dShape&, Precision, const T*, const T*, T*, T*,  \
                                       cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
