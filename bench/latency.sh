#!/usr/bin/env bash
# Latency at a fixed rate through our broker as a process of its own: the clicks program, and the broker with nothing behind it.
#   RATE (default 50000 records/s)  ROUNDS (default 3)  WORKLOADS (default "none clicks")  DURABILITY (default process)
# Sender and reader are the JVM driver's. One line a run, and a median at the end. Needs java 17 and mvn.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
port="${PORT:-29192}"
work="$(mktemp -d)"
for need in java mvn; do command -v "$need" >/dev/null || { echo "$need not found: the sender and reader need java 17 and mvn" >&2; exit 1; }; done
cargo build --release -p bench -p cli
export BENCH_BUILD_DIR="$target/bench/jvm" BOOTSTRAP="127.0.0.1:$port"
"$target/release/millstream" broker --listen "$BOOTSTRAP" --data "$work/broker" --set durability="${DURABILITY:-process}" 2>"$work/broker.log" &
broker=$!
trap 'kill $broker; wait $broker 2>/dev/null || true; rm -rf "$work"' EXIT
until grep -q serves "$work/broker.log"; do kill -0 $broker || { cat "$work/broker.log" >&2; exit 1; }; sleep 0.1; done
for round in $(seq "${ROUNDS:-3}"); do
    for workload in ${WORKLOADS:-none clicks}; do
        bench/jvm/bench lat --workload "$workload" --rate "${RATE:-50000}" --cache 0 --warmup 5 --broker-pid $broker --work "$work/app" \
            --label "round$round" --app "$target/release/bench-streams" | tee -a "$work/results"
    done
done
for workload in ${WORKLOADS:-none clicks}; do
    for figure in p50_ms p99_ms p99.9_ms pmax_ms; do
        grep "\"latency-$workload\"" "$work/results" | sed -nE "s/.*\"$figure\":([0-9.]+).*/\1/p" | sort -n |
            awk -v w="$workload" -v f="$figure" '{ v[NR] = $1 } END { if (NR) print w, f, "median", v[int((NR + 1) / 2)] }'
    done
done
