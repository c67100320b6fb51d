// Deformable convolution in FP16 on Hopper: a matrix product whose left side is sampled on the way.
//
// A block computes tiles of `block_pixels` pixels by `block_out` output channels. Its steps are the
// taps of a part of `block_in` input channels, then those of the next part. In each step the first
// warps sample the left matrix (pixels by input channels) into shared memory, while the others
// multiply that of a step before by the weights, which a bulk copy has brought (Hopper's wgmma).
// Barriers say which of the `stages` buffers are full, and which are empty again.
//
// Where there are few tiles, `split` blocks, a cluster, take the same: each its share of the input
// channels. In the end they read one another's sums, and each adds up some of the output channels.
// Each block has one tile then, since the sums lie where the matrices of a next one would.
//
// Constants, known when this is compiled:
//   channels, groups, in_group, out_group: of the convolution, and of one of its groups
//   offset_channels: how many input channels share their offsets
//   taps, window_w: of the window
//   has_mask, has_bias
//   together: how many pixels lie together in the output, wherever a tile's are so aligned
//   split, block_pixels, block_out, stages, samplers (threads that sample), depth (samples of a
//   thread that are on their way at once), blocks_per_sm

constexpr int block_in = 64;  // 128 bytes: the width of a swizzled matrix
constexpr int multipliers = 2 * block_pixels;
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

struct Sample;

struct Buffers {
  char *left, *right;
  Sample* samples;
  u32 full, empty;
};

// Sampling

struct __align__(16) Sample {  // where a tap samples, for all channels of an offset group
  u32 base;                    // the byte at which the upper left of its four pixels begins
  __half2 above, below;        // their weights
};

// A whole float as an integer; one that leaves every image as one that does, too.
__device__ int whole(float value) { return static_cast<int>(fminf(fmaxf(value, -1e6f), 1e6f)); }

// Of two pixels at `from` and after it, the weight of the pixel `to`.
__device__ float weight_of(int to, int from, float ahead) {
  return to == from ? 1 - ahead : to == from + 1 ? ahead : 0.f;
}

__device__ Sample sample_at(const Sizes& s, const Pixel& at, int tap, float down, float right,
                            float amount) {
  // Whole and fractional parts are kept apart, so that large coordinates lose no digits.
  float whole_y = floorf(down), whole_x = floorf(right);
  down -= whole_y, right -= whole_x;
  int y = at.row * s.stride_h - s.padding_h + tap / window_w * s.dilation_h + whole(whole_y);
  int x = at.column * s.stride_w - s.padding_w + tap % window_w * s.dilation_w + whole(whole_x);
  // Four pixels that exist, also at the border: those that do not have a weight of nothing.
  int top = min(max(y, 0), s.height - 2), left = min(max(x, 0), s.width - 2);
  float upper = amount * weight_of(top, y, down), lower = amount * weight_of(top + 1, y, down);
  float before = weight_of(left, x, right), behind = weight_of(left + 1, x, right);
  u32 base = u32((at.image * s.height + top) * s.width + left) * (channels * 2);
  return {base, __floats2half2_rn(upper * before, upper * behind),
          __floats2half2_rn(lower * before, lower * behind)};
}

// Fills the table: all taps of the tile's pixels.
__device__ void locate(const Sizes& s, const Pixel& at, int offset_group, const __half* offset,
                       const __half* mask, Sample* samples) {
  constexpr int together = samplers / block_pixels, rounds = (taps + together - 1) / together;
  int pixels = s.out_h * s.out_w, pixel = at.row * s.out_w + at.column;
  u64 entry = u64(at.image * offset_groups + offset_group) * taps;
  int thread = threadIdx.x, first = thread / block_pixels;
  __half down[rounds] = {}, right[rounds] = {}, amount[rounds] = {};
#pragma unroll
  for (int i = 0; i < rounds; i++) {  // all of them on their way at once
    int tap = i * together + first;
    if (at.inside && tap < taps) {
      down[i] = __ldg(offset + 2 * (entry + tap) * pixels + pixel);
      right[i] = __ldg(offset + (2 * (entry + tap) + 1) * pixels + pixel);
      amount[i] = has_mask ? __ldg(mask + (entry + tap) * pixels + pixel) : __half(1);
    }
  }
  meet<1, samplers>();  // the table before is no longer read
#pragma unroll
  for (int i = 0; i < rounds; i++) {
    int tap = i * together + first;
    Sample sample = sample_at(s, at, tap, __half2float(down[i]), __half2float(right[i]),
                              __half2float(amount[i]));
    if (!at.inside) sample = {};
    if (tap < taps) samples[tap * block_pixels + thread % block_pixels] = sample;
  }
  meet<1, samplers>();
}

