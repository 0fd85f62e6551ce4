#!/usr/bin/env bash
# Our broker beside Apache Kafka under Apache's own performance tools, in turns; prints the tables of docs/benchmarks.md.
#   ROUNDS (default 3)  PARTS (default "tools latency start")  OUT (default target/bench/brokers.jsonl)
#   RECORDS_100, RECORDS_1K, E2E_RECORDS, ACKS, COMPRESSION, PARTITIONS narrow the grid of the tools (bench/jvm/broker.sh)
# Both acknowledge before they sync (durability=process, Kafka's default), both run on the same cores as their clients, one at a time
# is at work. Needs java 17 and mvn; everything else is fetched.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
out="${OUT:-$target/bench/brokers.jsonl}"
mkdir -p "$(dirname "$out")"
: >"$out"
for need in java mvn; do command -v "$need" >/dev/null || { echo "$need not found: the tools of Apache Kafka need java 17 and mvn" >&2; exit 1; }; done
cargo build --release -p bench -p cli
ours="$target/release/millstream"
work="$(mktemp -d)"
kafka_port="${KAFKA_PORT:-29092}" port="${PORT:-29292}"
export KAFKA_PORT="$kafka_port" KAFKA_DIR="$work/kafka" KAFKA_LIBS="${KAFKA_LIBS:-$target/bench/kafka-libs}" BENCH_BUILD_DIR="$target/bench/jvm"
broker=""
trap 'bench/kafka/broker.sh stop >/dev/null 2>&1 || true; [ -z "$broker" ] || kill "$broker" 2>/dev/null || true; wait || true; rm -rf "$work"' EXIT

tag() { sed "s/^{/{\"side\":\"$1\",\"round\":$2,/" | tee -a "$out"; }

start_ours() {
    "$ours" broker --listen "127.0.0.1:$port" --data "$work/ours" --set durability=process 2>"$work/ours.log" &
    broker=$!
    until grep -q serves "$work/ours.log"; do kill -0 "$broker" || { cat "$work/ours.log" >&2; exit 1; }; sleep 0.1; done
}

stop_ours() {
    kill "$broker"
    wait "$broker" 2>/dev/null || true
    broker=""
}

on() { # side command...: with the address and process of that broker
    case "$1" in
    kafka) BOOTSTRAP="127.0.0.1:$kafka_port" BROKER_PID="$(bench/kafka/broker.sh pid)" "${@:2}" ;;
    ours) BOOTSTRAP="127.0.0.1:$port" BROKER_PID="$broker" "${@:2}" ;;
    esac
}

# One cell at a time, so that both brokers are at work in the same minute.
tools() {
    for round in $(seq "${ROUNDS:-3}"); do
        for acks in ${ACKS:-1 all}; do for codec in ${COMPRESSION:-none lz4 zstd}; do for partitions in ${PARTITIONS:-1 4}; do
            for side in kafka ours; do
                ACKS="$acks" COMPRESSION="$codec" PARTITIONS="$partitions" on $side bench/jvm/broker.sh produce | tag $side "$round"
            done
        done; done; done
        for codec in ${COMPRESSION:-none lz4 zstd}; do for partitions in ${PARTITIONS:-1 4}; do
            for side in kafka ours; do
                COMPRESSION="$codec" PARTITIONS="$partitions" on $side bench/jvm/broker.sh consume | grep '"consume"' | tag $side "$round"
            done
        done; done
    done
}

latency() {
    for side in kafka ours; do on $side bash -c '"$0" topics create perf-latency --partitions 1 --bootstrap "$BOOTSTRAP"' "$ours" >&2; done
    for round in $(seq "${ROUNDS:-3}"); do
        for side in kafka ours; do
            on $side bash -c '"$0" perf latency perf-latency --json --bootstrap "$BOOTSTRAP"' "$ours" | tag $side "$round"
            on $side bench/jvm/broker.sh latency | tag $side "$round"
        done
    done
}

# Start, idle CPU and memory of one broker on the data that it has.
up() { # side label
    local app address="127.0.0.1:$port"
    case "$1" in
    kafka)
        address="127.0.0.1:$kafka_port"
        app="java -Xms1g -Xmx1g -cp '$KAFKA_LIBS/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka $KAFKA_DIR/server.properties"
        ;;
    ours) app="$ours broker --listen $address --data $work/ours --set durability=process" ;;
    esac
    bench/jvm/bench up --bootstrap "$address" --work "$work" --app "$app" | grep '"start and idle"' | sed "s/start and idle/$2/" | tag "$1" 1
}

# Topics of our broker, so that the next start finds them.
topics() { # topics partitions
    start_ours
    for topic in $(seq "$1"); do echo "idle-$2-$topic"; done | xargs -I{} "$ours" topics create {} --partitions "$2" --bootstrap "127.0.0.1:$port" >/dev/null
    stop_ours
}

start() {
    rm -rf "$work/ours"
    bench/kafka/broker.sh start # formats its directory
    kill "$(bench/kafka/broker.sh pid)"
    while kill -0 "$(bench/kafka/broker.sh pid)" 2>/dev/null; do sleep 0.2; done
    up kafka "empty"
    up ours "empty"
    topics 100 1
    up ours "100 topics"
    topics 10 990
    up ours "10,000 partitions"
}

for part in ${PARTS:-tools latency start}; do
    case "$part" in
    tools | latency)
        bench/kafka/broker.sh start
        start_ours
        "$part"
        bench/kafka/broker.sh stop
        stop_ours
        ;;
    start) start ;;
    *) echo "no part is called $part: tools, latency, start" >&2; exit 2 ;;
    esac
done
"$target/release/bench-brokers" "$out"
