// The other warps of deform_conv2d: they multiply, and write the results.

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

// What the sums of a thread begin with: the bias, once for all blocks of a cluster. They are those
// of two pixels, eight apart, and two of every eight channels.
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

// Writes the sums of the channels from `out` on. Threads exchange some first, so that each has
// `together` pixels, and its neighbours those beside them: the 16 of a warp, which is a whole
// sector of `y` where they lie together.
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
      v[k] = as_word(__floats2half2_rn(d[i + 2 * k], d[i + 2 * k + 1]));
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
  // The matrices there are no longer written or read. A barrier of the block would do, but NVIDIA's
  // racecheck follows none in the later blocks of a cluster.
  meet_cluster();
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
  wait_for_last();  // what the weights are from
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
