/* What the kernels share: how they vectorise, and how they add up.

   Sums are split by their length alone, never by the number of threads, members or channels: results have the same
   bits in any block of members and on any number of threads. NaN passes through everything. */

#pragma once

#include <stdint.h>
#include <string.h>

enum {
#if defined __AVX512F__
    VECTOR = 16, /* numbers in a register */
#elif defined __AVX__
    VECTOR = 8,
#else
    VECTOR = 4,
#endif
    LANES = 16,        /* numbers that are worked on together, whatever the width of the registers */
    PIECE = 64,        /* terms that are added up in float, before such pieces are in double */
    TILE = 256,        /* columns at a time: their running sums stay in the first-level cache */
    WORTHWHILE = 16384 /* numbers from which on a second thread is worth its start */
};

typedef int32_t indices_t __attribute__((vector_size(4 * LANES)));
typedef float lanes_t __attribute__((vector_size(4 * LANES)));
typedef float vector_t __attribute__((vector_size(4 * VECTOR)));

static inline lanes_t load_lanes(const float *from)
{
    lanes_t lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

static inline vector_t load(const float *from)
{
    vector_t vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline void store(float *to, vector_t vector) { memcpy(to, &vector, sizeof vector); }

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Batch norm of (count, channels) with ReLU, by one thread, with mean and inverse deviation of every channel; channels
   are a multiple of LANES. A channel whose variance is not above `limit` times its mean square is constant and becomes
   0, as its inverse does. */
void normalize_block(const float *x, float *y, float *mean, float *inverse, int64_t channels, int64_t count,
                     float limit);

/* The derivative in x, given `grad`, the one in y. */
void normalize_backward_block(const float *grad, const float *x, const float *y, const float *mean,
                              const float *inverse, float *result, int64_t channels, int64_t count);

/* A weight after a step of SGD; a factor 1 - decay would lose the digits of a small decay. */
static inline float stepped(float weight, float gradient, float decay, float lr)
{
    return weight - (decay * weight + lr * gradient);
}

/* The mean loss of logits (classes, images), and the derivatives in them, (softmax - indicator) / images. */
float cross_entropy(const float *logits, const int64_t *labels, float *grad, int64_t classes, int64_t images);
