/* Batch norm with ReLU, cross-entropy, and the step of SGD, each with as few passes over memory as there can be.

   Sums are split by their length alone, never by the number of threads or channels: results have the same bits in any
   block of members and on any number of threads. At most 64 terms in a row are added up in float, and such pieces in
   double, so that N equal numbers are summed to within 16 rounding errors (derived), the factor of the criterion by
   which constant channels are found (normalisation.py). NaN passes through everything. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum {
    LANES = 16,        /* running sums of a row */
    PIECE = 64,        /* terms that are added up in float */
    PARTS = 32,        /* parts of a column, each for one thread; PARTS in kernels.py */
    TILE = 256,        /* columns at a time: their running sums stay in the first-level cache */
    WORTHWHILE = 16384 /* numbers from which on a second thread is worth its start */
};

static inline float inverse_deviation(float mean, float variance, float limit)
{
    return variance <= limit * (variance + mean * mean) ? 0.0f : 1.0f / sqrtf(variance);
}

static inline float rectified(float value, int rectify) { return rectify && value < 0.0f ? 0.0f : value; }

static inline float passed(float slope, float result, int rectify) { return rectify && result <= 0.0f ? 0.0f : slope; }

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* One channel a row, (channels, count). Rows are added up in 16 lanes, whatever the width of the registers. */

typedef int32_t indices_t __attribute__((vector_size(4 * LANES)));
typedef float lanes_t __attribute__((vector_size(4 * LANES)));

