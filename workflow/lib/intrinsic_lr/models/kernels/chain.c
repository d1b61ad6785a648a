/* The gradients of convolutions in a row, each with batch norm and ReLU, under a mean over positions and a linear head.

   A thread takes one member after the other, so that all it works on stays in its core's cache. Activations are
   (image, row, column, channel), channels filled up with zeros to whole vectors; a linear layer is a 1x1 convolution
   of images of one pixel. The three products of a layer are one matrix product, `multiply`, whose left matrix is
   nowhere laid out: two tables of offsets say where its numbers lie in the activations. */

#include "kernels.h"

enum {
    HEIGHT = VECTOR == 16 ? 8 : 4, /* rows and vectors of a result that are kept in registers: 16 of 32, 8 of 16 */
    WIDTH = 2,
    INNER = 256 /* terms of a sum before it goes through memory: so many rows of the right matrix stay in the cache */
};

typedef struct {
    int64_t channels, out, kernel, stride, height, width; /* as kernels.py gives them */
} shape_t;

/* A matrix whose entry (i, j) is at origin[row[i] + column[j]]. */
typedef struct {
    const int32_t *row, *column;
    int64_t rows, columns;
} offsets_t;

typedef struct {
    shape_t shape;
    int64_t taps, terms, pad;              /* terms: of a sum, channels * taps */
    int64_t lanes, lanes_below;            /* channels filled up to whole vectors; of images as they are */
    int64_t high, wide, places;            /* of the result; places of all images */
    offsets_t forward, below[4];           /* below: input places of like remainder by the stride, and their taps */
    int32_t *put, *put_below, *put_weight; /* where results go */
    int32_t *order, *results, *put_result; /* taps in the order of `below`; 0, 1, ... of `out`, and rows of weights */
    float *input, *grad;                   /* in a frame of zeros */
    float *weight, *transposed, *x, *y, *mean, *inverse, *weight_grad;
} layer_t;

typedef struct {
    char *base;
    int64_t used;
} arena_t;

/* Without a base an arena only counts. */
static void *allocate(arena_t *arena, int64_t numbers)
{
    char *found = arena->base ? arena->base + arena->used : NULL;
    arena->used += (numbers * 4 + 63) / 64 * 64;
    return found;
}

static int64_t round_up(int64_t channels) { return (channels + LANES - 1) / LANES * LANES; }

