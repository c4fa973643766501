// Few activation rows by a weight matrix, in f32: what decoding waits for is the weights' way from memory. A warp takes
// some outputs and a lane every 32nd block of their weights. The order of summation depends on the columns alone, so a
// row's result is the same however many rows there are.

#define WARPS 4
#define OUTPUTS 2
// A staged block of activations is four words longer, so that eight lanes read 16 bytes each without a conflict.
#define STAGED (BLOCK + 4)

// Adds up to ROWS rows of `input` times the weight rows from `weight_row` on.
template <int ROWS>
__device__ __forceinline__ void multiply(
    Weights weights, u64 weight_row, const float* input, int rows, int columns, const float* bias, float* output,
    int outputs, bool accumulate
) {
    __shared__ __align__(16) float staged[ROWS][WARP * STAGED];
    int lane = threadIdx.x % WARP, first = (blockIdx.x * WARPS + threadIdx.x / WARP) * OUTPUTS;
    float sums[OUTPUTS][ROWS] = {};
    for (int start = 0; start < weights.blocks; start += WARP) {
        float values[OUTPUTS][BLOCK];
        bool has_block = start + lane < weights.blocks;
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++) {
            if (has_block) {
                decode(weights, weight_row + min(first + i, outputs - 1), start + lane, values[i]);
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < ROWS * WARP * BLOCK; i += WARPS * WARP) {
            int row = i / (WARP * BLOCK), place = i % (WARP * BLOCK), column = start * BLOCK + place;
            bool exists = row < rows && column < columns;
            staged[row][place / BLOCK * STAGED + place % BLOCK] =
                exists ? input[(u64)row * columns + column] : 0.0f;
        }
        __syncthreads();
        if (has_block) {
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                const float4* source = (const float4*)(staged[row] + lane * STAGED);
#pragma unroll
                for (int i = 0; i < BLOCK / 4; i++) {
                    float4 four = source[i];
#pragma unroll
                    for (int j = 0; j < OUTPUTS; j++) {
                        float sum = sums[j][row];
                        sum = fmaf(values[j][4 * i], four.x, sum);
                        sum = fmaf(values[j][4 * i + 1], four.y, sum);
                        sum = fmaf(values[j][4 * i + 2], four.z, sum);
                        sums[j][row] = fmaf(values[j][4 * i + 3], four.w, sum);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            float sum = warp_sum(sums[i][row]);
            if (lane == 0 && first + i < outputs && row < rows) {
                float* place = output + (u64)row * outputs + first + i;
                sum += bias ? bias[first + i] : 0.0f;
                *place = accumulate ? *place + sum : sum;
            }
        }
    }
}

// output[r] (+)= weights · input[r] + bias
#define MATVEC(ROWS)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(WARPS * WARP) matvec_##ROWS(                                          \
        const u8* codes, const u8* scales, const float* input, const float* bias, float* output, int blocks,           \
        int columns, int outputs, int rows, int accumulate                                                             \
    ) {                                                                                                                \
        int first = blockIdx.y * ROWS;                                                                                 \
        multiply<ROWS>(                                                                                                \
            {codes, scales, blocks}, 0, input + (u64)first * columns, min(rows - first, ROWS), columns, bias,          \
            output + (u64)first * outputs, outputs, accumulate                                                         \
        );                                                                                                             \
    }

MATVEC(1)
MATVEC(2)
MATVEC(4)
MATVEC(8)

// One row for each (token, chosen expert) pair: output[pair] = weights of the pair's expert · input[pair / share] + bias
extern "C" __global__ void __launch_bounds__(WARPS * WARP) matvec_experts(
    const u8* codes, const u8* scales, const float* input, const float* bias, float* output, const int* experts,
    int blocks, int columns, int outputs, int share
) {
    int pair = blockIdx.y;
    u64 weight_row = (u64)experts[pair] * outputs;
    multiply<1>(
        {codes, scales, blocks}, weight_row, input + (u64)(pair / share) * columns, 1, columns, bias + weight_row,
        output + (u64)pair * outputs, outputs, false
    );
}
