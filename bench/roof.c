/* What this machine can do at best: reading memory, float32 FMA, and int8 dot products.
 *
 * Prints one JSON object: {"threads", "read_gb_s": {"MIB": GB/s, ...}, "fma_gflop_s", "int8_gop_s", "int8_kind"}; one
 * multiply and one add count as two operations. The larger buffer is far over any cache; the smaller is the size of
 * SmolLM2's weights, which a large L3 holds.
 *
 * Built by bench/peers: cc -O3 -march=native -pthread roof.c -o roof. Run: roof THREADS
 */
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 256, STREAMS = 8 };
#define SECONDS 0.5

#ifdef __AVX512F__
typedef float floats __attribute__((vector_size(64)));
typedef uint64_t words __attribute__((vector_size(64)));
enum { ACCUMULATORS = 24 };
#else
typedef float floats __attribute__((vector_size(32)));
typedef uint64_t words __attribute__((vector_size(32)));
enum { ACCUMULATORS = 12 };
#endif

static int threads;
static char *buffer;
static size_t buffer_bytes;
static pthread_barrier_t start;
static void (*work)(int thread, double until, double *done);
static double results[MAX_THREADS];
static volatile uint64_t sink[MAX_THREADS * 8];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* done = bytes read */
static void read_memory(int thread, double until, double *done) {
    size_t share = buffer_bytes / (size_t)threads / (STREAMS * sizeof(words)) * (STREAMS * sizeof(words));
    const words *from = (const words *)(buffer + share * (size_t)thread);
    size_t count = share / sizeof(words);
    words sum[STREAMS] = {0};
    do {
        for (size_t i = 0; i < count; i += STREAMS)
#pragma GCC unroll 8
            for (int s = 0; s < STREAMS; s++) sum[s] += from[i + (size_t)s];
        *done += (double)share;
        __asm__ volatile("" ::: "memory");
    } while (now() < until);
    for (int s = 1; s < STREAMS; s++) sum[0] += sum[s];
    sink[thread * 8] = sum[0][0];
}

/* done = floating-point operations */
static void multiply_add(int thread, double until, double *done) {
    floats a[ACCUMULATORS], b = {0}, c = {0};
    b += 0.999999f;
    c += 1e-6f;
    memset(a, 0, sizeof a);
    do {
        for (int i = 0; i < 100000; i++) {
#pragma GCC unroll 24
            for (int k = 0; k < ACCUMULATORS; k++) a[k] = a[k] * b + c;
            __asm__ volatile("" : "+x"(b), "+x"(c));
        }
        *done += 2.0 * 100000 * ACCUMULATORS * (double)(sizeof(floats) / sizeof(float));
    } while (now() < until);
    for (int k = 1; k < ACCUMULATORS; k++) a[0] += a[k];
    sink[thread * 8] = (uint64_t)a[0][0];
}

/* done = int8 operations */
#if defined(__AVX512VNNI__)
#define INT8_KIND "AVX-512 VNNI"
static void int8_dot(int thread, double until, double *done) {
    __m512i a[ACCUMULATORS], b = _mm512_set1_epi8(3), c = _mm512_set1_epi8(5);
    memset(a, 0, sizeof a);
    do {
        for (int i = 0; i < 100000; i++) {
#pragma GCC unroll 24
            for (int k = 0; k < ACCUMULATORS; k++) a[k] = _mm512_dpbusd_epi32(a[k], b, c);
            __asm__ volatile("" : "+x"(b), "+x"(c));
        }
        *done += 2.0 * 100000 * ACCUMULATORS * 64;
    } while (now() < until);
    for (int k = 1; k < ACCUMULATORS; k++) a[0] = _mm512_add_epi32(a[0], a[k]);
    sink[thread * 8] = (uint64_t)_mm512_reduce_add_epi32(a[0]);
}
#else
#define INT8_KIND "AVX2 maddubs + madd + add"
static void int8_dot(int thread, double until, double *done) {
    __m256i a[8], b = _mm256_set1_epi8(3), c = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    memset(a, 0, sizeof a);
    do {
        for (int i = 0; i < 100000; i++) {
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++) a[k] = _mm256_add_epi32(a[k], _mm256_madd_epi16(_mm256_maddubs_epi16(b, c), ones));
            __asm__ volatile("" : "+x"(b), "+x"(c), "+x"(ones));
        }
        *done += 2.0 * 100000 * 8 * 32;
    } while (now() < until);
    for (int k = 1; k < 8; k++) a[0] = _mm256_add_epi32(a[0], a[k]);
    sink[thread * 8] = (uint64_t)_mm256_extract_epi32(a[0], 0);
}
#endif

static void *run(void *argument) {
    int thread = (int)(intptr_t)argument;
    double done = 0;
    work(thread, now() + 0.05, &done); /* clock speed and page tables settle */
    pthread_barrier_wait(&start);
    double from = now();
    done = 0;
    work(thread, from + SECONDS, &done);
    results[thread] = done / (now() - from);
    return NULL;
}

static double measure(void (*what)(int, double, double *)) {
    pthread_t ids[MAX_THREADS];
    work = what;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int t = 0; t < threads; t++) pthread_create(&ids[t], NULL, run, (void *)(intptr_t)t);
    double sum = 0;
    for (int t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        sum += results[t];
    }
    pthread_barrier_destroy(&start);
    return sum / 1e9;
}

int main(int count, char **arguments) {
    threads = count > 1 ? atoi(arguments[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) {
        fprintf(stderr, "threads is %d, expected 1 to %d\n", threads, MAX_THREADS);
        return 2;
    }
    static const size_t mebibytes[] = {92, 2048};
    double speeds[2];
    buffer = aligned_alloc(4096, mebibytes[1] << 20);
    if (!buffer) {
        fprintf(stderr, "cannot allocate %zu MiB\n", mebibytes[1]);
        return 1;
    }
    memset(buffer, 1, mebibytes[1] << 20);
    for (int i = 0; i < 2; i++) {
        buffer_bytes = mebibytes[i] << 20;
        speeds[i] = measure(read_memory);
    }
    double fma = measure(multiply_add), int8 = measure(int8_dot);
    printf("{\"threads\": %d, \"read_gb_s\": {\"%zu\": %.2f, \"%zu\": %.2f}, \"fma_gflop_s\": %.1f, \"int8_gop_s\": %.1f, \"int8_kind\": \"%s\"}\n",
           threads, mebibytes[0], speeds[0], mebibytes[1], speeds[1], fma, int8, INT8_KIND);
    return 0;
}