static inline __attribute__((always_inline)) void
block(const int height, const int width, const float *left, const int32_t *row, const int32_t *column,
      const float *right, int64_t lanes, float *result, const int32_t *put, int64_t inner, int begin)
{
    vector_t sum[HEIGHT][WIDTH];
    const float *from[HEIGHT];
#pragma GCC unroll 8
    for (int r = 0; r < height; r++) {
        from[r] = left + row[r];
#pragma GCC unroll 2
        for (int w = 0; w < width; w++)
            sum[r][w] = begin ? (vector_t){0} : load(result + put[r] + w * VECTOR);
    }
    for (int64_t k = 0; k < inner; k++) {
        vector_t other[WIDTH];
        const int64_t at = column[k];
#pragma GCC unroll 2
        for (int w = 0; w < width; w++)
            other[w] = load(right + k * lanes + w * VECTOR);
#pragma GCC unroll 8
        for (int r = 0; r < height; r++) {
            const float factor = from[r][at];
#pragma GCC unroll 2
            for (int w = 0; w < width; w++)
                sum[r][w] += factor * other[w];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int w = 0; w < width; w++)
            store(result + put[r] + w * VECTOR, sum[r][w]);
}

static inline __attribute__((always_inline)) void
strip(const int width, const float *left, offsets_t at, int64_t first, int64_t inner, const float *right,
      int64_t lanes, float *result, const int32_t *put)
{
    int64_t r = 0;
    for (; r + HEIGHT <= at.rows; r += HEIGHT)
        block(HEIGHT, width, left, at.row + r, at.column + first, right, lanes, result, put + r, inner, first == 0);
    for (; r < at.rows; r++)
        block(1, width, left, at.row + r, at.column + first, right, lanes, result, put + r, inner, first == 0);
}

/* Row i of the product of the matrix `at`, with its origin at `left`, and right (at.columns, lanes) goes to
   result[put[i]]. */
static void multiply(const float *left, offsets_t at, const float *right, int64_t lanes, float *result,
                     const int32_t *put)
{
    for (int64_t first = 0; first < at.columns; first += INNER) {
        const int64_t inner = least(INNER, at.columns - first);
        const float *part = right + first * lanes;
        int64_t lane = 0;
        for (; lane + WIDTH * VECTOR <= lanes; lane += WIDTH * VECTOR)
            strip(WIDTH, left, at, first, inner, part + lane, lanes, result + lane, put);
        for (; lane < lanes; lane += VECTOR)
            strip(1, left, at, first, inner, part + lane, lanes, result + lane, put);
    }
}

/* Exchange the quarters of a matrix, then those of its quarters, and so on. */
static inline __attribute__((always_inline)) void transpose_tile(lanes_t tile[LANES])
{
#define EXCHANGE(HALF, KEPT_ABOVE, KEPT_BELOW)                                                                         \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) if (!(i & HALF))                                          \
    {                                                                                                                  \
        const lanes_t above = tile[i], below = tile[i + HALF];                                                         \
        tile[i] = __builtin_shuffle(above, below, KEPT_ABOVE);                                                         \
        tile[i + HALF] = __builtin_shuffle(above, below, KEPT_BELOW);                                                  \
    }
    EXCHANGE(8, ((indices_t){0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}),
             ((indices_t){8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31}))
    EXCHANGE(4, ((indices_t){0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}),
             ((indices_t){4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31}))
    EXCHANGE(2, ((indices_t){0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}),
             ((indices_t){2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31}))
    EXCHANGE(1, ((indices_t){0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}),
             ((indices_t){1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31}))
#undef EXCHANGE
}

/* Exchange rows and columns: `from` (rows, columns) with rows `across` apart goes to `to`, with rows `along` apart. */
static void transpose(const float *from, int64_t rows, int64_t columns, int64_t across, float *to, int64_t along)
{
    for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t c = 0; c < columns; c += LANES) {
            const int64_t high = least(LANES, rows - r), wide = least(LANES, columns - c);
            const float *source = from + r * across + c;
            float *target = to + c * along + r;
            lanes_t tile[LANES];
            if (VECTOR == LANES && high == LANES && wide == LANES) {
#pragma GCC unroll 16
                for (int64_t i = 0; i < LANES; i++)
                    tile[i] = load_lanes(source + i * across);
                transpose_tile(tile);
#pragma GCC unroll 16
                for (int64_t i = 0; i < LANES; i++)
                    memcpy(target + i * along, &tile[i], sizeof tile[i]);
            } else
                for (int64_t i = 0; i < high; i++)
                    for (int64_t j = 0; j < wide; j++)
                        target[j * along + i] = source[i * across + j];
        }
}

/* Reserve what a layer needs. Without a frame the input is the result of the layer below. */
static layer_t reserve_layer(shape_t s, const layer_t *below, int64_t batch, arena_t *arena)
{
    layer_t l = {.shape = s, .taps = s.kernel * s.kernel, .pad = s.kernel / 2, .lanes = round_up(s.out)};
    l.terms = s.channels * l.taps;
    l.lanes_below = below ? below->lanes : s.channels;
    l.high = (s.height + 2 * l.pad - s.kernel) / s.stride + 1;
    l.wide = (s.width + 2 * l.pad - s.kernel) / s.stride + 1;
    l.places = batch * l.high * l.wide;
    const int64_t terms = l.terms, places_below = batch * s.height * s.width;
    const int framed = l.pad > 0;
    l.forward = (offsets_t){allocate(arena, l.places), allocate(arena, terms), l.places, terms};
    l.put = allocate(arena, l.places);
    l.put_weight = allocate(arena, terms);
    l.results = allocate(arena, s.out);
    l.put_result = allocate(arena, s.out);
    l.weight = allocate(arena, terms * l.lanes);
    l.weight_grad = allocate(arena, terms * l.lanes);
    l.x = allocate(arena, l.places * l.lanes);
    l.y = allocate(arena, l.places * l.lanes);
    l.mean = allocate(arena, l.lanes);
    l.inverse = allocate(arena, l.lanes);
    const int64_t framed_places = batch * (s.height + 2 * l.pad) * (s.width + 2 * l.pad);
    l.input = below && !framed ? below->y : allocate(arena, framed_places * l.lanes_below);
    if (!below)
        return l;
    l.order = allocate(arena, l.taps);
    l.put_below = allocate(arena, places_below);
    l.below[0] = (offsets_t){allocate(arena, places_below), allocate(arena, l.taps * s.out), 0, 0};
    l.transposed = allocate(arena, l.taps * s.out * l.lanes_below);
    l.grad = framed ? allocate(arena, batch * (l.high + 2 * l.pad) * (l.wide + 2 * l.pad) * l.lanes) : NULL;
    return l;
}