static inline lanes_t load(const float *from)
{
    lanes_t lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

static inline float add_lanes(lanes_t lanes)
{
    lanes += __builtin_shuffle(lanes, (indices_t){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
    lanes += __builtin_shuffle(lanes, (indices_t){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
    lanes += __builtin_shuffle(lanes, (indices_t){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
    return lanes[0] + lanes[1];
}

void normalise_rows(const float *restrict x, float *restrict y, float *restrict mean, float *restrict inverse,
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
                piece += load(in + i);
            sum += add_lanes(piece);
        }
        for (int64_t i = whole; i < count; i++)
            sum += in[i];
        const float m = (float)(sum * share);
        for (int64_t start = 0; start < whole; start += LANES * PIECE) {
            lanes_t piece = {0};
            for (int64_t i = start; i < least(start + LANES * PIECE, whole); i += LANES) {
                const lanes_t centred = load(in + i) - m;
                piece += centred * centred;
            }
            squares += add_lanes(piece);
        }
        for (int64_t i = whole; i < count; i++)
            squares += (in[i] - m) * (in[i] - m);
        const float s = inverse_deviation(m, (float)(squares * share), limit);
        for (int64_t i = 0; i < count; i++)
            out[i] = rectified((in[i] - m) * s, rectify);
        mean[c] = m;
        inverse[c] = s;
    }
}

void differentiate_rows(const float *restrict slope, const float *restrict x, const float *restrict y,
                        const float *restrict mean, const float *restrict inverse, float *restrict result,
                        int64_t channels, int64_t count, int rectify, int threads)
{
    const int64_t whole = count - count % LANES;
    const double share = 1.0 / (double)count;
#pragma omp parallel for schedule(static) num_threads(threads) if (channels * count > WORTHWHILE)
    for (int64_t c = 0; c < channels; c++) {
        const float *restrict g = slope + c * count, *restrict in = x + c * count, *restrict out = y + c * count;
        float *restrict d = result + c * count;
        const float m = mean[c], s = inverse[c];
        double sum = 0, product = 0;
        for (int64_t start = 0; start < whole; start += LANES * PIECE) {
            lanes_t piece = {0}, piece_of_product = {0};
            for (int64_t i = start; i < least(start + LANES * PIECE, whole); i += LANES) {
                lanes_t h = load(g + i);
                if (rectify)
                    h = (lanes_t)((indices_t)h & ~(load(out + i) <= 0.0f));
                piece += h;
                piece_of_product += h * (load(in + i) - m);
            }
            sum += add_lanes(piece);
            product += add_lanes(piece_of_product);
        }
        for (int64_t i = whole; i < count; i++) {
            const float h = passed(g[i], out[i], rectify);
            sum += h;
            product += h * (in[i] - m);
        }
        const float a = (float)(sum * share), b = (float)(product * share) * s * s;
        for (int64_t i = 0; i < count; i++)
            d[i] = (passed(g[i], out[i], rectify) - a - (in[i] - m) * b) * s;
    }
}

/* One channel a column, (count, channels). `sums` are (PARTS, channels) doubles to work in. */

static void add_up(const double *restrict parts, float *restrict means, int64_t channels, int64_t count)
{
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t part = 0; part < PARTS; part++)
            sum += parts[part * channels + c];
        means[c] = (float)(sum / count);
    }
}

void normalise_columns(const float *restrict x, float *restrict y, float *restrict mean, float *restrict inverse,
                       double *restrict sums, int64_t channels, int64_t count, float limit, int rectify, int threads)
{
    const int64_t height = (count + PARTS - 1) / PARTS;
#pragma omp parallel num_threads(threads) if (channels * count > WORTHWHILE)
    {
        for (int pass = 0; pass < 2; pass++) {
#pragma omp for schedule(static)
            for (int64_t part = 0; part < PARTS; part++) {
                const int64_t first = least(part * height, count), last = least(first + height, count);
                for (int64_t left = 0; left < channels; left += TILE) {
                    const int64_t width = least(TILE, channels - left);
                    double *restrict total = sums + part * channels + left;
                    float piece[TILE];
                    for (int64_t c = 0; c < width; c++)
                        total[c] = 0;
                    for (int64_t start = first; start < last; start += PIECE) {
                        const int64_t end = least(start + PIECE, last);
                        for (int64_t c = 0; c < width; c++)
                            piece[c] = 0;
                        for (int64_t row = start; row < end; row++) {
                            const float *restrict in = x + row * channels + left;
                            if (pass == 0)
                                for (int64_t c = 0; c < width; c++)
                                    piece[c] += in[c];
                            else
                                for (int64_t c = 0; c < width; c++)
                                    piece[c] += (in[c] - mean[left + c]) * (in[c] - mean[left + c]);
                        }
                        for (int64_t c = 0; c < width; c++)
                            total[c] += piece[c];
                    }
                }
            }
#pragma omp single
            {
                add_up(sums, pass == 0 ? mean : inverse, channels, count);
                if (pass == 1)
                    for (int64_t c = 0; c < channels; c++)
                        inverse[c] = inverse_deviation(mean[c], inverse[c], limit);
            }
        }
#pragma omp for schedule(static)
        for (int64_t part = 0; part < PARTS; part++)
            for (int64_t row = least(part * height, count); row < least((part + 1) * height, count); row++)
#pragma omp simd
                for (int64_t c = 0; c < channels; c++)
                    y[row * channels + c] = rectified((x[row * channels + c] - mean[c]) * inverse[c], rectify);
    }
}

/* `sums` are (2, PARTS, channels) and `means` (2, channels) numbers to work in. */
void differentiate_columns(const float *restrict slope, const float *restrict x, const float *restrict y,
                           const float *restrict mean, const float *restrict inverse, float *restrict result,
                           double *restrict sums, float *restrict means, int64_t channels, int64_t count, int rectify,
                           int threads)
{
    const int64_t height = (count + PARTS - 1) / PARTS;
    double *restrict products = sums + PARTS * channels;
    float *restrict a = means, *restrict b = means + channels;
#pragma omp parallel num_threads(threads) if (channels * count > WORTHWHILE)
    {
#pragma omp for schedule(static)
        for (int64_t part = 0; part < PARTS; part++) {
            const int64_t first = least(part * height, count), last = least(first + height, count);
            for (int64_t left = 0; left < channels; left += TILE) {
                const int64_t width = least(TILE, channels - left);
                double *restrict total = sums + part * channels + left;
                double *restrict total_of_product = products + part * channels + left;
                const float *restrict m = mean + left;
                float piece[TILE], piece_of_product[TILE];
                for (int64_t c = 0; c < width; c++)
                    total[c] = total_of_product[c] = 0;
                for (int64_t start = first; start < last; start += PIECE) {
                    const int64_t end = least(start + PIECE, last);
                    for (int64_t c = 0; c < width; c++)
                        piece[c] = piece_of_product[c] = 0;
                    for (int64_t row = start; row < end; row++) {
                        const int64_t at = row * channels + left;
                        for (int64_t c = 0; c < width; c++) {
                            const float h = passed(slope[at + c], y[at + c], rectify);
                            piece[c] += h;
                            piece_of_product[c] += h * (x[at + c] - m[c]);
                        }
                    }
                    for (int64_t c = 0; c < width; c++) {
                        total[c] += piece[c];
                        total_of_product[c] += piece_of_product[c];
                    }
                }
            }
        }
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
                for (int64_t c = 0; c < channels; c++)
                    result[at + c] =
                        (passed(slope[at + c], y[at + c], rectify) - a[c] - (x[at + c] - mean[c]) * b[c]) * inverse[c];
            }
    }
}

/* exp(x) for x <= 0, to about one rounding error: 2^n times the Taylor series of the rest, which vectorises where expf
   does not. Below -87 stands exp(-87), the smallest normal number. */
static inline float exponential(float x)
{
    const float bounded = x < -87.0f ? -87.0f : x;
    const float n = rintf(bounded * 1.44269504f);
    const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    float series = 1;
    for (int64_t k = 7; k > 0; k--)
        series = 1 + r * (1 / (float)k) * series;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

/* Mean losses (members,) of logits (members, classes, images), and the derivatives in them,
   (softmax - indicator) / images. */
void cross_entropy(const float *restrict logits, const int64_t *restrict labels, float *restrict loss,
                   float *restrict slope, int64_t members, int64_t classes, int64_t images, int threads)
{
    const float share = 1.0f / (float)images;
#pragma omp parallel for schedule(static) num_threads(threads) if (members * classes * images > WORTHWHILE / 8)
    for (int64_t member = 0; member < members; member++) {
        const float *restrict z = logits + member * classes * images;
        const int64_t *restrict label = labels + member * images;
        float *restrict p = slope + member * classes * images;
        double sum = 0;
        for (int64_t start = 0; start < images; start += PIECE) {
            const int64_t width = least(PIECE, images - start);
            float top[PIECE], total[PIECE];
            for (int64_t i = 0; i < width; i++) {
                top[i] = -INFINITY;
                total[i] = 0;
            }
            for (int64_t k = 0; k < classes; k++)
                for (int64_t i = 0; i < width; i++)
                    top[i] = z[k * images + start + i] > top[i] ? z[k * images + start + i] : top[i];
            for (int64_t k = 0; k < classes; k++)
                for (int64_t i = 0; i < width; i++) {
                    p[k * images + start + i] = exponential(z[k * images + start + i] - top[i]);
                    total[i] += p[k * images + start + i];
                }
            for (int64_t k = 0; k < classes; k++)
                for (int64_t i = 0; i < width; i++)
                    p[k * images + start + i] *= share / total[i];
            for (int64_t i = 0; i < width; i++) {
                const int64_t at = label[start + i] * images + start + i;
                sum += logf(total[i]) + (top[i] - z[at]);
                p[at] -= share;
            }
        }
        loss[member] = (float)(sum / (double)images);
    }
}

/* w <- keep w - lr g */
void step(float *restrict weight, const float *restrict gradient, int64_t count, float keep, float lr, int threads)
{
#pragma omp parallel for simd schedule(static) num_threads(threads) if (count > WORTHWHILE)
    for (int64_t i = 0; i < count; i++)
        weight[i] = keep * weight[i] - lr * gradient[i];
}
