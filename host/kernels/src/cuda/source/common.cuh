// What every kernel uses: numbers of 16 bits, sums over a warp and a block. No header is included, so that any NVRTC
// compiles this as it is.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32
#define FULL_MASK 0xffffffffu
#define NEGATIVE_INFINITY __int_as_float(0xff800000)

__device__ __forceinline__ float from_half(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ u16 to_half(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float from_bfloat(u16 bits) {
    return __uint_as_float((u32)bits << 16);
}

// Two values as a pair of bf16, the first in the low half, rounded to nearest even.
__device__ __forceinline__ u32 to_bfloats(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// Products of two pairs of bf16.
__device__ __forceinline__ u32 multiply_bfloats(u32 left, u32 right) {
    u32 product;
    // A product of bf16 is there from sm_90 on, a product and a sum before; minus zero changes no sum.
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(left), "r"(right), "r"(0x80008000u));
    return product;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(FULL_MASK, value, distance);
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_MASK, value, distance));
    }
    return value;
}

// silu(gate) · up
__device__ __forceinline__ float silu(float gate, float up) {
    return gate / (1.0f + expf(-gate)) * up;
}

// gpt-oss: with gate at most `limit` and up within ±limit, gate · sigmoid(alpha · gate) · (up + 1)
__device__ __forceinline__ float clamped_swiglu(float gate, float up, float alpha, float limit) {
    gate = fminf(gate, limit);
    up = fminf(fmaxf(up, -limit), limit);
    return gate / (1.0f + expf(-alpha * gate)) * (up + 1.0f);
}
