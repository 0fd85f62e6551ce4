#!/usr/bin/env bash
# Lets Apache Kafka's own log dump tool judge the files that our log writes: every batch valid, every record readable,
# indexes, transaction indexes and producer snapshots in agreement with the batches.
#
#   KAFKA_LIBS=FOLDER storage/tests/kafka-dump.sh [DATA-DIRECTORY]
#
# KAFKA_LIBS holds the jars of an Apache Kafka 4.x release (its `libs`). Without a data directory one is written by
# `examples/write_log.rs`, with all codecs, transactions, several segments and compacted partitions. Without java or
# jars nothing is checked, and the last line says so (exit code 0; 1 for a finding).
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "kafka-dump: skipped: $*"; exit 0; }
command -v java >/dev/null || skip "no java"
libs="${KAFKA_LIBS:-}"
[ -z "$libs" ] && [ -n "${INTEROP_CACHE:-}" ] && libs="$(find "$INTEROP_CACHE" -maxdepth 1 -type d -name 'kafka-[0-9]*' | sort | tail -1)"
[ -n "$libs" ] && [ -n "$(find "$libs" -maxdepth 1 -name 'kafka-clients-*.jar' | head -1)" ] || skip "KAFKA_LIBS does not name a folder with Kafka's jars"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
data="${1:-}"
if [ -z "$data" ]; then
  data="$scratch/data"
  cargo run --quiet --release -p storage --no-default-features --example write_log -- "$data"
fi

dump() {
  java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
    -cp "$libs/*" org.apache.kafka.tools.DumpLogSegments "$@" 2>&1
}
failed=0
complain() { echo "kafka-dump: $1"; failed=1; }
batches=0 files_total=0
for folder in "$data"/*-[0-9]*/; do
  mapfile -t files < <(find "$folder" -maxdepth 1 -type f \( -name '*.log' -o -name '*index' -o -name '*.snapshot' \) | sort)
  mapfile -t indexes < <(find "$folder" -maxdepth 1 -type f \( -name '*.index' -o -name '*.timeindex' \) | sort)
  [ "${#files[@]}" -gt 0 ] || continue
  join() { local IFS=,; echo "$*"; }
  name="$(basename "$folder")"
  dump --deep-iteration --print-data-log --files "$(join "${files[@]}")" >"$scratch/$name" || complain "$name: the tool failed"
  dump --index-sanity-check --files "$(join "${indexes[@]}")" >"$scratch/$name.sane" || complain "$name: the tool failed"
  bad="$(grep -aE 'isvalid: false|Exception|ismatch|out of order|Found |invalid|not found|corrupt' "$scratch/$name" | head -5 || true)"
  [ -z "$bad" ] || { complain "$name:"; echo "$bad"; }
  [ "$(grep -cE 'passed sanity check|is empty' "$scratch/$name.sane")" = "${#indexes[@]}" ] || { complain "$name: an index is not sane"; cat "$scratch/$name.sane"; }
  count="$(grep -ac 'isvalid: true' "$scratch/$name" || true)"
  echo "$name: ${#files[@]} files, $count batches valid, $(grep -acE '^\| offset' "$scratch/$name" || true) records"
  batches=$((batches + count)) files_total=$((files_total + ${#files[@]}))
done
for codec in none gzip snappy lz4 zstd; do
  [ -n "${1:-}" ] || grep -qa "compresscodec: $codec" "$scratch"/*-0 || complain "no batch of codec $codec"
done
[ "$batches" -gt 0 ] || complain "no batches in $data"
[ "$failed" = 0 ] && echo "kafka-dump: $files_total files, $batches batches, all valid"
exit "$failed"
