// output[token] = weights[id of the token], one block of threads for each token.
extern "C" __global__ void embed(
    const u8* codes, const u8* scales, const int* tokens, float* output, int blocks, int columns
) {
    Weights weights = {codes, scales, blocks};
    for (int block = threadIdx.x; block < blocks; block += blockDim.x) {
        float values[BLOCK];
        expand(fetch(weights, tokens[blockIdx.x], block), values);
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            int column = block * BLOCK + i;
            if (column < columns) {
                output[(u64)blockIdx.x * columns + column] = values[i];
            }
        }
    }
}
