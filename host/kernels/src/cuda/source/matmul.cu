// Many activation rows by a weight matrix. Two arithmetics: bf16 in tensor cores with sums in f32, and f32 throughout.
//
// Rows may be (token, expert) pairs that are grouped by expert: `tiles` then lists the expert, the first place in `order`
// and the number of pairs of each tile, and `order` the pairs. Without them a tile is a run of rows.

struct Tile {
    int expert;
    int start;
    int count;
};

__device__ __forceinline__ Tile tile_of(const int* tiles, int rows, int height) {
    int index = blockIdx.y;
    if (tiles) {
        return {tiles[3 * index], tiles[3 * index + 1], tiles[3 * index + 2]};
    }
    return {0, index * height, min(rows - index * height, height)};
}

__device__ __forceinline__ int row_of(const int* order, int place) {
    return order ? order[place] : place;
}

#define HEIGHT 64
#define WIDTH 128
#define DEPTH 64
#define THREADS 128
// Rows in shared memory are 16 bytes longer, so that the eight rows of a matrix lie in different banks.
#define STRIDE (DEPTH + 8)

__device__ __forceinline__ void load_matrices(u32* registers, const u16* row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address));
}

__device__ __forceinline__ void multiply_add(float* sums, const u32* left, const u32* right) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

// 32 values as 16 pairs of bf16; zeros beyond the end.
__device__ __forceinline__ void fetch_weights(Weights weights, u64 row, int block, bool exists, u32* pairs) {
    float values[BLOCK];
    if (exists && block < weights.blocks) {
        decode(weights, row, block, values);
    } else {
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            values[i] = 0.0f;
        }
    }
#pragma unroll
    for (int i = 0; i < BLOCK / 2; i++) {
        pairs[i] = to_bfloats(values[2 * i], values[2 * i + 1]);
    }
}

__device__ __forceinline__ void fetch_input(const float* row, int column, int columns, u32* pairs) {
    if (row && column + BLOCK <= columns && columns % 4 == 0) {
#pragma unroll
        for (int i = 0; i < BLOCK / 4; i++) {
            float4 four = *(const float4*)(row + column + 4 * i);
            pairs[2 * i] = to_bfloats(four.x, four.y);
            pairs[2 * i + 1] = to_bfloats(four.z, four.w);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < BLOCK / 2; i++) {
        int place = column + 2 * i;
        float low = row && place < columns ? row[place] : 0.0f;
        float high = row && place + 1 < columns ? row[place + 1] : 0.0f;
        pairs[i] = to_bfloats(low, high);
    }
}

__device__ __forceinline__ void store_pairs(u16* place, const u32* pairs) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ((uint4*)place)[i] = make_uint4(pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]);
    }
}

