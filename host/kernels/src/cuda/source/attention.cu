// Causal attention over the paged cache with a running softmax, split over the keys: a block of threads takes one query
// row, the query heads of one key-value head (HEADS of them at most) and SPLIT consecutive positions, so that the splits
// of a row depend on its position alone. Each leaves its sums and state, which `join_splits` puts together; where no row
// has more than one split, its block does so itself, in the same arithmetic.
// CACHE tells the format of what is stored: 0 for f32, 1 for f16. A cache block is [kv head][token][component].

#if CACHE
typedef u16 Stored;
#define LOAD(value) from_half(value)
#else
typedef float Stored;
#define LOAD(value) (value)
#endif

#define THREADS 128
#define HEADS 8
#define SPLIT 512
#define MOST_COMPONENTS 256

struct Cache {
    const Stored* values;
    const int* table;
    int kv_heads;
    int head;
    int block_tokens;
    int head_dim;
};

__device__ __forceinline__ const Stored* row_at(Cache cache, int position) {
    u64 block = cache.table[position / cache.block_tokens];
    u64 slot = (block * cache.kv_heads + cache.head) * cache.block_tokens + position % cache.block_tokens;
    return cache.values + slot * cache.head_dim;
}

// The product of a staged query with a key.
__device__ __forceinline__ float product(const float* query, const Stored* key, int head_dim) {
    float sum = 0.0f;
#if CACHE
    if (head_dim % 8 == 0) {
        for (int i = 0; i < head_dim; i += 8) {
            uint4 words = *(const uint4*)(key + i);
            u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum = fmaf(query[i + 2 * j], from_half((u16)word[j]), sum);
                sum = fmaf(query[i + 2 * j + 1], from_half((u16)(word[j] >> 16)), sum);
            }
        }
        return sum;
    }
#endif
    for (int i = 0; i < head_dim; i++) {
        sum = fmaf(query[i], LOAD(key[i]), sum);
    }
    return sum;
}

// Products of all staged queries with one key: the key is read once.
__device__ __forceinline__ void products(
    const float (*queries)[MOST_COMPONENTS], const Stored* key, int head_dim, float* sums
) {
#pragma unroll
    for (int head = 0; head < HEADS; head++) {
        sums[head] = 0.0f;
    }
#if CACHE
    if (head_dim % 8 == 0) {
        for (int i = 0; i < head_dim; i += 8) {
            uint4 words = *(const uint4*)(key + i);
            u32 word[4] = {words.x, words.y, words.z, words.w};
            float values[8];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                values[2 * j] = from_half((u16)word[j]);
                values[2 * j + 1] = from_half((u16)(word[j] >> 16));
            }
#pragma unroll
            for (int head = 0; head < HEADS; head++) {
                const float4* query = (const float4*)(queries[head] + i);
                float4 low = query[0], high = query[1];
                float sum = sums[head];
                sum = fmaf(low.x, values[0], sum);
                sum = fmaf(low.y, values[1], sum);
                sum = fmaf(low.z, values[2], sum);
                sum = fmaf(low.w, values[3], sum);
                sum = fmaf(high.x, values[4], sum);
                sum = fmaf(high.y, values[5], sum);
                sum = fmaf(high.z, values[6], sum);
                sums[head] = fmaf(high.w, values[7], sum);
            }
        }
        return;
    }
#endif
    for (int i = 0; i < head_dim; i++) {
        float value = LOAD(key[i]);
#pragma unroll
        for (int head = 0; head < HEADS; head++) {
            sums[head] = fmaf(queries[head][i], value, sums[head]);
        }
    }
}