struct Corners {
  uint4 value[4];
};

__device__ Corners fetch(const __half* x, u32 place, u32 row_bytes) {
  auto load = [&](u32 byte, int further) {
    const char* from = reinterpret_cast<const char*>(x) + byte + further;
    return __ldg(reinterpret_cast<const uint4*>(from));
  };
  constexpr int pixel = channels * 2;
  u32 below = place + row_bytes;
  return {load(place, 0), load(place, pixel), load(below, 0), load(below, pixel)};
}

__device__ u32 mix(u32 a, u32 b, u32 c, u32 d, const Sample& s) {
  auto half2 = [](u32 value) { return *reinterpret_cast<__half2*>(&value); };
  __half2 sum = __hmul2(half2(a), __low2half2(s.above));
  sum = __hfma2(half2(b), __high2half2(s.above), sum);
  sum = __hfma2(half2(c), __low2half2(s.below), sum);
  sum = __hfma2(half2(d), __high2half2(s.below), sum);
  return *reinterpret_cast<u32*>(&sum);
}

__device__ uint4 interpolate(const Corners& corners, const Sample& s) {
  const uint4 &a = corners.value[0], &b = corners.value[1], &c = corners.value[2],
              &d = corners.value[3];
  return {mix(a.x, b.x, c.x, d.x, s), mix(a.y, b.y, c.y, d.y, s), mix(a.z, b.z, c.z, d.z, s),
          mix(a.w, b.w, c.w, d.w, s)};
}

