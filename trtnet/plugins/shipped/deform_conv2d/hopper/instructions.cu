// Hopper's instructions that CUDA C++ has no names for: barriers that count bytes, bulk copies,
// clusters, products of matrices in shared memory (PTX ISA, chapters mbarrier, cp.async.bulk,
// barrier.cluster and wgmma), and what threads exchange, read and write some halves at a time with.

#include <cuda_fp16.h>

using u32 = unsigned int;
using u64 = unsigned long long;

__device__ __half2 as_halves(u32 word) { return *reinterpret_cast<__half2*>(&word); }

__device__ u32 as_word(__half2 halves) { return *reinterpret_cast<u32*>(&halves); }

__device__ u32 shared(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

__device__ void make_barrier(u32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ void wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
          barrier),
      "r"(parity)
      : "memory");
}

// Lets the next kernel of the stream begin before this one has ended, if it was launched so.
__device__ void let_next_begin() { asm volatile("griddepcontrol.launch_dependents;"); }

// Waits for the end of the kernel before, if this one may begin earlier.
__device__ void wait_for_last() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Changes how many registers a thread has; all threads of four warps do.
template <int from, int to>
__device__ void set_registers() {
  if constexpr (to > from)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(to));
  else if constexpr (to > 0 && to < from)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(to));
}

template <int barrier, int threads>
__device__ void meet() {
  asm volatile("bar.sync %0, %1;" ::"n"(barrier), "n"(threads) : "memory");
}

__device__ void meet_cluster() {  // all its threads that have not ended
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// What another block of the cluster has in its shared memory at the place `here`.
__device__ float4 read_from(int block, u32 here) {
  float4 value;
  asm volatile(
      "{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n}"
      : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
      : "r"(here), "r"(block)
      : "memory");
  return value;
}

// Arrives at `barrier` when so many bytes have been copied.
__device__ void arrive_after(u32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Copies to shared memory, and counts what is there at `barrier`.
__device__ void copy(u32 to, const void* from, int bytes, u32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// Products

// Describes a matrix in shared memory: rows of 128 bytes, swizzled by 128 bytes.
__device__ u64 swizzled_matrix(const char* p) {
  return (shared(p) & 0x3FFFF) >> 4 | u64(1) << 16 | u64(1024 / 16) << 32 | u64(1) << 62;
}

// One of bricks of 8 rows and 16 bytes; eight of them, one after the other, are 8 rows.
__device__ u64 bricks(const char* p) {
  return (shared(p) & 0x3FFFF) >> 4 | u64(128 / 16) << 16 | u64(1024 / 16) << 32;
}

#define TEN(t)                                                                    \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t \
  "9, "
#define SIXTY TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5)
#define OUT_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OUT_16(i) OUT_4(i), OUT_4(i + 4), OUT_4(i + 8), OUT_4(i + 12)
#define OUT_64(i) OUT_16(i), OUT_16(i + 16), OUT_16(i + 32), OUT_16(i + 48)

// Adds the product of 64 pixels and all output channels over 16 input channels.
template <int count>
__device__ void multiply_add(float (&d)[count], u64 left, u64 right) {
  if constexpr (count == 32) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" TEN() TEN(1) TEN(2)
                 "%30, %31}, %32, %33, 1, 1, 1, 0, 0;"
                 : OUT_16(0), OUT_16(16)
                 : "l"(left), "l"(right));
  } else if constexpr (count == 64) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" SIXTY
                 "%60, %61, %62, %63}, %64, %65, 1, 1, 1, 0, 0;"
                 : OUT_64(0)
                 : "l"(left), "l"(right));
  } else {
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" SIXTY TEN(6) TEN(7) TEN(8)
                 TEN(9) TEN(10) TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127}, "
                 "%128, %129, 1, 1, 1, 0, 0;"
                 : OUT_64(0), OUT_64(64)
                 : "l"(left), "l"(right));
  }
}

template <int newest>
__device__ void finish_but() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(newest) : "memory");
}

// Results

// Of a matrix of 8 by 8, two elements of row `lane / 4` from column `lane % 4 * 2` on, transposed.
__device__ u32 transposed(u32 two) {
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(two));
  return two;
}

// Of two threads so far apart in the warp, the first is given the first values of both, in their
// order, and the second the second ones.
template <int apart>
__device__ void swap(u32& first, u32& second) {
  bool later = threadIdx.x & apart;
  u32 got = __shfl_xor_sync(~0u, later ? first : second, apart);
  first = later ? got : first, second = later ? second : got;
}

// Reads the `place`-th so many of eight halves.
template <int count>
__device__ void read(const __half* from, u32 (&v)[4], int place) {
  if constexpr (count == 8) {
    uint4 all = __ldcs(reinterpret_cast<const uint4*>(from));
    v[0] = all.x, v[1] = all.y, v[2] = all.z, v[3] = all.w;
  } else if constexpr (count == 4) {
    uint2 four = __ldcs(reinterpret_cast<const uint2*>(from));
    v[2 * place] = four.x, v[2 * place + 1] = four.y;
  } else if constexpr (count == 2) {
    v[place] = __ldcs(reinterpret_cast<const u32*>(from));
  } else {
    u32 one = __ldcs(reinterpret_cast<const unsigned short*>(from));
    v[place / 2] |= one << place % 2 * 16;
  }
}

// Writes the `place`-th so many of eight halves.
template <int count>
__device__ void write(__half* to, const u32 (&v)[4], int place) {
  if constexpr (count == 8)
    *reinterpret_cast<uint4*>(to) = {v[0], v[1], v[2], v[3]};
  else if constexpr (count == 4)
    *reinterpret_cast<uint2*>(to) = {v[2 * place], v[2 * place + 1]};
  else if constexpr (count == 2)
    *reinterpret_cast<u32*>(to) = v[place];
  else
    *reinterpret_cast<unsigned short*>(to) = v[place / 2] >> place % 2 * 16;
}
