// Few activation rows by weight matrices, in f32: what decoding waits for is the weights' way from memory. A warp takes
// some outputs and a lane every 32nd block of their weights; the next blocks are on their way while one is multiplied.
// The order of summation depends on the columns alone, so a row's result is the same however many rows there are.
//
// What stands between two products of a layer is done where a block of threads reads its input: the norm, or the
// activation of a gated network.

#define WARPS 4
#define THREADS (WARPS * WARP)
// A staged block of activations is four words longer, so that eight lanes read 16 bytes each without a conflict.
#define STAGED (BLOCK + 4)

// Outputs of a warp where there is one row, and where there are more: as many as leave room for the next blocks.
#define ALONE (FORMAT == F32 ? 1 : FORMAT == MXFP4 || FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT >= Q4_K ? 4 : 2)
#define TOGETHER (FORMAT == F32 ? 1 : 2)

#define PLAIN 0
#define NORMED 1
#define SILU 2
#define CLAMPED 3

struct Input {
    const float* values;
    // The norm's weight, or the values beside the gates.
    const float* second;
    int kind;
    // The norm's epsilon, or alpha and the limit of a clamped activation.
    float first_number;
    float second_number;
    int columns;
};

// A matrix, or those of all experts, and where its product goes.
struct Part {
    const u8* codes;
    const u8* scales;
    const float* bias;
    float* output;
    int outputs;
};

// Factors of the norm, one for each row.
template <int ROWS>
__device__ __forceinline__ void find_factors(Input input, int rows, float* factors) {
    __shared__ float sums[WARPS][ROWS];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll 1
    for (int row = 0; row < ROWS; row++) {
        float sum = 0.0f;
        if (row < rows) {
            const float* values = input.values + (u64)row * input.columns;
#pragma unroll 4
            for (int i = threadIdx.x; i < input.columns; i += THREADS) {
                sum = fmaf(values[i], values[i], sum);
            }
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            sums[warp][row] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.x < ROWS) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS; i++) {
            sum += sums[i][threadIdx.x];
        }
        factors[threadIdx.x] = 1.0f / sqrtf(sum / input.columns + input.first_number);
    }
}

__device__ __forceinline__ float prepared(Input input, int row, int column, float factor) {
    u64 place = (u64)row * input.columns + column;
    float value = input.values[place];
    if (input.kind == NORMED) {
        return value * factor * input.second[column];
    }
    if (input.kind == SILU) {
        return silu(value, input.second[place]);
    }
    if (input.kind == CLAMPED) {
        return clamped_swiglu(value, input.second[place], input.first_number, input.second_number);
    }
    return value;
}

// (Adds) up to ROWS rows of the input times OUTPUTS weight rows of each warp, from `weight_row` on; a chunk of `chunk`
// blocks of the input is staged at a time.
template <int ROWS, int OUTPUTS>
__device__ __forceinline__ void multiply(
    Part part, u64 weight_row, int first, Input input, int rows, int blocks, int chunk, bool accumulate
) {
    extern __shared__ __align__(16) float staged[];
    Weights weights = {part.codes, part.scales, blocks};
    int lane = threadIdx.x % WARP;
    first += threadIdx.x / WARP * OUTPUTS;
    __shared__ float factors[ROWS];
    float sums[OUTPUTS][ROWS] = {};
    Packed packed[OUTPUTS];
    int block = lane;
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++) {
        if (block < blocks) {
            packed[i] = fetch(weights, weight_row + min(first + i, part.outputs - 1), block);
        }
    }
    if (input.kind == NORMED) {
        find_factors<ROWS>(input, rows, factors);
    }
