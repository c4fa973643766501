// The experts of each token, and their pairs grouped for products by expert.

// A warp takes the `active` largest of a token's `experts` router logits, the lower expert of equals, and writes them in
// ascending order with the softmax over them (`modeling_gpt_oss.py`, `GptOssTopKRouter`).
extern "C" __global__ void choose_experts(const float* logits, int* chosen, float* weights, int experts, int active) {
    extern __shared__ float values[];
    int lane = threadIdx.x;
    for (int i = lane; i < experts; i += WARP) {
        values[i] = logits[(u64)blockIdx.x * experts + i];
    }
    // Whether the expert was taken, behind the logits.
    int* taken = (int*)(values + experts);
    for (int i = lane; i < experts; i += WARP) {
        taken[i] = 0;
    }
    __syncwarp();
    float largest = NEGATIVE_INFINITY;
    for (int round = 0; round < active; round++) {
        float best = NEGATIVE_INFINITY;
        int best_expert = experts;
        for (int i = lane; i < experts; i += WARP) {
            if (!taken[i] && (best_expert == experts || values[i] > best)) {
                best = values[i];
                best_expert = i;
            }
        }
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            float other = __shfl_xor_sync(FULL_MASK, best, distance);
            int other_expert = __shfl_xor_sync(FULL_MASK, best_expert, distance);
            bool is_better = other > best || (other == best && other_expert < best_expert) || best_expert == experts;
            if (other_expert < experts && is_better) {
                best = other;
                best_expert = other_expert;
            }
        }
        if (round == 0) {
            largest = best;
        }
        // All lanes have looked at who is taken before that changes.
        __syncwarp();
        if (lane == 0 && best_expert < experts) {
            taken[best_expert] = 1;
        }
        __syncwarp();
    }
    if (lane == 0) {
        float sum = 0.0f;
        for (int i = 0; i < experts; i++) {
            sum += taken[i] ? expf(values[i] - largest) : 0.0f;
        }
        u64 place = (u64)blockIdx.x * active;
        for (int i = 0; i < experts; i++) {
            if (taken[i]) {
                chosen[place] = i;
                weights[place] = expf(values[i] - largest) / sum;
                place++;
            }
        }
    }
}

#define MOST_EXPERTS 1024

// One block of 1024 threads: lists the pairs from `first` to `end` by expert, in ascending order within one, and the tiles of
// `height` pairs; the tiles behind the last have no pairs.
extern "C" __global__ void __launch_bounds__(1024)
group_by_expert(const int* chosen, int* order, int* tiles, int first, int end, int experts, int height, int most_tiles) {
    __shared__ int counts[MOST_EXPERTS];
    __shared__ int starts[MOST_EXPERTS];
    int lane = threadIdx.x % WARP;
    for (int expert = threadIdx.x / WARP; expert < experts; expert += blockDim.x / WARP) {
        int count = 0;
        for (int pair = first + lane; pair < end; pair += WARP) {
            count += chosen[pair] == expert;
        }
        count = (int)warp_sum((float)count);
        if (lane == 0) {
            counts[expert] = count;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int start = 0, tile = 0;
        for (int expert = 0; expert < experts; expert++) {
            starts[expert] = start;
            for (int done = 0; done < counts[expert]; done += height) {
                tiles[3 * tile] = expert;
                tiles[3 * tile + 1] = start + done;
                tiles[3 * tile + 2] = min(counts[expert] - done, height);
                tile++;
            }
            start += counts[expert];
        }
        for (; tile < most_tiles; tile++) {
            tiles[3 * tile + 2] = 0;
        }
    }
    __syncthreads();
    for (int expert = threadIdx.x / WARP; expert < experts; expert += blockDim.x / WARP) {
        int place = starts[expert];
        for (int start = first; start < end; start += WARP) {
            int pair = start + lane;
            bool is_own = pair < end && chosen[pair] == expert;
            u32 own = __ballot_sync(FULL_MASK, is_own);
            if (is_own) {
                order[place + __popc(own & ((1u << lane) - 1))] = pair;
            }
            place += __popc(own);
        }
    }
}

// hidden[token] += Σ weights · terms over the token's pairs, in their order.
extern "C" __global__ void add_mixture(
    float* hidden, const float* terms, const float* weights, int width, int active, u64 length
) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= length) {
        return;
    }
    u64 token = i / width, column = i % width;
    float sum = hidden[i];
    for (int slot = 0; slot < active; slot++) {
        u64 pair = token * active + slot;
        sum = fmaf(weights[pair], terms[pair * width + column], sum);
    }
    hidden[i] = sum;
}
