// From (n, channels, pixels) to (n, pixels, channels), where all channels of a pixel are read at
// once. A block turns 64 channels of 64 pixels by way of shared memory.
//
// Constants, known when this is compiled:
//   channels: a multiple of 64
//   together: how many pixels can be read at once

constexpr int side = 64;

// Where two pixels of a channel are in the tile. Words are shuffled within their row, so that the
// threads of a warp write to all banks of the memory, and read from all of them.
__device__ int word(int channel, int two) {
  return channel * (side / 2) + (two ^ channel / 8 ^ channel % 4);
}

extern "C" __global__ void __launch_bounds__(4 * side)
    to_channels_last(const __half* x, int pixels, __half* y) {
  __shared__ u32 tile[side * side / 2];
  let_next_begin();
  int across = (pixels + side - 1) / side, pixel = blockIdx.x % across * side;
  int row = blockIdx.x / across * side, image = row / channels;  // of all images' channels
#pragma unroll
  for (int i = threadIdx.x; i < side * side / 8; i += 4 * side) {
    int channel = i / 8, first = i % 8 * 8;  // of eight pixels
    const __half* from = x + u64(row + channel) * pixels + pixel + first;
    u32 v[4] = {};
#pragma unroll
    for (int k = 0; k < 8 / together; k++)
      if (pixel + first + k * together < pixels) read<together>(from + k * together, v, k);
#pragma unroll
    for (int k = 0; k < 4; k++) tile[word(channel, first / 2 + k)] = v[k];
  }
  __syncthreads();
  int channel = threadIdx.x % 8 * 8, two = threadIdx.x % 32 / 8 * 8 + threadIdx.x / 32;
  u32 v[8], first[4], second[4];
#pragma unroll
  for (int k = 0; k < 8; k++) v[k] = tile[word(channel + k, two)];
#pragma unroll
  for (int k = 0; k < 4; k++) {
    first[k] = __byte_perm(v[2 * k], v[2 * k + 1], 0x5410);
    second[k] = __byte_perm(v[2 * k], v[2 * k + 1], 0x7632);
  }
  pixel += 2 * two;
  __half* to = y + (u64(image) * pixels + pixel) * channels + row % channels + channel;
  if (pixel < pixels) write<8>(to, first, 0);
  if (pixel + 1 < pixels) write<8>(to + channels, second, 0);
}