#pragma unroll 1
    for (int start = 0; start < blocks; start += chunk) {
        int end = min(start + chunk, blocks), width = (end - start) * BLOCK;
        __syncthreads();
#pragma unroll 1
        for (int row = 0; row < ROWS; row++) {
            float factor = factors[row];
#pragma unroll 4
            for (int i = threadIdx.x; i < width; i += THREADS) {
                int column = start * BLOCK + i;
                bool exists = row < rows && column < input.columns;
                staged[row * chunk * STAGED + i / BLOCK * STAGED + i % BLOCK] =
                    exists ? prepared(input, row, column, factor) : 0.0f;
            }
        }
        __syncthreads();
#pragma unroll 1
        for (; block < end; block += WARP) {
            Packed next[OUTPUTS];
#pragma unroll
            for (int i = 0; i < OUTPUTS; i++) {
                if (block + WARP < blocks) {
                    next[i] = fetch(weights, weight_row + min(first + i, part.outputs - 1), block + WARP);
                }
            }
#pragma unroll
            for (int i = 0; i < OUTPUTS; i++) {
                float values[BLOCK];
                expand(packed[i], values);
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    const float4* source = (const float4*)(staged + (row * chunk + block - start) * STAGED);
                    float sum = sums[i][row];
#pragma unroll
                    for (int j = 0; j < BLOCK / 4; j++) {
                        float4 four = source[j];
                        sum = fmaf(values[4 * j], four.x, sum);
                        sum = fmaf(values[4 * j + 1], four.y, sum);
                        sum = fmaf(values[4 * j + 2], four.z, sum);
                        sum = fmaf(values[4 * j + 3], four.w, sum);
                    }
                    sums[i][row] = sum;
                }
                packed[i] = next[i];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            float sum = warp_sum(sums[i][row]);
            if (lane == 0 && first + i < part.outputs && row < rows) {
                float* place = part.output + (u64)row * part.outputs + first + i;
                sum += part.bias ? part.bias[first + i] : 0.0f;
                *place = accumulate ? *place + sum : sum;
            }
        }
    }
}

// The part that a block of threads works for, and the number of the block in it.
__device__ __forceinline__ Part part_of(Part first, Part second, Part third, int height, int& index) {
    int in_first = (first.outputs + height - 1) / height, in_second = (second.outputs + height - 1) / height;
    if (index < in_first) {
        return first;
    }
    index -= in_first;
    if (index < in_second) {
        return second;
    }
    index -= in_second;
    return third;
}

#define PART(NAME) const u8 *NAME##_codes, const u8 *NAME##_scales, const float *NAME##_bias, float *NAME##_output, int NAME##_outputs
#define GIVEN(NAME) {NAME##_codes, NAME##_scales, NAME##_bias, NAME##_output, NAME##_outputs}

// output[r] (+)= weights · input[r] + bias, for up to three matrices of one input.
#define MATVEC(ROWS, OUTPUTS, RESIDENT)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) matvec_##ROWS(                                               \
        PART(a), PART(b), PART(c), const float* values, const float* second, int kind, float first_number,             \
        float second_number, int columns, int blocks, int chunk, int rows, int accumulate                              \
    ) {                                                                                                                \
        int index = blockIdx.x, row = blockIdx.y * ROWS;                                                               \
        Part part = part_of(GIVEN(a), GIVEN(b), GIVEN(c), WARPS * OUTPUTS, index);                                     \
        part.output += (u64)row * part.outputs;                                                                        \
        Input input = {values + (u64)row * columns, second, kind, first_number, second_number, columns};               \
        if (kind == SILU || kind == CLAMPED) {                                                                         \
            input.second += (u64)row * columns;                                                                        \
        }                                                                                                              \
        multiply<ROWS, OUTPUTS>(                                                                                       \
            part, 0, index * WARPS * OUTPUTS, input, min(rows - row, ROWS), blocks, chunk, accumulate                  \
        );                                                                                                             \
    }

MATVEC(1, ALONE, 4)
MATVEC(2, TOGETHER, 4)
MATVEC(4, TOGETHER, 4)
MATVEC(8, TOGETHER, 3)

// One row for each (token, chosen expert) pair: output[pair] = weights of the pair's expert · input[pair / share] + bias
extern "C" __global__ void __launch_bounds__(THREADS, 4) matvec_experts(
    PART(a), PART(b), PART(c), const float* values, const float* second, int kind, float first_number,
    float second_number, int columns, int blocks, int chunk, const int* experts, int share
) {
    int index = blockIdx.x, pair = blockIdx.y;
    Part part = part_of(GIVEN(a), GIVEN(b), GIVEN(c), WARPS * ALONE, index);
    u64 weight_row = (u64)experts[pair] * part.outputs, row = pair / share;
    part.output += (u64)pair * part.outputs;
    part.bias += weight_row;
    Input input = {values + row * columns, second, kind, first_number, second_number, columns};
    if (kind == SILU || kind == CLAMPED) {
        input.second += row * columns;
    }
    multiply<1, ALONE>(part, weight_row, index * WARPS * ALONE, input, 1, blocks, chunk, false);
}
