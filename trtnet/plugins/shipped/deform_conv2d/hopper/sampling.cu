// The first warps of deform_conv2d: they sample its left matrices.

struct Sample {          // where a tap samples, for all channels of an offset group
  u32 base;              // the byte at which the upper left of its four pixels begins
  __half2 above, below;  // their weights
};

__device__ Sample sample_of(const Buffers& m, int place) {
  uint2 weights = m.weights[place];
  return {m.bases[place], as_halves(weights.x), as_halves(weights.y)};
}

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
                       const __half* mask, const Buffers& m) {
  constexpr int at_once = samplers / block_pixels, rounds = (taps + at_once - 1) / at_once;
  int pixels = s.out_h * s.out_w, pixel = at.row * s.out_w + at.column;
  u64 entry = u64(at.image * offset_groups + offset_group) * taps;
  int thread = threadIdx.x, first = thread / block_pixels;
  __half down[rounds] = {}, right[rounds] = {}, amount[rounds] = {};
#pragma unroll
  for (int i = 0; i < rounds; i++) {  // all of them on their way at once
    int tap = i * at_once + first;
    if (at.inside && tap < taps) {
      down[i] = __ldg(offset + 2 * (entry + tap) * pixels + pixel);
      right[i] = __ldg(offset + (2 * (entry + tap) + 1) * pixels + pixel);
      amount[i] = has_mask ? __ldg(mask + (entry + tap) * pixels + pixel) : __half(1);
    }
  }
  meet<1, samplers>();  // the table before is no longer read
#pragma unroll
  for (int i = 0; i < rounds; i++) {
    int tap = i * at_once + first;
    Sample sample = sample_at(s, at, tap, __half2float(down[i]), __half2float(right[i]),
                              __half2float(amount[i]));
    if (!at.inside) sample = {};
    int place = tap * block_pixels + thread % block_pixels;
    if (tap < taps) {
      m.bases[place] = sample.base;
      m.weights[place] = {as_word(sample.above), as_word(sample.below)};
    }
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
  __half2 sum = __hmul2(as_halves(a), __low2half2(s.above));
  sum = __hfma2(as_halves(b), __high2half2(s.above), sum);
  sum = __hfma2(as_halves(c), __low2half2(s.below), sum);
  sum = __hfma2(as_halves(d), __high2half2(s.below), sum);
  return as_word(sum);
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
  auto table = [&](int place) { return sample_of(m, line + place); };
  char* target = m.left + line * 128 + (chunk ^ line % 8) * 16;  // swizzled by 128 bytes
  Sample samples[depth];
  Corners corners[depth];
  auto request = [&](int i, const Sample& sample, u32 channel) {
    samples[i] = sample, corners[i] = fetch(x, sample.base + channel, row_bytes);
  };
#pragma unroll
  for (int i = 0; i < depth; i++) request(i, table(i * lines), channel);
  for (int left = count; left > 0; left--, turn.next()) {
    int now = tap * block_pixels;
    u32 channel_now = channel;
    if (++tap == taps) tap = 0, channel += block_in * 2;
    wait(m.empty + 8 * turn.stage, turn.parity ^ 1);
#pragma unroll
    for (int i = 0; i < rounds; i++) {
      char* to = target + turn.stage * left_bytes + i * lines * 128;
      *reinterpret_cast<uint4*>(to) = interpolate(corners[i % depth], samples[i % depth]);
      int next = i + depth - rounds;  // its place in the next step
      if (next < 0) {
        request(i % depth, table(now + (i + depth) * lines), channel_now);
      } else if (left > 1) {
        request(i % depth, table(tap * block_pixels + next * lines), channel);
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
      locate(s, at, offset_group, offset, mask, m);
      wait_for_last();  // what x is from
      sample(m, turn, x, first + part * block_in, (end - part) * taps, s.width * (channels * 2));
    }
  }
  if constexpr (split > 1) meet_cluster();  // those who add up
}
