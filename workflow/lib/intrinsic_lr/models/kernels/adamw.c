/* The step of AdamW in one pass over memory. */

#include "kernels.h"

#include <math.h>

/* m <- m + share (g - m), v <- keep v + new_share g^2, w <- w - (decay w + lr m / (sqrt(v) / root + eps)); lr and root
   hold the bias corrections. */
void adamw_step(float *restrict weight, const float *restrict gradient, float *restrict first, float *restrict second,
                int64_t count, float share, float keep, float new_share, float root, float eps, float lr, float decay,
                int threads)
{
#pragma omp parallel for simd schedule(static) num_threads(threads) if (count > WORTHWHILE)
    for (int64_t i = 0; i < count; i++) {
        first[i] += share * (gradient[i] - first[i]);
        second[i] = keep * second[i] + new_share * gradient[i] * gradient[i];
        weight[i] -= decay * weight[i] + lr * first[i] / (sqrtf(second[i]) / root + eps);
    }
}