// Samples the left matrices of `count` steps, whose channels share their offsets. Eight threads
// take a pixel's channels; each has `depth` pixels on their way.
__device__ void sample(const Buffers& m, Turn& turn, const __half* x, int first_channel, int count,
                       u32 row_bytes) {
  constexpr int lines = samplers / 8, rounds = block_pixels / lines;
  int line = threadIdx.x / 8, chunk = threadIdx.x % 8, tap = 0;
  u32 channel = first_channel * 2 + chunk * 16;  // in bytes
  const Sample* table = m.samples + line;
  char* target = m.left + line * 128 + (chunk ^ line % 8) * 16;  // swizzled by 128 bytes
  Sample samples[depth];
  Corners corners[depth];
  auto request = [&](int i, const Sample& sample, u32 channel) {
    samples[i] = sample, corners[i] = fetch(x, sample.base + channel, row_bytes);
  };
#pragma unroll
  for (int i = 0; i < depth; i++) request(i, table[i * lines], channel);
  for (int left = count; left > 0; left--, turn.next()) {
    const Sample* now = table + tap * block_pixels;
    u32 channel_now = channel;
    if (++tap == taps) tap = 0, channel += block_in * 2;
    wait(m.empty + 8 * turn.stage, turn.parity ^ 1);
#pragma unroll
    for (int i = 0; i < rounds; i++) {
      char* to = target + turn.stage * left_bytes + i * lines * 128;
      *reinterpret_cast<uint4*>(to) = interpolate(corners[i % depth], samples[i % depth]);
      int next = i + depth - rounds;  // its place in the next step
      if (next < 0) {
        request(i % depth, now[(i + depth) * lines], channel_now);
      } else if (left > 1) {
        request(i % depth, table[tap * block_pixels + next * lines], channel);
      }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(m.full + 8 * turn.stage);
  }
}

__device__ void sample_all(const Sizes& s, const Buffers& m, const __half* x, const __half* offset,
                           const __half* mask) {
  Turn turn;
  Share own(s);
  for (; own.tile < own.tiles; own.tile += own.stride) {
    Tile tile(s, own.tile);
    Pixel at = pixel_at(s, tile.pixel + threadIdx.x % block_pixels);
    for (int part = own.part, last = part + own_parts, end; part < last; part = end) {
      int first = tile.group * in_group, offset_group = (first + part * block_in) / offset_channels;
      end = min(last, ((offset_group + 1) * offset_channels - first) / block_in);
      locate(s, at, offset_group, offset, mask, m.samples);
      wait_for_last();  // what x is from; nothing else is
      sample(m, turn, x, first + part * block_in, (end - part) * taps, s.width * (channels * 2));
    }
  }
}

// Multiplying

// Brings the weights of one step after the other; one thread does. They are packed as matrices of
// `block_in` by `block_in` in bricks, by group, output and input channels, and taps.
struct Weights {
  const __half* packed;
  Share own;
  int step;

  __device__ Weights(const Sizes& s, const __half* packed) : packed(packed), own(s), step(0) {}

  __device__ void bring(const Sizes& s, const Buffers& m, int stage) {
    if (own.tile >= own.tiles) return;
    constexpr int out_parts = (out_group + block_in - 1) / block_in;
    constexpr int bytes = block_in * block_in * 2;
    Tile tile(s, own.tile);
    int first = tile.out / block_in, count = min(block_out / block_in, out_parts - first);
    u32 barrier = m.full + 8 * stage, to = shared(m.right + stage * right_bytes);
    const char* from =
        reinterpret_cast<const char*>(packed) +
        (u64(tile.group * out_parts + first) * (parts * taps) + own.part * taps + step) * bytes;
    arrive_after(barrier, count * bytes);
    for (int i = 0; i < count; i++)
      copy(to + i * bytes, from + u64(i) * (parts * taps) * bytes, bytes, barrier);
    if (++step == steps) step = 0, own.tile += own.stride;
  }
};

__device__ void release(const Sizes& s, const Buffers& m, Turn used, Weights& weights, int thread) {
  if (thread % 128 == 0) arrive(m.empty + 8 * used.stage);
  if (thread == 0) wait(m.empty + 8 * used.stage, used.parity), weights.bring(s, m, used.stage);
}

// The first sums: the bias, those of two pixels and of two in every eight channels.
__device__ void begin(const Tile& tile, const __half* bias, int thread, float (&d)[sums]) {
  int out = tile.out + thread % 4 * 2;
#pragma unroll
  for (int i = 0; i < sums / 2; i++) {
    int channel = out + i / 2 * 8 + i % 2;
    bool added = has_bias && channel < out_group && blockIdx.x % split == 0;
    const __half* at = bias + tile.group * out_group + channel;
    d[i / 2 * 4 + i % 2] = d[i / 2 * 4 + 2 + i % 2] = added ? __half2float(__ldg(at)) : 0.f;
  }
}

// Writes the sums of channels from `out` on. A thread has those of two pixels, eight apart, and two
// of every eight channels. It gives some away for others, so that it has `together` pixels, and
// that neighbouring threads have those beside them: all 16 of a warp, where they lie together in
// `y`.
template <int count>
__device__ void store(const Sizes& s, const Tile& tile, int out, int thread,
                      const float (&d)[count], __half* y) {
  constexpr int writes = 8 / together, half = writes > 1 ? writes / 2 : 1;  // of 16 channels
  int row = thread % 32 / 4, one = thread % 4, pixel = thread / 32 * 16;
  if constexpr (together == 8) pixel += one % 2 * 8, out += one / 2 * 8 + row;
  if constexpr (together == 4) pixel += one % 2 * 8 + one / 2 * 4, out += row;
  if constexpr (together == 2) pixel += row % 2 * 8 + one * 2, out += row / 2 * 2;
  if constexpr (together == 1) pixel += one % 2 * 8 + row, out += one / 2 * 4;
  Pixel at = pixel_at(s, tile.pixel + pixel);
  u64 pixels = s.out_h * s.out_w, plane = u64(at.image * groups + tile.group) * out_group + out;
  y += plane * pixels + at.row * s.out_w + at.column;
#pragma unroll
  for (int i = 0; i < count; i += 8) {
    u32 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
      v[k] = two_halves(d[i + 2 * k], d[i + 2 * k + 1]);
      if constexpr (together > 1) v[k] = transposed(v[k]);
    }
    swap<together == 2 ? 4 : 1>(v[0], v[1]), swap<together == 2 ? 4 : 1>(v[2], v[3]);
    if constexpr (together == 8) swap<2>(v[0], v[2]), swap<2>(v[1], v[3]);
#pragma unroll
    for (int k = 0; k < writes; k++) {
      int further = 2 * i + k / half * 8 + k % half;
      if (at.inside && out + further < out_group) write<together>(y + further * pixels, v, k);
    }
  }
}