// A block of threads multiplies HEIGHT rows by WIDTH outputs; each of its four warps half of both. While a step of DEPTH
// columns is multiplied, the next is fetched into registers.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_bf16(
    const u8* codes, const u8* scales, const float* input, const float* bias, float* output, const int* tiles,
    const int* order, int blocks, int columns, int outputs, int rows, int share, int accumulate
) {
    __shared__ __align__(16) u16 left[HEIGHT][STRIDE];
    __shared__ __align__(16) u16 right[WIDTH][STRIDE];
    Tile tile = tile_of(tiles, rows, HEIGHT);
    if (tile.count <= 0) {
        return;
    }
    Weights weights = {codes, scales, blocks};
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    int first_output = blockIdx.x * WIDTH;
    u64 weight_row = (u64)tile.expert * outputs + first_output;

    // Of the activations a thread fetches 32 columns of a row, of the weights 64 columns.
    int own_row = thread / 2, own_half = thread % 2;
    const float* source = nullptr;
    if (own_row < tile.count) {
        source = input + (u64)(row_of(order, tile.start + own_row) / share) * columns;
    }
    bool has_output = first_output + thread < outputs;

    float sums[2][8][4] = {};
    u32 next_left[16], next_right[2][16];
    fetch_input(source, own_half * BLOCK, columns, next_left);
    fetch_weights(weights, weight_row + thread, 0, has_output, next_right[0]);
    fetch_weights(weights, weight_row + thread, 1, has_output, next_right[1]);
    int steps = (blocks + 1) / 2, warp_row = warp / 2 * 32, warp_output = warp % 2 * 64;
    for (int step = 0; step < steps; step++) {
        store_pairs(&left[own_row][own_half * BLOCK], next_left);
        store_pairs(&right[thread][0], next_right[0]);
        store_pairs(&right[thread][BLOCK], next_right[1]);
        __syncthreads();
        if (step + 1 < steps) {
            int block = 2 * (step + 1);
            fetch_input(source, (block + own_half) * BLOCK, columns, next_left);
            fetch_weights(weights, weight_row + thread, block, has_output, next_right[0]);
            fetch_weights(weights, weight_row + thread, block + 1, has_output, next_right[1]);
        }
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            u32 rows_left[2][4], outputs_right[4][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(rows_left[i], &left[warp_row + 16 * i + lane % 16][depth + lane / 16 * 8]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = warp_output + 16 * i + lane / 16 * 8 + lane % 8;
                load_matrices(outputs_right[i], &right[row][depth + lane / 8 % 2 * 8]);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    multiply_add(sums[i][j], rows_left[i], &outputs_right[j / 2][j % 2 * 2]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int place = warp_row + 16 * i + 8 * half + lane / 4;
            if (place >= tile.count) {
                continue;
            }
            float* result = output + (u64)row_of(order, tile.start + place) * outputs;
#pragma unroll
            for (int j = 0; j < 16; j++) {
                int column = first_output + warp_output + j / 2 * 8 + lane % 4 * 2 + j % 2;
                if (column < outputs) {
                    float sum = sums[i][j / 2][2 * half + j % 2];
                    sum += bias ? bias[(u64)tile.expert * outputs + column] : 0.0f;
                    result[column] = accumulate ? result[column] + sum : sum;
                }
            }
        }
    }
}

#define EXACT_HEIGHT 32
#define EXACT_WIDTH 64

// A thread takes four rows by four outputs.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_f32(
    const u8* codes, const u8* scales, const float* input, const float* bias, float* output, const int* tiles,
    const int* order, int blocks, int columns, int outputs, int rows, int share, int accumulate
) {
    __shared__ float left[BLOCK][EXACT_HEIGHT + 1];
    __shared__ float right[BLOCK][EXACT_WIDTH + 1];
    Tile tile = tile_of(tiles, rows, EXACT_HEIGHT);
    if (tile.count <= 0) {
        return;
    }
    Weights weights = {codes, scales, blocks};
    int thread = threadIdx.x, first_output = blockIdx.x * EXACT_WIDTH;
    int row = thread / 16, column = thread % 16;
    float sums[4][4] = {};
    for (int block = 0; block < blocks; block++) {
        for (int i = thread; i < EXACT_HEIGHT * BLOCK; i += THREADS) {
            int place = i / BLOCK, depth = i % BLOCK, source = block * BLOCK + depth;
            bool exists = place < tile.count && source < columns;
            left[depth][place] =
                exists ? input[(u64)(row_of(order, tile.start + place) / share) * columns + source] : 0.0f;
        }
        if (thread < EXACT_WIDTH) {
            float values[BLOCK];
            u64 weight_row = (u64)tile.expert * outputs + min(first_output + thread, outputs - 1);
            decode(weights, weight_row, block, values);
#pragma unroll
            for (int i = 0; i < BLOCK; i++) {
                right[i][thread] = values[i];
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int depth = 0; depth < BLOCK; depth++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    sums[i][j] = fmaf(left[depth][row + 8 * i], right[depth][column + 16 * j], sums[i][j]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int place = row + 8 * i;
        if (place >= tile.count) {
            continue;
        }
        float* result = output + (u64)row_of(order, tile.start + place) * outputs;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int target = first_output + column + 16 * j;
            if (target < outputs) {
                float sum = sums[i][j] + (bias ? bias[(u64)tile.expert * outputs + target] : 0.0f);
                result[target] = accumulate ? result[target] + sum : sum;
            }
        }
    }
}
