/* Tests of the fake NCCL, run by test_fakes.cpp: each takes a cmocka state it doesn't use. */
#ifndef COP_TEST_FAKES_H
#define COP_TEST_FAKES_H

void nccl_exchanges(void **);
void nccl_all_to_all(void **);
void nccl_keeps_order(void **);
void nccl_follows_streams(void **);
void nccl_sends_without_receives_wait(void **);
void nccl_sees_death(void **);
void nccl_lets_peers_leave(void **);
void nccl_refuses_duplicates(void **);
void nccl_stalls_on_request(void **);
void nccl_aborts_on_mismatch(void **);
void nccl_joins_threads(void **);
void nccl_without_blocking(void **);
void nccl_refuses_misuse(void **);
void nccl_in_graphs(void **);

#endif
