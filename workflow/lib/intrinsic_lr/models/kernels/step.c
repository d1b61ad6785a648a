/* The step of SGD in one pass over memory. */

#include "kernels.h"

/* w <- keep w - lr g */
void step(float *restrict weight, const float *restrict gradient, int64_t count, float keep, float lr, int threads)
{
#pragma omp parallel for simd schedule(static) num_threads(threads) if (count > WORTHWHILE)
    for (int64_t i = 0; i < count; i++)
        weight[i] = keep * weight[i] - lr * gradient[i];
}
