#!/usr/bin/env bash
# Moves applications between Kafka Streams on the JVM and Millstream in place, on Apache Kafka: word count, windowed count, foreign-key join.
#   BOOTSTRAP=HOST:PORT   a broker that is there already      KAFKA_LIBS=DIR   Apache Kafka's jars, if they are there; else fetched with Maven
# Needs a JDK 17 and, the first time, Maven.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$here/../.."
for need in java javac; do command -v "$need" >/dev/null || { echo "$need not found: install a JDK 17" >&2; exit 1; }; done
target="${CARGO_TARGET_DIR:-$root/target}"
export KAFKA_PORT="${KAFKA_PORT:-29192}" KAFKA_DIR="$target/migration/kafka" KAFKA_LIBS="${KAFKA_LIBS:-$target/bench/kafka-libs}"
scratch="$target/migration/work"
rm -rf "$scratch"
mkdir -p "$scratch/classes"
(cd "$root" && . xtask/setup.sh && cargo build --release -p migration)
libs="$("$root/bench/kafka/broker.sh" libs)"
javac -cp "$libs/*" -d "$scratch/classes" "$here/jvm/Migration.java"
if [ -z "${BOOTSTRAP:-}" ]; then
    "$root/bench/kafka/broker.sh" start
    trap '"$root/bench/kafka/broker.sh" stop' EXIT
    BOOTSTRAP="127.0.0.1:$KAFKA_PORT"
fi
"$target/release/migration" check --bootstrap "$BOOTSTRAP" --class-path "$scratch/classes:$libs/*" --state "$scratch/state"
