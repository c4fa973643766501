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

__device__ __forceinline__ void unpack_words(uint4 words, u32* target) {
    target[0] = words.x;
    target[1] = words.y;
    target[2] = words.z;
    target[3] = words.w;
}

__device__ __forceinline__ void from_halves(u32 bits, float& low, float& high) {
    low = from_half((u16)bits);
    high = from_half((u16)(bits >> 16));
}

// Each format has a `Packed` block as it comes from memory, `fetch`, and `expand` to 32 floats.

#if FORMAT == F32
struct Packed {
    float4 fours[BLOCK / 4];
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    const float4* source = (const float4*)weights.codes + (row * weights.blocks + block) * (BLOCK / 4);
    Packed packed;
#pragma unroll
    for (int i = 0; i < BLOCK / 4; i++) {
        packed.fours[i] = __ldg(source + i);
    }
    return packed;
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
#pragma unroll
    for (int i = 0; i < BLOCK / 4; i++) {
        values[4 * i] = packed.fours[i].x;
        values[4 * i + 1] = packed.fours[i].y;
        values[4 * i + 2] = packed.fours[i].z;
        values[4 * i + 3] = packed.fours[i].w;
    }
}
#elif FORMAT == F16 || FORMAT == BF16
struct Packed {
    u32 words[BLOCK / 2];
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    const u8* source = weights.codes + (row * weights.blocks + block) * (BLOCK * 2);
    Packed packed;
#pragma unroll
    for (int i = 0; i < BLOCK / 8; i++) {
        unpack_words(load_words(source + 16 * i), packed.words + 4 * i);
    }
    return packed;
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
#pragma unroll
    for (int i = 0; i < BLOCK / 2; i++) {
#if FORMAT == F16
        from_halves(packed.words[i], values[2 * i], values[2 * i + 1]);
#else
        values[2 * i] = __uint_as_float(packed.words[i] << 16);
        values[2 * i + 1] = __uint_as_float(packed.words[i] & 0xffff0000u);
#endif
    }
}
#elif FORMAT == MXFP4
struct Packed {
    u32 words[4];
    int exponent;
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    u64 index = row * weights.blocks + block;
    Packed packed;
    unpack_words(load_words(weights.codes + index * 16), packed.words);
    packed.exponent = __ldg(weights.scales + index);
    return packed;
}

// An E2M1 code shifted into a half's exponent and first fraction bit is the value times 2^-14, the subnormal included.
__device__ __forceinline__ void from_codes(u32 codes, float factor, float& low, float& high) {
    from_halves((codes & 0x00070007u) << 9 | (codes & 0x00080008u) << 12, low, high);
    low *= factor;
    high *= factor;
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
    // 2^(exponent - 127) · 2^14; the host sends no scale above 2^64.
    float factor = __uint_as_float((u32)(packed.exponent + 14) << 23);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 word = packed.words[i];
        from_codes(word, factor, values[4 * i], values[4 * i + 2]);
        from_codes(word >> 4, factor, values[4 * i + 16], values[4 * i + 18]);
        from_codes(word >> 8, factor, values[4 * i + 1], values[4 * i + 3]);
        from_codes(word >> 12, factor, values[4 * i + 17], values[4 * i + 19]);
    }
}
#elif FORMAT == Q4_0 || FORMAT == Q4_1 || FORMAT == Q5_0 || FORMAT == Q5_1
// Beside the codes: the scale, in Q*_1 the minimum, and in Q5 the fifth bits.
#define FIFTH (FORMAT == Q5_0 || FORMAT == Q5_1)
#define MINIMUM (FORMAT == Q4_1 || FORMAT == Q5_1)

