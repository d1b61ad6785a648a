/* Cross-entropy of softmax, with its derivative. */

#include "kernels.h"

#include <math.h>

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

float cross_entropy(const float *restrict z, const int64_t *restrict label, float *restrict p, int64_t classes,
                    int64_t images)
{
    const float share = 1.0f / (float)images;
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
    return (float)(sum / (double)images);
}
