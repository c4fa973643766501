#define NORM_THREADS 256

// output[r] = input[row] · weight / sqrt(mean square + epsilon), with row = selected[r], or r where nothing is selected.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
rms_norm(const float* input, const float* weight, const int* selected, float* output, int width, float epsilon) {
    __shared__ float sums[NORM_THREADS / WARP];
    const float* row = input + (u64)(selected ? selected[blockIdx.x] : blockIdx.x) * width;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += NORM_THREADS) {
        sum = fmaf(row[i], row[i], sum);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) {
        sums[threadIdx.x / WARP] = sum;
    }
    __syncthreads();
    sum = 0.0f;
    for (int i = 0; i < NORM_THREADS / WARP; i++) {
        sum += sums[i];
    }
    float factor = 1.0f / sqrtf(sum / width + epsilon);
    for (int i = threadIdx.x; i < width; i += NORM_THREADS) {
        output[(u64)blockIdx.x * width + i] = row[i] * factor * weight[i];
    }
}

// gate = silu(gate) · up, or gpt-oss's activation where `limit` is above 0.
extern "C" __global__ void activate(float* gate, const float* up, float alpha, float limit, u64 length) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < length) {
        gate[i] = limit > 0.0f ? clamped_swiglu(gate[i], up[i], alpha, limit) : silu(gate[i], up[i]);
    }
}

// Rows of `columns` values as bf16, each filled up with zeros to `padded` values; a thread takes two.
extern "C" __global__ void round_rows(const float* input, u32* output, int columns, int padded, u64 rows) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    int half = padded / 2;
    if (i >= rows * half) {
        return;
    }
    u64 row = i / half;
    int column = i % half * 2;
    const float* source = input + row * columns + column;
    float low = column < columns ? source[0] : 0.0f, high = column + 1 < columns ? source[1] : 0.0f;
    output[i] = to_bfloats(low, high);
}
