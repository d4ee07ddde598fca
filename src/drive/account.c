#include "drive/account.h"

static int64_t between(int64_t low_ns, int64_t stamp_ns, int64_t high_ns)
{
    if (stamp_ns > high_ns)
        stamp_ns = high_ns;
    return stamp_ns > low_ns ? stamp_ns : low_ns;
}

void cop_account_stamps(cop_requests_row *row, const cop_request_story *story, int64_t now_ns)
{
    row->received_ns = between(row->routed_ns, story->received_ns, now_ns);
    row->queue_end_ns = between(row->received_ns, story->queue_end_ns, now_ns);
    row->transfer_end_ns = between(row->queue_end_ns, story->transfer_end_ns, now_ns);
    row->prefill_start_ns = between(row->transfer_end_ns, story->prefill_start_ns, now_ns);
    row->prefill_end_ns = between(row->prefill_start_ns, story->prefill_end_ns, now_ns);
    row->first_token_ns = now_ns;
    row->send_ns = row->received_ns - row->routed_ns;
    row->queue_ns = row->queue_end_ns - row->received_ns;
    row->transfer_ns = row->transfer_end_ns - row->queue_end_ns;
    row->prefill_wait_ns = row->prefill_start_ns - row->transfer_end_ns;
    row->prefill_ns = row->prefill_end_ns - row->prefill_start_ns;
    row->return_ns = row->first_token_ns - row->prefill_end_ns;
    row->ttft_ns = row->first_token_ns - row->scheduled_ns;
}

uint8_t cop_account_miss(const cop_requests_row *row, uint32_t block_tokens)
{
    uint32_t hit = row->hit_local_tokens + row->hit_migrated_tokens + row->hit_host_tokens;
    uint32_t whole = (row->prompt_tokens - 1) / block_tokens * block_tokens;
    uint32_t rungs[6] = {whole,
                         row->ideal_hit_tokens,
                         row->best_hit_tokens,
                         row->predicted_hit_tokens,
                         row->resident_tokens,
                         hit};
    uint32_t most = row->prompt_tokens - whole; /* the tail */
    uint8_t largest = 0;
    uint32_t above = rungs[0] > hit ? rungs[0] : hit;
    for (uint8_t class = 1; class < 6; class ++) {
        uint32_t rung = rungs[class] > hit ? rungs[class] : hit;
        rung = rung < above ? rung : above;
        if (above - rung > most) {
            most = above - rung;
            largest = class;
        }
        above = rung;
    }
    return largest;
}

double cop_account_gain(const cop_cost *cost, const cop_requests_row *row,
                        int64_t transfer_ended_ns)
{
    uint32_t local = row->hit_local_tokens + row->hit_host_tokens;
    double without = cop_cost_prefill_ns(cost, row->prompt_tokens, local);
    double with = cop_cost_prefill_ns(cost, row->prompt_tokens, local + row->hit_migrated_tokens);
    int64_t until_ns =
        transfer_ended_ns < row->transfer_end_ns ? transfer_ended_ns : row->transfer_end_ns;
    int64_t waited_ns = until_ns > row->received_ns ? until_ns - row->received_ns : 0;
    return without - with - (double)waited_ns;
}
