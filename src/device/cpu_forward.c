/* A batch through the layers; see geometry.h for the formulas. Steps that work on rows one by one
 * go in tasks of ROWS rows, so a small batch does them on the runner without waking anybody. */
#include "device/cpu.h"

#include <string.h>

enum { ROWS = 16 };

typedef struct {
    cop_device *d;
    uint32_t rows, layer;
    const float *norm;
    void (*row)(cop_device *d, uint32_t row, uint32_t layer, const float *norm, cop_scratch *s);
} row_loop;

static void row_task(void *ctx, uint32_t task, uint32_t thread)
{
    const row_loop *l = ctx;
    uint32_t end = (task + 1) * ROWS < l->rows ? (task + 1) * ROWS : l->rows;
    for (uint32_t row = task * ROWS; row < end; row++)
        l->row(l->d, row, l->layer, l->norm, &l->d->scratch[thread]);
}

static void for_rows(row_loop l)
{
    cop_pool_for(l.d->pool, (l.rows + ROWS - 1) / ROWS, row_task, &l);
}

/* The embedding of a tied model is the packed head: the words of column `token` are its row, one a
 * cache line. */
static void embed_row(cop_device *d, uint32_t row, uint32_t layer, const float *norm,
                      cop_scratch *s)
{
    const size_t hidden = d->g.hidden, token = d->row[row].token, bytes = d->kernels->panel_bytes;
    const void *from;
    if (d->embedding) {
        from = d->embedding + token * hidden * bytes;
    } else {
        const char *panel = d->head.panels + token / COP_PANEL * COP_PANEL * hidden * bytes;
        const uint32_t *word = (const uint32_t *)panel + token % COP_PANEL;
        uint32_t *gathered = (uint32_t *)s->row;
        for (size_t i = 0; i < hidden * bytes / sizeof *word; i++)
            gathered[i] = word[i * COP_PANEL];
        from = gathered;
    }
    cop_convert_weights(from, bytes == sizeof(float) ? COP_F32 : COP_BF16, hidden, sizeof(float),
                        d->x + row * hidden);
}

static void normalise(const cop_device *d, uint32_t row, const float *norm, cop_scratch *s,
                      void *out)
{
    const uint32_t hidden = d->g.hidden;
    d->kernels->rmsnorm(d->x + (size_t)row * hidden, norm, d->g.rms_epsilon, s->row, hidden);
    d->kernels->store_act(s->row, out, hidden);
}

static void norm_row(cop_device *d, uint32_t row, uint32_t layer, const float *norm, cop_scratch *s)
{
    normalise(d, row, norm, s, d->h + (size_t)row * d->g.hidden * d->kernels->act_bytes);
}

static void last_row(cop_device *d, uint32_t i, uint32_t layer, const float *norm, cop_scratch *s)
{
    uint32_t sequence = d->sampled_sequence[i];
    uint32_t row = d->first_row[sequence] + d->batch.sequences[sequence].count - 1;
    normalise(d, row, norm, s, d->last + (size_t)i * d->g.hidden * d->kernels->act_bytes);
}

/* One head of q or k: bias, norm and rotation. bias, gain: NULL if the model has none. */
static void turn_head(const cop_device *d, const float *x, const float *bias, const float *gain,
                      uint32_t position, float *out)
{
    const uint32_t dim = d->g.head_dim;
    const size_t angle = (size_t)position * dim / 2;
    float biased[128], normal[128];
    if (gain) {
        memcpy(biased, x, dim * sizeof *x);
        if (bias)
            d->kernels->add(biased, bias, dim);
        d->kernels->rmsnorm(biased, gain, d->g.rms_epsilon, normal, dim);
        x = normal;
        bias = NULL;
    }
    d->kernels->rope(x, bias, d->cosine + angle, d->sine + angle, out, dim);
}

