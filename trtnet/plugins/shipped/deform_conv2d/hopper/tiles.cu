// What deform_conv2d computes, piece by piece, and the memory in which it does. For the constants
// see deform_conv2d.cu.

constexpr int block_in = 64;  // 128 bytes: the width of a swizzled matrix
constexpr int multipliers = 2 * block_pixels;
constexpr int registers = 65536 / blocks_per_sm / (samplers + multipliers) / 8 * 8;
constexpr int left_bytes = block_pixels * block_in * 2, right_bytes = block_out * block_in * 2;
constexpr int parts = in_group / block_in, own_parts = parts / split;  // of the input channels
constexpr int steps = own_parts * taps;
constexpr int offset_groups = channels / offset_channels;
constexpr int out_blocks = (out_group + block_out - 1) / block_out;
constexpr int sums = block_out / 2;  // of a thread that multiplies

struct Sizes {
  int height, width, out_h, out_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int strip;  // columns: pixels are taken strip by strip, so that those of a tile lie together
  int first, last;  // of the pixels in this order, those to compute
};

struct Pixel {
  int image, row, column;
  bool inside;
};

__device__ Pixel pixel_at(const Sizes& s, int place) {
  int area = s.out_h * s.strip, strips = (s.out_w + s.strip - 1) / s.strip;
  int image = place / (strips * area), rest = place % (strips * area), within = rest % area;
  int column = rest / area * s.strip + within % s.strip;
  return {image, within / s.strip, column, place < s.last && column < s.out_w};
}

struct Tile {  // those of the same pixels follow one another
  int pixel, group, out;

  __device__ Tile(const Sizes& s, int index)
      : pixel(s.first + index / (out_blocks * groups) * block_pixels),
        group(index / out_blocks % groups),
        out(index % out_blocks * block_out) {}
};

__device__ int tile_count(const Sizes& s) {
  return (s.last - s.first + block_pixels - 1) / block_pixels * groups * out_blocks;
}

// The tiles of a block, and its parts of their input channels.
struct Share {
  int tile = blockIdx.x / split, stride = gridDim.x / split, tiles;
  int part = blockIdx.x % split * own_parts;

  __device__ Share(const Sizes& s) : tiles(tile_count(s)) {}
};

// The buffer in use.
struct Turn {
  int stage = 0;
  u32 parity = 0;

  __device__ void next() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

struct Buffers {
  char *left, *right;
  uint2* weights;  // the table of samples in two parts, since 16 bytes would be read more slowly
  u32* bases;
  u32 full, empty;
};
