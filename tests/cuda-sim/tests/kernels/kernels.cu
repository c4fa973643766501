#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void row_sum(const float* x, float* y, int n) {
  extern __shared__ float part[];
  float s = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s += x[(size_t)blockIdx.x * n + i];
  for (int o = 16; o > 0; o >>= 1) s += __shfl_xor_sync(0xffffffff, s, o);
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = s;
  __syncthreads();
  if (threadIdx.x == 0) { float t = 0.f; for (int w = 0; w < blockDim.x / 32; w++) t += part[w]; y[blockIdx.x] = t; }
}
extern "C" __global__ void row_sum_without_barrier(const float* x, float* y, int n) {
  extern __shared__ float part[];
  float s = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s += x[(size_t)blockIdx.x * n + i];
  part[threadIdx.x] = s;
  if (threadIdx.x == 0) { float t = 0.f; for (int w = 0; w < blockDim.x; w++) t += part[w]; y[blockIdx.x] = t; }
}
extern "C" __global__ void scale_past_the_end(float* x) { x[threadIdx.x] *= 2.f; }
extern "C" __global__ void count(unsigned* bins, const unsigned char* v, int n) {
  __shared__ unsigned local[16];
  if (threadIdx.x < 16) local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[v[i] & 15], 1u);
  __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}
// One 16x8 tile of C = A[16,k] B[8,k]^T in bf16: cp.async, ldmatrix, mma.sync.
template <bool WAIT> __device__ void tile(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int k) {
  __shared__ __align__(16) __nv_bfloat16 sa[16][16], sb[8][16];
  int lane = threadIdx.x; float d[4] = {0, 0, 0, 0};
  for (int k0 = 0; k0 < k; k0 += 16) {
    unsigned pa = __cvta_generic_to_shared(&sa[lane / 2][lane % 2 * 8]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(pa), "l"(a + lane / 2 * k + k0 + lane % 2 * 8));
    if (lane < 16) {
      unsigned pb = __cvta_generic_to_shared(&sb[lane / 2][lane % 2 * 8]);
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(pb), "l"(b + lane / 2 * k + k0 + lane % 2 * 8));
    }
    asm volatile("cp.async.commit_group;");
    if (WAIT) asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    unsigned x[4], y[2];
    unsigned la = __cvta_generic_to_shared(&sa[lane % 16][lane / 16 * 8]);
    unsigned lb = __cvta_generic_to_shared(&sb[lane % 8][lane / 8 % 2 * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(la));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(y[0]), "=r"(y[1]) : "r"(lb));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    __syncthreads();
  }
  int g = lane / 4, t = lane % 4 * 2;
  c[g * 8 + t] = d[0]; c[g * 8 + t + 1] = d[1]; c[(g + 8) * 8 + t] = d[2]; c[(g + 8) * 8 + t + 1] = d[3];
}
extern "C" __global__ void multiply(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int k) { tile<true>(a, b, c, k); }
extern "C" __global__ void multiply_without_wait(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int k) { tile<false>(a, b, c, k); }
extern "C" __global__ void exponent(const float* x, __half* y, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = __float2half(expf(x[i])); }