static void tabulate_forward(const layer_t *l, int64_t batch)
{
    const shape_t s = l->shape;
    const int64_t high = s.height + 2 * l->pad, wide = s.width + 2 * l->pad;
    int32_t *row = (int32_t *)l->forward.row, *column = (int32_t *)l->forward.column;
    for (int64_t b = 0, p = 0; b < batch; b++)
        for (int64_t y = 0; y < l->high; y++)
            for (int64_t x = 0; x < l->wide; x++, p++) {
                row[p] = (int32_t)(((b * high + y * s.stride) * wide + x * s.stride) * l->lanes_below);
                l->put[p] = (int32_t)(p * l->lanes);
            }
    for (int64_t c = 0, i = 0; c < s.channels; c++)
        for (int64_t tap = 0; tap < l->taps; tap++, i++) {
            column[i] = (int32_t)((tap / s.kernel * wide + tap % s.kernel) * l->lanes_below + c);
            l->put_weight[i] = (int32_t)(i * l->lanes);
        }
    for (int64_t o = 0; o < s.out; o++) {
        l->results[o] = (int32_t)o;
        l->put_result[o] = (int32_t)(o * l->terms);
    }
}

/* An input place (y, x) has a part in the results at ((y + pad - tap_y) / stride, ...) where that is a whole number:
   the taps depend on the remainders of y and x alone (derived). */
static void tabulate_below(layer_t *l, int64_t batch)
{
    const shape_t s = l->shape;
    const int64_t high = l->high + 2 * l->pad, wide = l->wide + 2 * l->pad;
    int32_t *row = (int32_t *)l->below[0].row, *column = (int32_t *)l->below[0].column;
    int64_t p = 0, i = 0, rank = 0;
    for (int64_t part = 0; part < s.stride * s.stride; part++) {
        const int64_t top = part / s.stride, left = part % s.stride, rows = p, columns = i;
        for (int64_t tap = 0; tap < l->taps; tap++) {
            const int64_t y = top + l->pad - tap / s.kernel, x = left + l->pad - tap % s.kernel;
            if (y % s.stride || x % s.stride)
                continue;
            l->order[rank++] = (int32_t)tap;
            for (int64_t o = 0; o < s.out; o++)
                column[i++] = (int32_t)((y / s.stride * wide + x / s.stride) * l->lanes + o);
        }
        for (int64_t b = 0; b < batch; b++)
            for (int64_t y = top; y < s.height; y += s.stride)
                for (int64_t x = left; x < s.width; x += s.stride, p++) {
                    const int64_t at = (b * high + y / s.stride + l->pad) * wide + x / s.stride + l->pad;
                    row[p] = (int32_t)(at * l->lanes);
                    l->put_below[p] = (int32_t)(((b * s.height + y) * s.width + x) * l->lanes_below);
                }
        l->below[part] = (offsets_t){row + rows, column + columns, p - rows, i - columns};
    }
}

/* Put (batch, height, width, lanes) into a frame of zeros. */
static void frame(const float *from, float *to, int64_t batch, int64_t height, int64_t width, int64_t lanes,
                  int64_t pad)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t y = 0; y < height; y++)
            memcpy(to + ((b * (height + 2 * pad) + y + pad) * (width + 2 * pad) + pad) * lanes,
                   from + (b * height + y) * width * lanes, (size_t)(width * lanes) * sizeof(float));
}

/* Put an image (channels, height, width) into the frame of zeros at place b, channels last. */
static void frame_image(const layer_t *l, const float *image, int64_t b)
{
    const shape_t s = l->shape;
    if (s.height == 1 && s.width == 1 && !l->pad) {
        memcpy(l->input + b * s.channels, image, (size_t)s.channels * sizeof(float));
        return;
    }
    for (int64_t y = 0; y < s.height; y++)
        for (int64_t x = 0; x < s.width; x++) {
            const int64_t at = (b * (s.height + 2 * l->pad) + y + l->pad) * (s.width + 2 * l->pad) + x + l->pad;
            for (int64_t c = 0; c < s.channels; c++)
                l->input[at * s.channels + c] = image[(c * s.height + y) * s.width + x];
        }
}

