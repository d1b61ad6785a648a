/* Batch norm with ReLU in three passes over memory, and its derivative in two.

   At most 64 terms in a row are added up in float, and such pieces in double, so that N equal numbers are summed to
   within 16 rounding errors (derived), the factor of the criterion by which constant channels are found
   (normalisation.py). */

#include "kernels.h"

#include <math.h>

enum { PARTS = 32 /* parts of a column, each for one thread; PARTS in kernels.py */ };

static inline float inverse_deviation(float mean, float variance, float limit)
{
    return variance <= limit * (variance + mean * mean) ? 0.0f : 1.0f / sqrtf(variance);
}

static inline float relu(float value, int rectify) { return rectify && value < 0.0f ? 0.0f : value; }

static inline float relu_backward(float grad, float result, int rectify)
{
    return rectify && result <= 0.0f ? 0.0f : grad;
}

/* One channel a row, (channels, count). Rows are added up in 16 lanes, whatever the width of the registers. */

static inline float add_lanes(lanes_t lanes)
{
    lanes += __builtin_shuffle(lanes, (indices_t){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
    lanes += __builtin_shuffle(lanes, (indices_t){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
    lanes += __builtin_shuffle(lanes, (indices_t){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
    return lanes[0] + lanes[1];
}

void normalize_rows(const float *restrict x, float *restrict y, float *restrict mean, float *restrict inverse,
                    int64_t channels, int64_t count, float limit, int rectify, int threads)
{
    const int64_t whole = count - count % LANES;
    const double share = 1.0 / (double)count;
#pragma omp parallel for schedule(static) num_threads(threads) if (channels * count > WORTHWHILE)
    for (int64_t c = 0; c < channels; c++) {
        const float *restrict in = x + c * count;
        float *restrict out = y + c * count;
        double sum = 0, squares = 0;
        for (int64_t start = 0; start < whole; start += LANES * PIECE) {
            lanes_t piece = {0};
            for (int64_t i = start; i < least(start + LANES * PIECE, whole); i += LANES)
                piece += load_lanes(in + i);
            sum += add_lanes(piece);
        }
        for (int64_t i = whole; i < count; i++)
            sum += in[i];
        const float m = (float)(sum * share);
        for (int64_t start = 0; start < whole; start += LANES * PIECE) {
            lanes_t piece = {0};
            for (int64_t i = start; i < least(start + LANES * PIECE, whole); i += LANES) {
                const lanes_t centred = load_lanes(in + i) - m;
                piece += centred * centred;
            }
            squares += add_lanes(piece);
        }
        for (int64_t i = whole; i < count; i++)
            squares += (in[i] - m) * (in[i] - m);
        const float s = inverse_deviation(m, (float)(squares * share), limit);
        for (int64_t i = 0; i < count; i++)
            out[i] = relu((in[i] - m) * s, rectify);
        mean[c] = m;
        inverse[c] = s;
    }
}

void normalize_backward_rows(const float *restrict grad, const float *restrict x, const float *restrict y,
                             const float *restrict mean, const float *restrict inverse, float *restrict result,
                             int64_t channels, int64_t count, int rectify, int threads)
{
    const int64_t whole = count - count % LANES;
    const double share = 1.0 / (double)count;
#pragma omp parallel for schedule(static) num_threads(threads) if (channels * count > WORTHWHILE)
    for (int64_t c = 0; c < channels; c++) {
        const float *restrict g = grad + c * count, *restrict in = x + c * count, *restrict out = y + c * count;
        float *restrict d = result + c * count;
        const float m = mean[c], s = inverse[c];
        double sum = 0, product = 0;
        for (int64_t start = 0; start < whole; start += LANES * PIECE) {
            lanes_t piece = {0}, piece_of_product = {0};
            for (int64_t i = start; i < least(start + LANES * PIECE, whole); i += LANES) {
                lanes_t h = load_lanes(g + i);
                if (rectify)
                    h = (lanes_t)((indices_t)h & ~(load_lanes(out + i) <= 0.0f));
                piece += h;
                piece_of_product += h * (load_lanes(in + i) - m);
            }
            sum += add_lanes(piece);
            product += add_lanes(piece_of_product);
        }
        for (int64_t i = whole; i < count; i++) {
            const float h = relu_backward(g[i], out[i], rectify);
            sum += h;
            product += h * (in[i] - m);
        }
        const float a = (float)(sum * share), b = (float)(product * share) * s * s;
        for (int64_t i = 0; i < count; i++)
            d[i] = (relu_backward(g[i], out[i], rectify) - a - (in[i] - m) * b) * s;
    }
}

/* One channel a column, (count, channels). `sums` are (PARTS, channels) doubles to work in. */

static void add_up(const double *restrict parts, float *restrict means, int64_t channels, int64_t count)
{
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t part = 0; part < PARTS; part++)
            sum += parts[part * channels + c];
        means[c] = (float)(sum / (double)count);
    }
}

/* What is added up in each column. */
typedef enum {
    VALUES,   /* x */
    SQUARES,  /* (x - mean)^2 */
    GRADIENTS /* grad; and its products with x - mean */
} terms_t;

/* Add up each part of the columns into `sums`, and into `products` those of GRADIENTS. */
static inline __attribute__((always_inline)) void
add_columns(const terms_t terms, const float *restrict x, const float *restrict mean, const float *restrict grad,
            const float *restrict y, double *restrict sums, double *restrict products, int64_t channels,
            int64_t count, int rectify)
{
    const int64_t height = (count + PARTS - 1) / PARTS;
#pragma omp for schedule(static)
    for (int64_t part = 0; part < PARTS; part++) {
        const int64_t first = least(part * height, count), last = least(first + height, count);
        for (int64_t left = 0; left < channels; left += TILE) {
            const int64_t width = least(TILE, channels - left);
            double *restrict total = sums + part * channels + left;
            double *restrict total_of_product = products + part * channels + left;
            const float *restrict m = mean + left;
            float piece[TILE], piece_of_product[TILE];
            for (int64_t c = 0; c < width; c++) {
                total[c] = 0;
                if (terms == GRADIENTS)
                    total_of_product[c] = 0;
            }
            for (int64_t start = first; start < last; start += PIECE) {
                for (int64_t c = 0; c < width; c++)
                    piece[c] = piece_of_product[c] = 0;
                for (int64_t row = start; row < least(start + PIECE, last); row++) {
                    const int64_t at = row * channels + left;
                    for (int64_t c = 0; c < width; c++) {
                        if (terms == VALUES)
                            piece[c] += x[at + c];
                        if (terms == SQUARES)
                            piece[c] += (x[at + c] - m[c]) * (x[at + c] - m[c]);
                        if (terms == GRADIENTS) {
                            const float h = relu_backward(grad[at + c], y[at + c], rectify);
                            piece[c] += h;
                            piece_of_product[c] += h * (x[at + c] - m[c]);
                        }
                    }
                }
                for (int64_t c = 0; c < width; c++) {
                    total[c] += piece[c];
                    if (terms == GRADIENTS)
                        total_of_product[c] += piece_of_product[c];
                }
            }
        }
    }
}

void normalize_columns(const float *restrict x, float *restrict y, float *restrict mean, float *restrict inverse,
                       double *restrict sums, int64_t channels, int64_t count, float limit, int rectify, int threads)
{
    const int64_t height = (count + PARTS - 1) / PARTS;
#pragma omp parallel num_threads(threads) if (channels * count > WORTHWHILE)
    {
        add_columns(VALUES, x, mean, NULL, NULL, sums, sums, channels, count, rectify);
#pragma omp single
        add_up(sums, mean, channels, count);
        add_columns(SQUARES, x, mean, NULL, NULL, sums, sums, channels, count, rectify);
#pragma omp single
        {
            add_up(sums, inverse, channels, count);
            for (int64_t c = 0; c < channels; c++)
                inverse[c] = inverse_deviation(mean[c], inverse[c], limit);
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < PARTS; part++)
            for (int64_t row = least(part * height, count); row < least((part + 1) * height, count); row++)
#pragma omp simd
                for (int64_t c = 0; c < channels; c++)
                    y[row * channels + c] = relu((x[row * channels + c] - mean[c]) * inverse[c], rectify);
    }
}

/* `sums` are (2, PARTS, channels) and `means` (2, channels) numbers to work in. */
void normalize_backward_columns(const float *restrict grad, const float *restrict x, const float *restrict y,
                                const float *restrict mean, const float *restrict inverse, float *restrict result,
                                double *restrict sums, float *restrict means, int64_t channels, int64_t count,
                                int rectify, int threads)
{
    const int64_t height = (count + PARTS - 1) / PARTS;
    double *restrict products = sums + PARTS * channels;
    float *restrict a = means, *restrict b = means + channels;
#pragma omp parallel num_threads(threads) if (channels * count > WORTHWHILE)
    {
        add_columns(GRADIENTS, x, mean, grad, y, sums, products, channels, count, rectify);
#pragma omp single
        {
            add_up(sums, a, channels, count);
            add_up(products, b, channels, count);
            for (int64_t c = 0; c < channels; c++)
                b[c] *= inverse[c] * inverse[c];
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < PARTS; part++)
            for (int64_t row = least(part * height, count); row < least((part + 1) * height, count); row++) {
                const int64_t at = row * channels;
#pragma omp simd
                for (int64_t c = 0; c < channels; c++) {
                    const float h = relu_backward(grad[at + c], y[at + c], rectify);
                    result[at + c] = (h - a[c] - (x[at + c] - mean[c]) * b[c]) * inverse[c];
                }
            }
    }
}

/* One channel a column, (count, channels), by one thread and in whole vectors. */

typedef int32_t integers_t __attribute__((vector_size(4 * VECTOR)));
typedef double doubles_t __attribute__((vector_size(8 * VECTOR)));

static inline vector_t mean_of(doubles_t sum, int64_t count)
{
    return __builtin_convertvector(sum / (double)count, vector_t);
}

static inline vector_t relu_vector(vector_t vector)
{
    return (vector_t)((integers_t)vector & ~(vector < 0.0f));
}

static inline vector_t relu_backward_vector(vector_t grad, vector_t result)
{
    return (vector_t)((integers_t)grad & ~(result <= 0.0f));
}

void normalize_block(const float *restrict x, float *restrict y, float *restrict mean, float *restrict inverse,
                     int64_t channels, int64_t count, float limit)
{
    for (int64_t c = 0; c < channels; c += VECTOR) {
        doubles_t sum = {0}, squares = {0};
        for (int64_t start = 0; start < count; start += PIECE) {
            vector_t piece = {0};
            for (int64_t row = start; row < least(start + PIECE, count); row++)
                piece += load(x + row * channels + c);
            sum += __builtin_convertvector(piece, doubles_t);
        }
        const vector_t m = mean_of(sum, count);
        for (int64_t start = 0; start < count; start += PIECE) {
            vector_t piece = {0};
            for (int64_t row = start; row < least(start + PIECE, count); row++) {
                const vector_t centred = load(x + row * channels + c) - m;
                piece += centred * centred;
            }
            squares += __builtin_convertvector(piece, doubles_t);
        }
        const vector_t variance = mean_of(squares, count);
        for (int64_t i = 0; i < VECTOR; i++)
            inverse[c + i] = inverse_deviation(m[i], variance[i], limit);
        store(mean + c, m);
        const vector_t s = load(inverse + c);
        for (int64_t row = 0; row < count; row++)
            store(y + row * channels + c, relu_vector((load(x + row * channels + c) - m) * s));
    }
}

void normalize_backward_block(const float *restrict grad, const float *restrict x, const float *restrict y,
                              const float *restrict mean, const float *restrict inverse, float *restrict result,
                              int64_t channels, int64_t count)
{
    for (int64_t c = 0; c < channels; c += VECTOR) {
        const vector_t m = load(mean + c), s = load(inverse + c);
        doubles_t sum = {0}, product = {0};
        for (int64_t start = 0; start < count; start += PIECE) {
            vector_t piece = {0}, piece_of_product = {0};
            for (int64_t row = start; row < least(start + PIECE, count); row++) {
                const int64_t at = row * channels + c;
                const vector_t h = relu_backward_vector(load(grad + at), load(y + at));
                piece += h;
                piece_of_product += h * (load(x + at) - m);
            }
            sum += __builtin_convertvector(piece, doubles_t);
            product += __builtin_convertvector(piece_of_product, doubles_t);
        }
        const vector_t a = mean_of(sum, count), b = mean_of(product, count) * s * s;
        for (int64_t row = 0; row < count; row++) {
            const int64_t at = row * channels + c;
            store(result + at, (relu_backward_vector(load(grad + at), load(y + at)) - a - (load(x + at) - m) * b) * s);
        }
    }
}
