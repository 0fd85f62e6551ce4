#!/usr/bin/env bash
# The comparison of docs/benchmarks.md: our bench-streams and Kafka Streams on the JVM under one driver, alternating.
#   ROUNDS (default 3)  WORKLOADS (default all)  OUT (default target/bench/results.jsonl)
# Each round runs every variant once; the table shows medians. Needs java 17 and mvn; everything else is fetched.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
out="${OUT:-$target/bench/results.jsonl}"
mkdir -p "$(dirname "$out")"
: >"$out"
for need in java mvn; do command -v "$need" >/dev/null || { echo "$need not found: the JVM side needs java 17 and mvn" >&2; exit 1; }; done
cargo build --release -p bench -p cli
port="${KAFKA_PORT:-29092}"
export BOOTSTRAP="127.0.0.1:$port" KAFKA_PORT="$port" KAFKA_DIR="$target/bench/kafka" KAFKA_LIBS="$target/bench/kafka-libs" BENCH_BUILD_DIR="$target/bench/jvm"
bench/kafka/broker.sh start
trap 'bench/kafka/broker.sh stop' EXIT
pid="$(bench/kafka/broker.sh pid)"
ours="$target/release/bench-streams"
work="$target/bench/work"
tuned='producer.linger.ms=50;producer.batch.size=262144;producer.compression.type=lz4;consumer.max.partition.fetch.bytes=8388608;consumer.max.poll.records=5000;buffered.records.per.partition=5000;statestore.cache.max.bytes=104857600'

# The most memory that Apache Kafka has had so far, in MB: the half of the JVM's memory that the driver does not see.
broker_rss_mb() { awk '/VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$pid/status"; }

one() { # side label workload n extra-options...
    local side="$1" label="$2" workload="$3" n="$4"
    shift 4
    bench/jvm/bench run --workload "$workload" --n "$n" --runs 1 --label "$side/$label" --work "$work" "$@" |
        grep '"what":"run 1"' | sed "s/}\$/,\"broker_rss_mb\":$(broker_rss_mb)}/" | tee -a "$out" | sed -E 's/.*"variant":"([^"]*)".*"records":([0-9]+).*"app_cpu_s_per_M":([0-9.]+).*"peak_rss_mb":([0-9.]+).*"broker_cpu_s_per_M":([0-9.]+).*"check":"([^"]*)".*/  \1 n=\2: \3 CPU s\/M app, \5 broker, \4 MB, check \6/'
}

sizes() {
    case "$1" in
    wordcount | fkjoin) echo "200000 600000" ;;
    hopping-60) echo "100000 300000" ;;
    streamjoin) echo "300000 900000" ;;
    enrich | sessions) echo "1000000 3000000" ;;
    *) echo "2000000 6000000" ;;
    esac
}

# Record caches to compare with. fkjoin's work is fixed only without one; passthrough and streamjoin have nothing that is cached.
caches() {
    case "$1" in
    fkjoin) echo 0 ;;
    passthrough | streamjoin | enrich | hopping-60) echo default ;;
    *) echo "default 0" ;;
    esac
}

for round in $(seq "${ROUNDS:-3}"); do
    for workload in ${WORKLOADS:-wordcount clicks passthrough enrich streamjoin sessions fkjoin hopping-60}; do
        echo "round $round: $workload" >&2
        for n in $(sizes "$workload"); do
            for cache in $(caches "$workload"); do
                one jvm "default-cache-$cache" "$workload" "$n" --cache "$cache" --broker-pid "$pid"
                one ours-embedded "cache-$cache" "$workload" "$n" --cache "$cache" --app "$ours" --embedded 1
                one ours-kafka "cache-$cache" "$workload" "$n" --cache "$cache" --app "$ours" --broker-pid "$pid"
            done
            case "$workload" in fkjoin | hopping-60) continue ;; esac
            # What it costs to sync before a write counts; Kafka's own default does not.
            BENCH_DURABILITY=power one ours-embedded-power cache-default "$workload" "$n" --cache default --app "$ours" --embedded 1
            one jvm tuned "$workload" "$n" --broker-pid "$pid" --extra "$tuned" --app-java-opts "-Xms1g -Xmx1g -XX:+UseParallelGC"
        done
    done
done
"$target/release/bench-report" "$out"