static void forward_layer(const layer_t *l, const float *weight, float limit)
{
    transpose(weight, l->shape.out, l->terms, l->terms, l->weight, l->lanes);
    multiply(l->input, l->forward, l->weight, l->lanes, l->x, l->put);
    normalize_block(l->x, l->y, l->mean, l->inverse, l->lanes, l->places, limit);
}

/* From the derivative in x, `grad`, to that in the weights. */
static void backward_weight(const layer_t *l, const float *grad, float *gradient)
{
    if (l->taps == 1 && l->terms % LANES == 0) { /* inputs are whole vectors, and need not be transposed afterwards */
        const offsets_t results = {l->results, l->put, l->shape.out, l->places};
        multiply(grad, results, l->input, l->terms, gradient, l->put_result);
        return;
    }
    const offsets_t inputs = {l->forward.column, l->forward.row, l->terms, l->places};
    multiply(l->input, inputs, grad, l->lanes, l->weight_grad, l->put_weight);
    transpose(l->weight_grad, l->terms, l->shape.out, l->lanes, gradient, l->terms);
}

/* From the derivative in y, `grad`, to that in the weights and, if the input is a result, in it, which takes the
   place of `grad`. */
static void backward_layer(const layer_t *l, const float *weight, float *gradient, float *grad, float *inner,
                           int64_t batch)
{
    const int64_t channels = l->shape.channels, out = l->shape.out, taps = l->taps;
    normalize_backward_block(grad, l->x, l->y, l->mean, l->inverse, inner, l->lanes, l->places);
    backward_weight(l, inner, gradient);
    if (!l->transposed)
        return;
    if (l->grad)
        frame(inner, l->grad, batch, l->high, l->wide, l->lanes, l->pad);
    for (int64_t rank = 0; rank < taps; rank++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t c = 0; c < channels; c++)
                l->transposed[(rank * out + o) * l->lanes_below + c] =
                    weight[(o * channels + c) * taps + l->order[rank]];
    const float *right = l->transposed;
    const int32_t *put = l->put_below;
    for (int64_t part = 0; part < l->shape.stride * l->shape.stride; part++) {
        multiply(l->grad ? l->grad : inner, l->below[part], right, l->lanes_below, grad, put);
        right += l->below[part].columns * l->lanes_below;
        put += l->below[part].rows;
    }
}

typedef struct {
    int64_t classes, lanes, features, lanes_below; /* lanes: of classes and features, filled up */
    int32_t *along, *by_class, *by_lanes, *by_lanes_below; /* offsets: steps of 1, of a class's images, of lanes */
    float *pooled, *weight, *transposed, *scores, *logits, *grad;
} head_t;

static head_t reserve_head(int64_t classes, const layer_t *below, int64_t batch, arena_t *arena)
{
    head_t h = {.classes = classes, .lanes = round_up(classes)};
    h.features = below->shape.out;
    h.lanes_below = below->lanes;
    const int64_t longest = h.lanes + h.lanes_below + batch;
    h.along = allocate(arena, longest);
    h.by_class = allocate(arena, longest);
    h.by_lanes = allocate(arena, longest);
    h.by_lanes_below = allocate(arena, longest);
    h.pooled = allocate(arena, batch * h.lanes_below);
    h.weight = allocate(arena, h.features * h.lanes);
    h.transposed = allocate(arena, classes * h.lanes_below);
    const int64_t widest = h.lanes > h.lanes_below ? h.lanes : h.lanes_below;
    h.scores = allocate(arena, (batch > classes ? batch : classes) * widest);
    h.logits = allocate(arena, classes * batch);
    h.grad = allocate(arena, classes * batch);
    return h;
}

static void tabulate_head(const head_t *h, int64_t batch)
{
    for (int64_t i = 0; i < h->lanes + h->lanes_below + batch; i++) {
        h->along[i] = (int32_t)i;
        h->by_class[i] = (int32_t)(i * batch);
        h->by_lanes[i] = (int32_t)(i * h->lanes);
        h->by_lanes_below[i] = (int32_t)(i * h->lanes_below);
    }
}

/* The loss of the head on the last layer; `grad` gets the derivative in that layer's result, `gradient`, where there
   is one, that in the head's weights. */