/* q to its place for attention, k and v into the KV pool. */
static void qkv_row(cop_device *d, uint32_t row, uint32_t layer, const float *norm, cop_scratch *s)
{
    const cop_kernels *kernels = d->kernels;
    const uint32_t dim = d->g.head_dim, position = d->row[row].position;
    const cop_layer *w = &d->layers[layer];
    const float *in = d->qkv + (size_t)row * d->qkv_size, *bias = w->qkv_bias;
    for (uint32_t h = 0; h < d->g.q_heads; h++) {
        size_t slot = ((size_t)(h / d->group) * d->max_rows + row) * d->group + h % d->group;
        turn_head(d, in + h * dim, bias ? bias + h * dim : NULL, w->q_norm, position, s->row);
        kernels->store_act(s->row, d->q + slot * dim * kernels->act_bytes, dim);
    }
    char *kv = d->row[row].kv + (size_t)layer * 2 * d->g.kv_heads * d->stripe_bytes;
    for (uint32_t h = 0; h < d->g.kv_heads; h++, kv += d->stripe_bytes) {
        size_t k = d->q_size + h * dim, v = k + d->kv_size;
        turn_head(d, in + k, bias ? bias + k : NULL, w->k_norm, position, s->row);
        kernels->store_kv(s->row, kv, dim);
        memcpy(s->row, in + v, dim * sizeof(float));
        if (bias)
            kernels->add(s->row, bias + v, dim);
        kernels->store_kv(s->row, kv + d->g.kv_heads * d->stripe_bytes, dim);
    }
}

static void run_layer(cop_device *d, uint32_t layer)
{
    const cop_layer *w = &d->layers[layer];
    for_rows((row_loop){.d = d, .rows = d->rows, .norm = w->norm1, .row = norm_row});
    cop_cpu_gemm(d, &w->qkv, d->h, d->rows, COP_GEMM_STORE, d->qkv);
    for_rows((row_loop){.d = d, .rows = d->rows, .layer = layer, .row = qkv_row});
    cop_cpu_attention(d, layer);
    cop_cpu_gemm(d, &w->o, d->mixed, d->rows, COP_GEMM_ADD, d->x);
    for_rows((row_loop){.d = d, .rows = d->rows, .norm = w->norm2, .row = norm_row});
    cop_cpu_gemm(d, &w->gate_up, d->h, d->rows, COP_GEMM_SWIGLU, d->ffn);
    cop_cpu_gemm(d, &w->down, d->ffn, d->rows, COP_GEMM_ADD, d->x);
}

static void lay_out_sequence(cop_device *d, uint32_t index)
{
    const cop_sequence *s = &d->batch.sequences[index];
    const uint32_t block_tokens = d->options.block_tokens;
    const size_t token_bytes = (size_t)d->g.head_dim * d->kernels->panel_bytes;
    d->first_row[index] = d->rows;
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t position = s->start + i;
        d->row[d->rows++] = (cop_row){
            .token = s->tokens[i],
            .position = position,
            .kv = d->kv + s->blocks[position / block_tokens] * d->block_bytes +
                  position % block_tokens * token_bytes,
        };
    }
    if (s->sample)
        d->sampled_sequence[d->sampled++] = index;
    /* Last tokens first: they have the longest contexts, so the ends of the threads meet. */
    for (uint32_t end = s->count; end > 0;) {
        uint32_t count = (end - 1) % COP_QUERY_TOKENS + 1;
        end -= count;
        for (uint32_t h = 0; h < d->g.kv_heads; h++)
            d->item[d->items++] = (cop_attention_item){index, h, end, count};
    }
}

void cop_cpu_lay_out(cop_device *d)
{
    d->rows = d->sampled = d->items = 0;
    for (uint32_t i = 0; i < d->batch.count; i++)
        lay_out_sequence(d, i);
}

void cop_cpu_forward(cop_device *d)
{
    cop_cpu_lay_out(d);
    for_rows((row_loop){.d = d, .rows = d->rows, .row = embed_row});
    for (uint32_t layer = 0; layer < d->g.layers; layer++)
        run_layer(d, layer);
    for_rows((row_loop){.d = d, .rows = d->sampled, .norm = d->final_norm, .row = last_row});
    if (d->sampled > 0)
        cop_cpu_gemm(d, &d->head, d->last, d->sampled, COP_GEMM_STORE, d->logits);
    cop_cpu_sample(d);
}
