// What deform_conv2d needs of its input and weight: all channels of a pixel in one place, and
// matrices of weights as wgmma reads them.
//
// Constants, known when this is compiled:
//   channels, groups, in_group, out_group: of the convolution, and of one of its groups
//   taps: of the window
//   together: how many pixels of the input can be read at once

constexpr int side = 64, threads = 4 * side;
// Words from one row of weights to the next; odd, so that those of a column are in different banks.
constexpr int pitch = side / 2 * taps + 1;

// Where two pixels of a channel are in the tile. Words are shuffled within their row, so that the
// threads of a warp write to all banks of the memory, and read from all of them.
__device__ int word(int channel, int two) {
  return channel * (side / 2) + (two ^ channel / 8 ^ channel % 4);
}

// From (n, channels, pixels) to (n, pixels, channels): 64 channels of 64 pixels.
__device__ void turn(int index, const __half* x, int pixels, __half* y, u32* tile) {
  int across = (pixels + side - 1) / side, pixel = index % across * side;
  int row = index / across * side, image = row / channels;  // of all images' channels
#pragma unroll
  for (int i = threadIdx.x; i < side * side / 8; i += threads) {
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

// From (groups, out_group, in_group, taps) to (groups, out_group / 64, in_group / 64, taps, 8, 8,
// 8, 8), where each matrix consists of bricks of 8 output by 8 input channels: eight output
// channels, which may be beyond the last one, and 64 input channels.
__device__ void pack(int index, const __half* weight, __half* packed, u32* rows) {
  constexpr int parts = in_group / side, out_parts = (out_group + side - 1) / side;
  constexpr int pieces = side * taps;  // of 8 halves, in all rows
  int part = index % parts, out = index / parts % (out_parts * 8) * 8;
  int group = index / (parts * out_parts * 8);
  for (int i = threadIdx.x; i < pieces; i += threads) {
    int row = i / (pieces / 8), piece = i % (pieces / 8);
    u64 from = (u64(group * out_group + out + row) * in_group + part * side) * taps + piece * 8;
    u32 v[4] = {};
    if (out + row < out_group) read<8>(weight + from, v, 0);
#pragma unroll
    for (int k = 0; k < 4; k++) rows[row * pitch + piece * 4 + k] = v[k];
  }
  __syncthreads();
  u64 matrix = u64((group * out_parts + out / side) * parts + part) * taps;
  for (int i = threadIdx.x; i < pieces; i += threads) {
    int tap = i / side, brick = i % side / 8, row = i % 8;
    const __half* from = reinterpret_cast<const __half*>(rows + row * pitch) + brick * 8 * taps;
    u32 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++)
      v[k] = as_word(__halves2half2(from[2 * k * taps + tap], from[(2 * k + 1) * taps + tap]));
    write<8>(packed + (matrix + tap) * side * side + out % side * side + brick * side + row * 8, v,
             0);
  }
}

extern "C" __global__ void __launch_bounds__(threads)
    prepare(const __half* x, const __half* weight, int pixels, int turns, __half* y,
            __half* packed) {
  __shared__ u32 memory[8 * pitch > side * side / 2 ? 8 * pitch : side * side / 2];
  let_next_begin();
  int index = blockIdx.x;
  if (index < turns)
    turn(index, x, pixels, y, memory);
  else
    pack(index - turns, weight, packed, memory);
}