static float run_head(const head_t *h, const layer_t *below, const float *weight, float *gradient,
                      const int64_t *labels, float *grad, int64_t batch)
{
    const int64_t classes = h->classes, width = h->lanes_below, places = below->high * below->wide;
    const offsets_t features = {h->by_lanes_below, h->along, batch, h->features};
    const offsets_t by_class = {h->by_class, h->along, classes, batch};
    const offsets_t by_image = {h->along, h->by_class, batch, classes};
    const float share = 1.0f / (float)places;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t c = 0; c < width; c += VECTOR) {
            vector_t sum = {0};
            for (int64_t p = 0; p < places; p++)
                sum += load(below->y + (b * places + p) * width + c);
            store(h->pooled + b * width + c, sum * share);
        }
    transpose(weight, classes, h->features, h->features, h->weight, h->lanes);
    for (int64_t k = 0; k < classes; k++)
        memcpy(h->transposed + k * width, weight + k * h->features, (size_t)h->features * sizeof(float));
    multiply(h->pooled, features, h->weight, h->lanes, h->scores, h->by_lanes);
    transpose(h->scores, batch, classes, h->lanes, h->logits, batch);
    const float loss = cross_entropy(h->logits, labels, h->grad, classes, batch);
    if (gradient) {
        multiply(h->grad, by_class, h->pooled, width, h->scores, h->by_lanes_below);
        for (int64_t k = 0; k < classes; k++)
            memcpy(gradient + k * h->features, h->scores + k * width, (size_t)h->features * sizeof(float));
    }
    multiply(h->grad, by_image, h->transposed, width, h->scores, h->by_lanes_below);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t p = 0; p < places; p++)
            for (int64_t c = 0; c < width; c++)
                grad[(b * places + p) * width + c] = h->scores[b * width + c] * share;
    return loss;
}

/* A network, and what one thread works in. */
typedef struct {
    int64_t depth, batch, classes, image; /* image: numbers of one */
    float limit;
    layer_t *layers;
    head_t head;
    float *grads[2];
} network_t;

static void reserve(network_t *n, const shape_t *shapes, arena_t *arena)
{
    int64_t largest = 0;
    for (int64_t i = 0; i < n->depth; i++) {
        n->layers[i] = reserve_layer(shapes[i], i ? &n->layers[i - 1] : NULL, n->batch, arena);
        if (n->layers[i].places * n->layers[i].lanes > largest)
            largest = n->layers[i].places * n->layers[i].lanes;
    }
    n->image = shapes->channels * shapes->height * shapes->width;
    n->head = reserve_head(n->classes, &n->layers[n->depth - 1], n->batch, arena);
    n->grads[0] = allocate(arena, largest);
    n->grads[1] = allocate(arena, largest);
}

/* Reserve, and fill the tables of offsets. */
static void prepare(network_t *n, const shape_t *shapes, char *space, int64_t bytes)
{
    arena_t arena = {space, 0};
    memset(space, 0, (size_t)bytes);
    reserve(n, shapes, &arena);
    for (int64_t i = 0; i < n->depth; i++) {
        tabulate_forward(&n->layers[i], n->batch);
        if (i)
            tabulate_below(&n->layers[i], n->batch);
    }
    tabulate_head(&n->head, n->batch);
}

/* Numbers of one member's weights in a layer, or in the head. */
static int64_t size_of(const network_t *n, int64_t i)
{
    const layer_t *l = &n->layers[i];
    return i == n->depth ? n->classes * n->head.features : l->shape.out * l->shape.channels * l->taps;
}

/* The mean loss of one member on the images in the frame, and its gradients, of the head where there is room. */
static float run_member(const network_t *n, const float *const *weights, float *const *gradients,
                        const int64_t *labels)
{
    const layer_t *layers = n->layers;
    for (int64_t i = 0; i < n->depth; i++) {
        const layer_t *l = &layers[i];
        if (i && l->pad)
            frame(layers[i - 1].y, l->input, n->batch, l->shape.height, l->shape.width, l->lanes_below, l->pad);
        forward_layer(l, weights[i], n->limit);
    }
    const float loss = run_head(&n->head, &layers[n->depth - 1], weights[n->depth], gradients[n->depth], labels,
                                n->grads[0], n->batch);
    for (int64_t i = n->depth - 1; i >= 0; i--)
        backward_layer(&layers[i], weights[i], gradients[i], n->grads[0], n->grads[1], n->batch);
    return loss;
}

/* Bytes that one thread of `chain` or `train_chain` works in. */
int64_t chain_bytes(const shape_t *shapes, int64_t depth, int64_t batch, int64_t classes)
{
    arena_t arena = {NULL, 0};
    layer_t layers[depth];
    network_t network = {.depth = depth, .batch = batch, .classes = classes, .layers = layers};
    reserve(&network, shapes, &arena);
    return arena.used;
}