// partial[row][head][split]: `head_dim` sums; states the same with the largest score and the sum of weights.
extern "C" __global__ void __launch_bounds__(THREADS) attend(
    const float* queries, const Stored* key_cache, const Stored* value_cache, const int* positions,
    const int* table_starts, const int* tables, const float* sinks, float* partial, float2* states, float* output,
    int heads, int kv_heads, int head_dim, int block_tokens, int window, float scale
) {
    __shared__ __align__(16) float staged[HEADS][MOST_COMPONENTS];
    __shared__ __align__(16) float weights[THREADS][HEADS];
    __shared__ float maxima[HEADS], totals[HEADS], factors[HEADS];
    int group = heads / kv_heads, chunks = (group + HEADS - 1) / HEADS;
    int kv_head = blockIdx.x / chunks, first_head = kv_head * group + blockIdx.x % chunks * HEADS;
    int count = min(HEADS, (kv_head + 1) * group - first_head);
    int row = blockIdx.y, split = blockIdx.z, splits = gridDim.z, thread = threadIdx.x;
    int position = positions[row];
    int begin = max(split * SPLIT, window > 0 ? position + 1 - window : 0);
    int end = min((split + 1) * SPLIT, position + 1);
    if (begin >= end) {
        if (thread < count) {
            states[((u64)row * heads + first_head + thread) * splits + split] = make_float2(NEGATIVE_INFINITY, 0.0f);
        }
        return;
    }
    const int* table = tables + table_starts[row];
    Cache keys = {key_cache, table, kv_heads, kv_head, block_tokens, head_dim};
    Cache values = {value_cache, table, kv_heads, kv_head, block_tokens, head_dim};
    for (int i = thread; i < HEADS * head_dim; i += THREADS) {
        int head = i / head_dim, component = i % head_dim;
        staged[head][component] =
            head < count ? queries[((u64)row * heads + first_head + head) * head_dim + component] * scale : 0.0f;
    }
    if (thread < HEADS) {
        maxima[thread] = NEGATIVE_INFINITY;
        totals[thread] = 0.0f;
    }
    __syncthreads();

    // A thread sums some components over every `parts`th value; of heads above 128 components it takes two.
    int width = min(head_dim, THREADS), parts = THREADS / width, part = thread / width;
    float sums[2][HEADS] = {};
    for (int tile = begin; tile < end; tile += THREADS) {
        int length = min(THREADS, end - tile);
        float scores[HEADS];
        if (thread < length) {
            products(staged, row_at(keys, tile + thread), head_dim, scores);
        }
#pragma unroll
        for (int head = 0; head < HEADS; head++) {
            weights[thread][head] = thread < length ? scores[head] : NEGATIVE_INFINITY;
        }
        __syncthreads();
        int lane = thread % WARP;
        for (int head = thread / WARP; head < HEADS; head += THREADS / WARP) {
            float score[THREADS / WARP], largest = maxima[head], sum = 0.0f;
#pragma unroll
            for (int i = 0; i < THREADS / WARP; i++) {
                score[i] = weights[lane + WARP * i][head];
                largest = fmaxf(largest, score[i]);
            }
            largest = warp_max(largest);
#pragma unroll
            for (int i = 0; i < THREADS / WARP; i++) {
                float weight = expf(score[i] - largest);
                weights[lane + WARP * i][head] = weight;
                sum += weight;
            }
            sum = warp_sum(sum);
            // All lanes have read the largest score before it changes.
            __syncwarp();
            if (lane == 0) {
                factors[head] = expf(maxima[head] - largest);
                totals[head] = totals[head] * factors[head] + sum;
                maxima[head] = largest;
            }
        }
        __syncthreads();
        if (part < parts) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int component = thread % width + half * THREADS;
                if (component < head_dim) {
#pragma unroll
                    for (int head = 0; head < HEADS; head++) {
                        sums[half][head] *= factors[head];
                    }
                    for (int i = part; i < length; i += parts) {
                        float value = LOAD(row_at(values, tile + i)[component]);
                        const float4* weight = (const float4*)weights[i];
                        float4 low = weight[0], high = weight[1];
                        sums[half][0] = fmaf(low.x, value, sums[half][0]);
                        sums[half][1] = fmaf(low.y, value, sums[half][1]);
                        sums[half][2] = fmaf(low.z, value, sums[half][2]);
                        sums[half][3] = fmaf(low.w, value, sums[half][3]);
                        sums[half][4] = fmaf(high.x, value, sums[half][4]);
                        sums[half][5] = fmaf(high.y, value, sums[half][5]);
                        sums[half][6] = fmaf(high.z, value, sums[half][6]);
                        sums[half][7] = fmaf(high.w, value, sums[half][7]);
                    }
                }
            }
        }
        __syncthreads();
    }

    // The parts are added one after the other, in the room of the queries.
    for (int turn = 0; turn < parts; turn++) {
        if (part == turn) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int component = thread % width + half * THREADS;
                if (component < head_dim) {
#pragma unroll
                    for (int head = 0; head < HEADS; head++) {
                        float before = turn == 0 ? 0.0f : staged[head][component];
                        staged[head][component] = before + sums[half][head];
                    }
                }
            }
        }
        __syncthreads();
    }
    if (splits == 1) {
        for (int i = thread; i < count * head_dim; i += THREADS) {
            int head = i / head_dim;
            float sink = sinks ? sinks[first_head + head] : NEGATIVE_INFINITY;
            float largest = fmaxf(sink, maxima[head]), factor = expf(maxima[head] - largest);
            float total = fmaf(totals[head], factor, sinks ? expf(sink - largest) : 0.0f);
            output[((u64)row * heads + first_head) * head_dim + i] = staged[head][i % head_dim] * factor / total;
        }
        return;
    }
    for (int i = thread; i < count * head_dim; i += THREADS) {
        u64 place = ((u64)row * heads + first_head + i / head_dim) * splits + split;
        partial[place * head_dim + i % head_dim] = staged[i / head_dim][i % head_dim];
    }
    if (thread < count) {
        states[((u64)row * heads + first_head + thread) * splits + split] =
            make_float2(maxima[thread], totals[thread]);
    }
}

