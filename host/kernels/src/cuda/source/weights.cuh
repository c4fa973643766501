// Weight rows as the device holds them: blocks of 32 values, the last one of a row filled up with zeros. Where a format
// has scales they lie apart from the codes, so that a block's codes are whole words. A program is compiled for one
// format, which the compiler is told as FORMAT.

#define F32 0
#define F16 1
#define BF16 2
#define Q4_0 3
#define Q4_1 4
#define Q5_0 5
#define Q5_1 6
#define Q8_0 7
#define Q4_K 8
#define Q5_K 9
#define Q6_K 10
#define MXFP4 11

#define BLOCK 32

struct Weights {
    const u8* codes;
    const u8* scales;
    // Blocks in a row.
    int blocks;
};

__device__ __forceinline__ uint4 load_words(const u8* bytes) {
    return __ldg((const uint4*)bytes);
}

__device__ __forceinline__ void from_halves(u32 bits, float& low, float& high) {
    low = from_half((u16)bits);
    high = from_half((u16)(bits >> 16));
}

#if FORMAT == F32
__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    const float4* source = (const float4*)weights.codes + (row * weights.blocks + block) * (BLOCK / 4);
#pragma unroll
    for (int i = 0; i < BLOCK / 4; i++) {
        float4 four = __ldg(source + i);
        values[4 * i] = four.x;
        values[4 * i + 1] = four.y;
        values[4 * i + 2] = four.z;
        values[4 * i + 3] = four.w;
    }
}
#elif FORMAT == F16 || FORMAT == BF16
__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    const u8* source = weights.codes + (row * weights.blocks + block) * (BLOCK * 2);
#pragma unroll
    for (int i = 0; i < BLOCK / 8; i++) {
        uint4 words = load_words(source + 16 * i);
        u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
#if FORMAT == F16
            from_halves(word[j], values[8 * i + 2 * j], values[8 * i + 2 * j + 1]);
#else
            values[8 * i + 2 * j] = __uint_as_float(word[j] << 16);
            values[8 * i + 2 * j + 1] = __uint_as_float(word[j] & 0xffff0000u);
#endif
        }
    }
}
#elif FORMAT == MXFP4
// An E2M1 code shifted into a half's exponent and first fraction bit is the value times 2^-14, the subnormal included.
__device__ __forceinline__ void from_codes(u32 codes, float factor, float& low, float& high) {
    from_halves((codes & 0x00070007u) << 9 | (codes & 0x00080008u) << 12, low, high);
    low *= factor;
    high *= factor;
}

__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    u64 index = row * weights.blocks + block;
    uint4 words = load_words(weights.codes + index * 16);
    // 2^(exponent - 127) · 2^14. What f32 has no power of two for is multiplied a second time.
    int exponent = __ldg(weights.scales + index), capped = min(exponent, 240);
    float factor = __uint_as_float((u32)(capped + 14) << 23);
    u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        from_codes(word[i], factor, values[4 * i], values[4 * i + 2]);
        from_codes(word[i] >> 4, factor, values[4 * i + 16], values[4 * i + 18]);
        from_codes(word[i] >> 8, factor, values[4 * i + 1], values[4 * i + 3]);
        from_codes(word[i] >> 12, factor, values[4 * i + 17], values[4 * i + 19]);
    }
    if (exponent != capped) {
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            values[i] *= (float)(1 << (exponent - capped));
        }
    }
}
#elif FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT == Q5_0 || FORMAT == Q5_1
// The fifth bits of Q5 lie behind the 16 bytes of nibbles; Q*_1 has the minimum behind the scale.
#define FIFTH (FORMAT == Q5_0 || FORMAT == Q5_1)
#define MINIMUM (FORMAT == Q4_1 || FORMAT == Q5_1)

__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    u64 index = row * weights.blocks + block;
    uint4 words = load_words(weights.codes + index * 16);
    u32 word[4] = {words.x, words.y, words.z, words.w};
    const u8* beside = weights.scales + index * ((MINIMUM ? 4 : 2) + (FIFTH ? 4 : 0));
    float scale = from_half(__ldg((const u16*)beside));
#if MINIMUM
    float offset = from_half(__ldg((const u16*)beside + 1));
#else
    float offset = scale * (FIFTH ? -16.0f : -8.0f);
#endif
#if FIFTH
    const u16* high = (const u16*)(beside + (MINIMUM ? 4 : 2));
    u32 fifth = __ldg(high) | (u32)__ldg(high + 1) << 16;
#endif
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        // Value i lies in the low half of byte i, value i + 16 in its high half.
        int byte = i % 16;
        u32 code = word[byte / 4] >> (byte % 4 * 8 + i / 16 * 4) & 15;
#if FIFTH
        code |= (fifth >> i & 1) << 4;
#endif
        // A number of few bits in the fraction of 2^23 is 2^23 more than itself.
        float number = __uint_as_float(0x4b000000u | code) - 8388608.0f;
        values[i] = fmaf(scale, number, offset);
    }
}
#elif FORMAT == Q8_0
__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    u64 index = row * weights.blocks + block;
    float scale = from_half(__ldg((const u16*)weights.scales + index));
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint4 words = load_words(weights.codes + index * BLOCK + 16 * i);
        u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int j = 0; j < 16; j++) {
            u32 code = (word[j / 4] ^ 0x80808080u) >> (j % 4 * 8) & 255;
            values[16 * i + j] = scale * (__uint_as_float(0x4b000000u | code) - 8388736.0f);
        }
    }
}
#else
// K formats: superblocks of 256 values in ggml's form, of which this is the eighth `block % 8`.
#define SUPERBLOCK 8

__device__ __forceinline__ void six_bits(const u8* scales, int group, float& scale, float& minimum) {
    if (group < 4) {
        scale = scales[group] & 63;
        minimum = scales[group + 4] & 63;
    } else {
        scale = (scales[group + 4] & 15) | scales[group - 4] >> 6 << 4;
        minimum = scales[group + 4] >> 4 | scales[group] >> 6 << 4;
    }
}

__device__ __forceinline__ void decode(Weights weights, u64 row, int block, float* values) {
    int group = block % SUPERBLOCK;
#if FORMAT == Q6_K
    const u8* source = weights.codes + (row * weights.blocks + block) / SUPERBLOCK * 210;
    float scale = from_half(*(const u16*)(source + 208));
    // Groups of 32 share 64 bytes of low halves and 32 bytes of high pairs with the others of their 128 values.
    int half = group / 4, part = group % 4;
    const u8* low = source + half * 64 + part % 2 * 32;
    const u8* high = source + 128 + half * 32;
    const signed char* scales = (const signed char*)(source + 192 + group * 2);
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        int code = (low[i] >> (part / 2 * 4) & 15) | (high[i] >> (part * 2) & 3) << 4;
        values[i] = scale * scales[i / 16] * (code - 32);
    }
#else
    const u8* source = weights.codes + (row * weights.blocks + block) / SUPERBLOCK * (FORMAT == Q4_K ? 144 : 176);
    float scale, minimum;
    six_bits(source + 4, group, scale, minimum);
    scale *= from_half(*(const u16*)source);
    minimum *= from_half(*(const u16*)(source + 2));
    const u8* nibbles = source + (FORMAT == Q4_K ? 16 : 48) + group / 2 * 32;
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        int code = nibbles[i] >> (group % 2 * 4) & 15;
#if FORMAT == Q5_K
        code |= (source[16 + i] >> group & 1) << 4;
#endif
        values[i] = scale * code - minimum;
    }
#endif
}
#endif
