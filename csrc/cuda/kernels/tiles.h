// A transpose through tiles in shared memory, so that what is read and what is written are both
// contiguous for the lanes of a warp.
#pragma once

#include <cuda_runtime.h>

#include "cuda/kernels/index.h"
#include "cuda/kernels/launch.h"

namespace pynn::cuda {

constexpr int kTile = 32, kTileRows = 8;

// Source: source(row, column), and row(i), which is called once for each row.
template <typename U, typename Source>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(int rows, int columns, unsigned across, Source source, U* y) {
  begin_kernel();
  U* const tile = shared_memory<U>();  // (kTile, kTile + 1)
  const int lane = static_cast<int>(threadIdx.x), line = static_cast<int>(threadIdx.y);
  const int column0 = static_cast<int>(blockIdx.x % across) * kTile;
  const int row0 = static_cast<int>(blockIdx.x / across) * kTile;
  if (column0 == 0 && line == 0 && row0 + lane < rows) source.row(row0 + lane);
  for (int i = line; i < kTile; i += kTileRows)
    if (row0 + i < rows && column0 + lane < columns)
      tile[i * (kTile + 1) + lane] = source(row0 + i, column0 + lane);
  __syncthreads();
  for (int i = line; i < kTile; i += kTileRows)
    if (column0 + i < columns && row0 + lane < rows)
      y[static_cast<std::size_t>(column0 + i) * rows + row0 + lane] = tile[lane * (kTile + 1) + i];
}

// y (columns, rows) = source(row, column).
template <typename U, typename Source>
void transpose_tiles(int rows, int columns, const Source& source, U* y, cudaStream_t stream) {
  const unsigned across = blocks_of(columns, kTile);
  launch(stream, across * blocks_of(rows, kTile), dim3(kTile, kTileRows),
         sizeof(U) * kTile * (kTile + 1), transpose_kernel<U, Source>, rows, columns, across,
         source, y);
}

}  // namespace pynn::cuda