// One block of threads for each row and head.
extern "C" __global__ void join_splits(
    const float* partial, const float2* states, const float* sinks, float* output, int heads, int head_dim, int splits
) {
    u64 place = (u64)blockIdx.x * heads + blockIdx.y;
    const float2* state = states + place * splits;
    float largest = sinks ? sinks[blockIdx.y] : NEGATIVE_INFINITY;
    for (int i = 0; i < splits; i++) {
        largest = fmaxf(largest, state[i].x);
    }
    float total = sinks ? expf(sinks[blockIdx.y] - largest) : 0.0f;
    for (int i = 0; i < splits; i++) {
        total = fmaf(state[i].y, expf(state[i].x - largest), total);
    }
    for (int component = threadIdx.x; component < head_dim; component += blockDim.x) {
        float sum = 0.0f;
        for (int i = 0; i < splits; i++) {
            if (state[i].y > 0.0f) {
                sum = fmaf(partial[(place * splits + i) * head_dim + component], expf(state[i].x - largest), sum);
            }
        }
        output[place * head_dim + component] = sum / total;
    }
}

// For each row and head: entropy of the attention, mean and variance of the scores, the sink's share. A block of threads
// takes one row and head and goes over the keys three times: for the largest score, the mean, and the rest.
extern "C" __global__ void __launch_bounds__(THREADS) attention_statistics(
    const float* queries, const Stored* key_cache, const int* positions, const int* table_starts, const int* tables,
    const float* sinks, float4* output, int heads, int kv_heads, int head_dim, int block_tokens, int window,
    float scale
) {
    __shared__ __align__(16) float query[MOST_COMPONENTS];
    __shared__ float parts[THREADS / WARP][4];
    int row = blockIdx.x, head = blockIdx.y, thread = threadIdx.x;
    int position = positions[row], begin = max(0, window > 0 ? position + 1 - window : 0);
    Cache keys = {key_cache, tables + table_starts[row], kv_heads, head / (heads / kv_heads), block_tokens, head_dim};
    for (int i = thread; i < head_dim; i += THREADS) {
        query[i] = queries[((u64)row * heads + head) * head_dim + i] * scale;
    }
    __syncthreads();
    float largest = sinks ? sinks[head] : NEGATIVE_INFINITY, sum = 0.0f;
    for (int i = begin + thread; i <= position; i += THREADS) {
        float score = product(query, row_at(keys, i), head_dim);
        largest = fmaxf(largest, score);
        sum += score;
    }
    largest = warp_max(largest);
    sum = warp_sum(sum);
    if (thread % WARP == 0) {
        parts[thread / WARP][0] = largest;
        parts[thread / WARP][1] = sum;
    }
    __syncthreads();
    sum = 0.0f;
    for (int i = 0; i < THREADS / WARP; i++) {
        largest = fmaxf(largest, parts[i][0]);
        sum += parts[i][1];
    }
    __syncthreads();
    float mean = sum / (position + 1 - begin), mass = 0.0f, weighted = 0.0f, squares = 0.0f;
    for (int i = begin + thread; i <= position; i += THREADS) {
        float score = product(query, row_at(keys, i), head_dim), weight = expf(score - largest);
        mass += weight;
        // A weight that vanished tells nothing, whatever its distance.
        weighted += weight > 0.0f ? weight * (score - largest) : 0.0f;
        squares = fmaf(score - mean, score - mean, squares);
    }
    mass = warp_sum(mass);
    weighted = warp_sum(weighted);
    squares = warp_sum(squares);
    if (thread % WARP == 0) {
        parts[thread / WARP][0] = mass;
        parts[thread / WARP][1] = weighted;
        parts[thread / WARP][2] = squares;
    }
    __syncthreads();
    if (thread == 0) {
        float sink = sinks ? expf(sinks[head] - largest) : 0.0f;
        mass = sink;
        weighted = sink > 0.0f ? sink * (sinks[head] - largest) : 0.0f;
        squares = 0.0f;
        for (int i = 0; i < THREADS / WARP; i++) {
            mass += parts[i][0];
            weighted += parts[i][1];
            squares += parts[i][2];
        }
        float entropy = fmaxf(0.0f, logf(mass) - weighted / mass);
        output[(u64)row * heads + head] = make_float4(entropy, mean, squares / (position + 1 - begin), sink / mass);
    }
}
