#include "base/link.h"

void cop_link_init(cop_link *link, double latency_us, double bandwidth_mb_s)
{
    link->ns_per_byte = bandwidth_mb_s > 0 ? 1e3 / bandwidth_mb_s : 0;
    link->latency_ns = (int64_t)(latency_us * 1e3);
    link->free_at_ns = INT64_MIN;
}

int64_t cop_link_wait_ns(const cop_link *link, int64_t now_ns)
{
    return link->free_at_ns > now_ns ? link->free_at_ns - now_ns : 0;
}

int64_t cop_link_reserve(cop_link *link, int64_t now_ns, uint64_t bytes)
{
    int64_t start = now_ns + cop_link_wait_ns(link, now_ns);
    link->free_at_ns = start + (int64_t)((double)bytes * link->ns_per_byte);
    return link->free_at_ns + link->latency_ns;
}
