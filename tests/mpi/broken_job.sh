#!/bin/sh
# A job in which one rank goes wrong must end by itself with an error, and leave no process.
#     broken_job.sh HOW mpirun FLAGS... broken_job
how=$1
shift
limit_s=40
log=$(mktemp)
trap 'rm -f "$log"' EXIT

timeout $limit_s "$@" "$how" >"$log" 2>&1
status=$?
fail() {
    cat "$log"
    echo "broken_job $how: $1"
    exit 1
}

[ $status -ne 124 ] || fail "still running after $limit_s s"
[ $status -ne 0 ] || fail "exit status 0 although a rank went wrong"
pids=$(sed -n 's/^pid //p' "$log")
[ "$(echo "$pids" | wc -w)" -ge 2 ] || fail "the ranks never started"
case $how in
abort) [ $status -eq 7 ] || fail "exit status $status instead of 7" ;;
self) grep -q "invariant broken: .*rank" "$log" || fail "no word of the transfer to itself" ;;
esac
# The launcher may leave its dead to init; only a process that still runs our program is alive.
alive() {
    case $(readlink "/proc/$1/exe" 2>/dev/null) in
    */broken_job) return 0 ;;
    esac
    return 1
}
for pid in $pids; do
    tries=0
    while alive "$pid"; do
        tries=$((tries + 1))
        if [ $tries -gt 50 ]; then
            kill -9 "$pid"
            fail "process $pid was left behind"
        fi
        sleep 0.1
    done
done
echo "broken_job $how: exit status $status"