/* Take the next `bytes` of the space that the threads share. */
static char *own_part(char **space, int64_t bytes)
{
    char *own;
#pragma omp critical
    {
        own = *space;
        *space += bytes;
    }
    return own;
}

/* Mean losses (members,), and their derivatives in the weights.

   shapes: (depth, 6). weights, gradients: of every layer (members, out, channels, kernel, kernel), then of the head
   (members, classes, features), whose gradient may be NULL. images: (members, batch, channels, height, width), or
   without the first, where they are shared. labels: (members, batch). space: chain_bytes for each thread. */
void chain(const shape_t *shapes, int64_t depth, const float *const *weights, float *const *gradients,
           const float *images, int shared, const int64_t *labels, float *loss, int64_t members, int64_t batch,
           int64_t classes, float limit, char *space, int threads)
{
    const int64_t bytes = chain_bytes(shapes, depth, batch, classes);
#pragma omp parallel num_threads(threads)
    {
        layer_t layers[depth];
        const float *own_weights[depth + 1];
        float *own_gradients[depth + 1];
        network_t n = {.depth = depth, .batch = batch, .classes = classes, .limit = limit, .layers = layers};
        char *own_space = own_part(&space, bytes);
        prepare(&n, shapes, own_space, bytes);
        for (int64_t b = 0; shared && b < batch; b++)
            frame_image(layers, images + b * n.image, b);
#pragma omp for schedule(dynamic)
        for (int64_t member = 0; member < members; member++) {
            for (int64_t b = 0; !shared && b < batch; b++)
                frame_image(layers, images + (member * batch + b) * n.image, b);
            for (int64_t i = 0; i <= depth; i++) {
                own_weights[i] = weights[i] + member * size_of(&n, i);
                own_gradients[i] = gradients[i] ? gradients[i] + member * size_of(&n, i) : NULL;
            }
            loss[member] = run_member(&n, own_weights, own_gradients, labels + member * batch);
        }
    }
}

static void update(float *restrict weight, const float *restrict gradient, int64_t count, float decay, float lr)
{
    for (int64_t i = 0; i < count; i++)
        weight[i] = stepped(weight[i], gradient[i], decay, lr);
}

/* Steps of SGD one after the other, each as `chain` and `sgd_step` do it; losses: (steps, members), before each.

   weights, changed in place: as for `chain`, of which those of the head stay where it is `fixed`. images: of the data
   set (count, channels, height, width), with labels (count,). order: (members, steps, batch), members being `stride`
   apart, says which ones are seen. decays, rates: (steps,). space: for each thread chain_bytes, and then the numbers
   of one member's weights. */
void train_chain(const shape_t *shapes, int64_t depth, float *const *weights, int fixed, const float *images,
                 const int64_t *labels, const int64_t *order, int64_t stride, const float *decays, const float *rates,
                 float *losses, int64_t steps, int64_t members, int64_t batch, int64_t classes, float limit,
                 char *space, int64_t bytes, int threads)
{
#pragma omp parallel num_threads(threads)
    {
        layer_t layers[depth];
        float *own_weights[depth + 1], *gradients[depth + 1];
        int64_t own_labels[batch];
        network_t n = {.depth = depth, .batch = batch, .classes = classes, .limit = limit, .layers = layers};
        char *own_space = own_part(&space, bytes);
        prepare(&n, shapes, own_space, bytes);
        gradients[0] = (float *)(own_space + chain_bytes(shapes, depth, batch, classes));
        for (int64_t i = 0; i < depth; i++)
            gradients[i + 1] = gradients[i] + size_of(&n, i);
        const int64_t trained = fixed ? depth : depth + 1;
        if (fixed)
            gradients[depth] = NULL;
#pragma omp for schedule(dynamic)
        for (int64_t member = 0; member < members; member++) {
            for (int64_t i = 0; i <= depth; i++)
                own_weights[i] = weights[i] + member * size_of(&n, i);
            for (int64_t s = 0; s < steps; s++) {
                const int64_t *seen = order + member * stride + s * batch;
                for (int64_t b = 0; b < batch; b++) {
                    frame_image(layers, images + seen[b] * n.image, b);
                    own_labels[b] = labels[seen[b]];
                }
                losses[s * members + member] =
                    run_member(&n, (const float *const *)own_weights, gradients, own_labels);
                for (int64_t i = 0; i < trained; i++)
                    update(own_weights[i], gradients[i], size_of(&n, i), decays[s], rates[s]);
            }
        }
    }
}
