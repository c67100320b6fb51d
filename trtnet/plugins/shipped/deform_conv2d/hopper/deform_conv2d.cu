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
//   sampler_registers, multiplier_registers: how many a thread of these has; 0: as many as others

extern "C" __global__ void __cluster_dims__(split)
    __launch_bounds__(samplers + multipliers, blocks_per_sm)
        deform_conv2d(const __half* x, const __half* weight, const __half* offset,
                      const __half* mask, const __half* bias, int height, int width, int out_h,
                      int out_w, int stride_h, int stride_w, int padding_h, int padding_w,
                      int dilation_h, int dilation_w, int strip, int first, int last, __half* y) {
  extern __shared__ __align__(1024) char memory[];
  Sizes s{height,    width,      out_h,      out_w, stride_h, stride_w, padding_h,
          padding_w, dilation_h, dilation_w, strip, first,    last};
  Buffers m{memory, memory + stages * left_bytes};
  m.weights = reinterpret_cast<uint2*>(m.right + stages * right_bytes);
  m.bases = reinterpret_cast<u32*>(m.weights + taps * block_pixels);
  m.full = shared(m.bases + taps * block_pixels), m.empty = m.full + 8 * stages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; i++) {
      make_barrier(m.full + 8 * i, samplers / 32 + 1);
      make_barrier(m.empty + 8 * i, multipliers / 128);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x < samplers) {
    set_registers<registers, sampler_registers>();
    sample_all(s, m, x, offset, mask);
  } else {
    set_registers<registers, multiplier_registers>();
    multiply_all(s, m, weight, bias, y);
  }
}
