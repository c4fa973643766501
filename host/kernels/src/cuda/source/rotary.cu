// Turns queries and keys by their positions' angles ("halves" layout) and writes keys and values to the cache.
// CACHE tells the format of what is stored: 0 for f32, 1 for f16. A cache block is [kv head][token][component].

#if CACHE
typedef u16 Stored;
#define STORE(value) to_half(value)
#else
typedef float Stored;
#define STORE(value) (value)
#endif

// One block of threads for each token and head: first the query heads, then the key-value heads.
extern "C" __global__ void rotate_and_store(
    float* queries, float* keys, const float* values, const float* cosines, const float* sines, Stored* key_cache,
    Stored* value_cache, const int* positions, const int* table_starts, const int* tables, int heads, int kv_heads,
    int head_dim, int block_tokens
) {
    int token = blockIdx.x, head = blockIdx.y, pairs = head_dim / 2;
    bool is_key = head >= heads;
    float* row = is_key ? keys + ((u64)token * kv_heads + head - heads) * head_dim
                        : queries + ((u64)token * heads + head) * head_dim;
    u64 place = 0;
    if (is_key) {
        int position = positions[token];
        u64 block = tables[table_starts[token] + position / block_tokens];
        place = ((block * kv_heads + head - heads) * block_tokens + position % block_tokens) * head_dim;
    }
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        float cosine = cosines[token * pairs + i], sine = sines[token * pairs + i];
        float first = row[i], second = row[i + pairs];
        float turned_first = first * cosine - second * sine, turned_second = second * cosine + first * sine;
        row[i] = turned_first;
        row[i + pairs] = turned_second;
        if (is_key) {
            key_cache[place + i] = STORE(turned_first);
            key_cache[place + i + pairs] = STORE(turned_second);
        }
    }
    if (is_key) {
        const float* value = values + ((u64)token * kv_heads + head - heads) * head_dim;
        for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
            value_cache[place + i] = STORE(value[i]);
        }
    }
}

// Makes block `to` a copy of block `from`, in elements of 4 bytes.
extern "C" __global__ void copy_block(u32* cache, u64 from, u64 to, u64 length) {
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < length; i += (u64)gridDim.x * blockDim.x) {
        cache[to * length + i] = cache[from * length + i];
    }
}