// Adds up the sums of all blocks of the cluster, a share of them in each.
__device__ void add_up(char* memory, int thread, const float (&d)[sums],
                       float (&total)[sums / split]) {
  constexpr int share = sums / split;
  int own = blockIdx.x % split;
  auto place = [&](int i) { return memory + (i / 4 * multipliers + thread) * sizeof(float4); };
  meet<2, multipliers>();  // the matrices there are no longer read
#pragma unroll
  for (int i = 0; i < sums; i += 4)
    if (i / share != own)
      *reinterpret_cast<float4*>(place(i)) = {d[i], d[i + 1], d[i + 2], d[i + 3]};
#pragma unroll
  for (int i = 0; i < share; i++) {
    total[i] = d[i];
#pragma unroll
    for (int block = 1; block < split; block++)
      if (block == own) total[i] = d[block * share + i];
  }
  meet_cluster();
  for (int further = 1; further < split; further++) {
#pragma unroll
    for (int i = 0; i < share; i += 4) {
      float4 part = read_from((own + further) % split, shared(place(own * share + i)));
      total[i] += part.x, total[i + 1] += part.y, total[i + 2] += part.z, total[i + 3] += part.w;
    }
  }
  meet_cluster();  // nobody leaves whose memory is read
}

__device__ void multiply_all(const Sizes& s, const Buffers& m, const __half* weight,
                             const __half* bias, __half* y) {
  int thread = threadIdx.x - samplers;
  Weights weights(s, weight);
  if (thread == 0)
    for (int i = 0; i < stages; i++) weights.bring(s, m, i);
  Turn turn, before;
  for (Share own(s); own.tile < own.tiles; own.tile += own.stride) {
    Tile tile(s, own.tile);
    float d[sums];
    begin(tile, bias, thread, d);
    for (int step = 0; step < steps; step++, turn.next()) {
      wait(m.full + 8 * turn.stage, turn.parity);
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      u64 a = swizzled_matrix(m.left + turn.stage * left_bytes + thread / 128 * 64 * 128);
      u64 b = bricks(m.right + turn.stage * right_bytes);
#pragma unroll
      for (int i = 0; i < block_in / 16; i++) multiply_add(d, a + 2 * i, b + 16 * i);
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      finish_but<1>();
      if (step > 0) release(s, m, before, weights, thread);
      before = turn;
    }
    finish_but<0>();
    release(s, m, before, weights, thread);
    if constexpr (split == 1) {
      store(s, tile, tile.out, thread, d, y);
    } else {
      float total[sums / split];
      add_up(m.left, thread, d, total);
      store(s, tile, tile.out + blockIdx.x % split * (block_out / split), thread, total, y);
    }
  }
}

extern "C" __global__ void __cluster_dims__(split)
    __launch_bounds__(samplers + multipliers, blocks_per_sm)
        deform_conv2d(const __half* x, const __half* offset, const __half* weight,
                      const __half* mask, const __half* bias, int height, int width, int out_h,
                      int out_w, int stride_h, int stride_w, int padding_h, int padding_w,
                      int dilation_h, int dilation_w, int strip, int first, int last, __half* y) {
  extern __shared__ __align__(1024) char memory[];
  Sizes s{height,    width,      out_h,      out_w, stride_h, stride_w, padding_h,
          padding_w, dilation_h, dilation_w, strip, first,    last};
  Buffers m{memory, memory + stages * left_bytes};
  m.samples = reinterpret_cast<Sample*>(m.right + stages * right_bytes);
  m.full = shared(m.samples + taps * block_pixels), m.empty = m.full + 8 * stages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; i++) {
      make_barrier(m.full + 8 * i, samplers / 32 + 1);
      make_barrier(m.empty + 8 * i, multipliers / 128);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x < samplers)
    sample_all(s, m, x, offset, mask);
  else
    multiply_all(s, m, weight, bias, y);
}
