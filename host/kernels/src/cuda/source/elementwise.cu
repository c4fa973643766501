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

// gate = silu(gate) · up
extern "C" __global__ void silu_mul(float* gate, const float* up, u64 length) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < length) {
        float value = gate[i];
        gate[i] = value / (1.0f + expf(-value)) * up[i];
    }
}

// gpt-oss: with gate at most `limit` and up within ±limit, gate = gate · sigmoid(alpha · gate) · (up + 1)
extern "C" __global__ void clamped_swiglu(float* gate, const float* up, float alpha, float limit, u64 length) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < length) {
        float value = fminf(gate[i], limit);
        float raised = fminf(fmaxf(up[i], -limit), limit);
        gate[i] = value / (1.0f + expf(-alpha * value)) * (raised + 1.0f);
    }
}