struct Packed {
    u32 words[4];
    u32 fifth;
    u16 scale;
    u16 minimum;
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    u64 index = row * weights.blocks + block;
    Packed packed;
    unpack_words(load_words(weights.codes + index * 16), packed.words);
    const u16* beside = (const u16*)(weights.scales + index * ((MINIMUM ? 4 : 2) + (FIFTH ? 4 : 0)));
    packed.scale = __ldg(beside);
    packed.minimum = MINIMUM ? __ldg(beside + 1) : 0;
    const u16* high = beside + (MINIMUM ? 2 : 1);
    packed.fifth = FIFTH ? __ldg(high) | (u32)__ldg(high + 1) << 16 : 0;
    return packed;
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
    float scale = from_half(packed.scale);
    float offset = MINIMUM ? from_half(packed.minimum) : scale * (FIFTH ? -16.0f : -8.0f);
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        // Value i lies in the low half of byte i, value i + 16 in its high half.
        int byte = i % 16;
        u32 code = packed.words[byte / 4] >> (byte % 4 * 8 + i / 16 * 4) & 15;
        if (FIFTH) {
            code |= (packed.fifth >> i & 1) << 4;
        }
        // A number of few bits in the fraction of 2^23 is 2^23 more than itself.
        values[i] = fmaf(scale, __uint_as_float(0x4b000000u | code) - 8388608.0f, offset);
    }
}
#elif FORMAT == Q8_0
struct Packed {
    u32 words[8];
    u16 scale;
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    u64 index = row * weights.blocks + block;
    Packed packed;
    unpack_words(load_words(weights.codes + index * BLOCK), packed.words);
    unpack_words(load_words(weights.codes + index * BLOCK + 16), packed.words + 4);
    packed.scale = __ldg((const u16*)weights.scales + index);
    return packed;
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
    float scale = from_half(packed.scale);
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        u32 code = (packed.words[i / 4] ^ 0x80808080u) >> (i % 4 * 8) & 255;
        values[i] = scale * (__uint_as_float(0x4b000000u | code) - 8388736.0f);
    }
}
#else
// K formats: superblocks of 256 values in ggml's form, of which a block is an eighth. They are read as they are expanded.
#define SUPERBLOCK 8
#define SUPERBLOCK_BYTES (FORMAT == Q4_K ? 144 : FORMAT == Q5_K ? 176 : 210)

struct Packed {
    const u8* source;
    int group;
};

__device__ __forceinline__ Packed fetch(Weights weights, u64 row, int block) {
    u64 superblock = (row * weights.blocks + block) / SUPERBLOCK;
    return {weights.codes + superblock * SUPERBLOCK_BYTES, block % SUPERBLOCK};
}

__device__ __forceinline__ void six_bits(const u8* scales, int group, float& scale, float& minimum) {
    if (group < 4) {
        scale = scales[group] & 63;
        minimum = scales[group + 4] & 63;
    } else {
        scale = (scales[group + 4] & 15) | scales[group - 4] >> 6 << 4;
        minimum = scales[group + 4] >> 4 | scales[group] >> 6 << 4;
    }
}

__device__ __forceinline__ void expand(const Packed& packed, float* values) {
    const u8* source = packed.source;
    int group = packed.group;
#if FORMAT == Q6_K
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

// The same as 16 pairs of bf16, rounded to nearest even where the format has more bits.
__device__ __forceinline__ void expand_to_pairs(const Packed& packed, u32* pairs) {
#if FORMAT == BF16
#pragma unroll
    for (int i = 0; i < BLOCK / 2; i++) {
        pairs[i] = packed.words[i];
    }
#elif FORMAT == MXFP4
    // A code in the exponent and first fraction bit of bf16 is the value times 2^-126.
    // No factor of bf16 is as large, so there are two: 2^63, and the rest of 2^(exponent - 127) · 2^126.
    u32 factor = (u32)(packed.exponent + 63) << 7;
    factor |= factor << 16;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        // Two bytes, each in a half of the word.
        u32 bytes = __byte_perm(packed.words[i / 2], 0, i % 2 ? 0x4342 : 0x4140);
        u32 low = (bytes & 0x00070007u) << 6 | (bytes & 0x00080008u) << 12;
        u32 high = (bytes & 0x00700070u) << 2 | (bytes & 0x00800080u) << 8;
        pairs[i] = multiply_bfloats(multiply_bfloats(low, 0x5f005f00u), factor);
        pairs[i + 8] = multiply_bfloats(multiply_bfloats(high, 0x5f005f00u), factor);
    }
#else
    float values[BLOCK];
    expand(packed, values);
#pragma unroll
    for (int i = 0; i < BLOCK / 2; i++) {
        pairs[i] = to_bfloats(values[2 * i], values[2 * i + 1]);
    }
#endif
}
