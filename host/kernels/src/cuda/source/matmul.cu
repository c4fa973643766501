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

__device__ __forceinline__ void copy_later(u16* target, const u16* source, bool exists) {
    u32 address = (u32)__cvta_generic_to_shared(target);
    // What does not exist is filled with zeros.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(address), "l"(source), "r"(exists ? 16 : 0));
}

__device__ __forceinline__ void end_of_copies() {
    asm volatile("cp.async.commit_group;");
}

__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group 0;");
}

__device__ __forceinline__ void store_pairs(u16* place, const u32* pairs) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ((uint4*)place)[i] = make_uint4(pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]);
    }
}

// A block of threads multiplies HEIGHT rows by WIDTH outputs; each of its four warps half of both. The input is bf16
// already, its rows filled up to whole blocks. While a step of DEPTH columns is multiplied, the next is on its way: the
// input's into the other half of `left`, the weights' into registers.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_bf16(
    const u8* codes, const u8* scales, const u16* input, const float* bias, float* output, const int* tiles,
    const int* order, int blocks, int columns, int outputs, int rows, int share, int accumulate
) {
    __shared__ __align__(16) u16 left[2][HEIGHT][STRIDE];
    __shared__ __align__(16) u16 right[WIDTH][STRIDE];
    Tile tile = tile_of(tiles, rows, HEIGHT);
    if (tile.count <= 0) {
        return;
    }
    Weights weights = {codes, scales, blocks};
    int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    int first_output = blockIdx.x * WIDTH;
    u64 weight_row = (u64)tile.expert * outputs;

    // Eight threads copy the 128 bytes of a row, every 16th row each.
    const u16* sources[HEIGHT / 16];
    int copy_row = thread / 8, copy_column = thread % 8 * 8;
#pragma unroll
    for (int i = 0; i < HEIGHT / 16; i++) {
        int place = copy_row + 16 * i;
        sources[i] = place < tile.count
            ? input + (u64)(row_of(order, tile.start + place) / share) * blocks * BLOCK
            : nullptr;
    }
    auto copy_input = [&](int step) {
        int column = step * DEPTH + copy_column;
#pragma unroll
        for (int i = 0; i < HEIGHT / 16; i++) {
            bool exists = sources[i] && column < blocks * BLOCK;
            copy_later(&left[step % 2][copy_row + 16 * i][copy_column], exists ? sources[i] + column : input, exists);
        }
        end_of_copies();
    };
    // Two threads fetch two rows of weights, a block of each.
    int own_half = thread % 2;
    Packed packed[2];
    bool has_block[2];
    auto fetch_weights = [&](int step) {
        int block = 2 * step + own_half;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int place = first_output + thread / 2 + HEIGHT * i;
            has_block[i] = place < outputs && block < blocks;
            if (has_block[i]) {
                packed[i] = fetch(weights, weight_row + place, block);
            }
        }
    };

    float sums[2][8][4] = {};
    int steps = (blocks + 1) / 2, warp_row = warp / 2 * 32, warp_output = warp % 2 * 64;
    copy_input(0);
    fetch_weights(0);
    for (int step = 0; step < steps; step++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 pairs[BLOCK / 2] = {};
            if (has_block[i]) {
                expand_to_pairs(packed[i], pairs);
            }
            store_pairs(&right[thread / 2 + HEIGHT * i][own_half * BLOCK], pairs);
        }
        wait_for_copies();
        __syncthreads();
        if (step + 1 < steps) {
            copy_input(step + 1);
            fetch_weights(step + 1);
        }
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            u32 rows_left[2][4], outputs_right[4][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(rows_left[i], &left[step % 2][warp_row + 16 * i + lane % 16][depth + lane / 16 * 8]);
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
            expand(fetch(weights, weight_row, block), values);
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
