/* Steps that only decode, as CUDA graphs: such a step is hundreds of short launches, which the host
 * could not queue as fast as the GPU does them. A graph is kept for each (sequences, splits), both in
 * steps that grow with them, so there are few.
 *
 * Those that a device can want are captured when it opens (warm.c), as far as there are places. Of
 * others a size that is wanted for the first time is launched plainly, and captured the second time:
 * a capture takes longer than a step. */
#include "cuda/cuda_device.h"

static bool serves(const cop_cuda_graph *g, cop_step_size size)
{
    return g->used && g->sequences == size.sequences && g->splits == size.splits;
}

/* The place of this size: its own, or an empty one, or that which was not wanted for longest. */
static cop_cuda_graph *find(cop_device *d, cop_step_size size)
{
    cop_cuda_graph *oldest = &d->graphs[0];
    for (int i = 0; i < COP_GRAPHS; i++) {
        cop_cuda_graph *g = &d->graphs[i];
        if (serves(g, size))
            return g;
        if (g->used < oldest->used)
            oldest = g;
    }
    return oldest;
}

static void empty(cop_cuda_graph *g)
{
    if (g->graph)
        cudaGraphExecDestroy(g->graph);
    *g = (cop_cuda_graph){0};
}

static cop_status capture(cop_device *d, cop_step_size size, cudaGraphExec_t *out, cop_error *err)
{
    cudaGraph_t graph = NULL;
    COP_CUDA_TRY(err, cudaStreamBeginCapture(d->compute, cudaStreamCaptureModeThreadLocal));
    cop_status status = cop_cuda_step(d, size, err);
    cudaError_t error = cudaStreamEndCapture(d->compute, &graph);
    if (status == COP_OK && error != cudaSuccess)
        status = cop_cuda_fail(err, error, "cudaStreamEndCapture", __FILE__, __LINE__);
    if (status == COP_OK) {
        error = cudaGraphInstantiate(out, graph, 0);
        if (error != cudaSuccess)
            status = cop_cuda_fail(err, error, "cudaGraphInstantiate", __FILE__, __LINE__);
    }
    if (graph)
        cudaGraphDestroy(graph);
    return status;
}

static void settle(cop_cuda_graph *g, cop_step_size size)
{
    empty(g);
    g->sequences = size.sequences;
    g->splits = size.splits;
}

cop_status cop_cuda_graph_prepare(cop_device *d, cop_step_size size, cop_error *err)
{
    cop_cuda_graph *g = find(d, size);
    if (g->used) /* this size's, or there is no place left */
        return COP_OK;
    settle(g, size);
    g->used = ++d->steps;
    return capture(d, size, &g->graph, err);
}

cop_status cop_cuda_graph_step(cop_device *d, cop_step_size size, cop_error *err)
{
    cop_cuda_graph *g = find(d, size);
    const bool known = serves(g, size);
    if (!known)
        settle(g, size);
    g->used = ++d->steps;
    if (!known)
        return cop_cuda_step(d, size, err);
    if (!g->graph) {
        cop_status status = capture(d, size, &g->graph, err);
        if (status != COP_OK)
            return status;
    }
    COP_CUDA_TRY(err, cudaGraphLaunch(g->graph, d->compute));
    return COP_OK;
}

void cop_cuda_graphs_close(cop_device *d)
{
    for (int i = 0; i < COP_GRAPHS; i++)
        empty(&d->graphs[i]);
}
