#!/usr/bin/env bash
# confluent-kafka and kafka-python against BOOTSTRAP.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
here="$(cd "$(dirname "$0")" && pwd)"
need_python_clients
for prog in confluent_checks kafka_python_checks; do
  timeout 420 "$PYTHON" "$here/$prog.py" >"$SCRATCH/$prog.log" 2>&1 || true
  grep -vE '^[0-9]+ passed' "$SCRATCH/$prog.log" | grep -E '^(ok|FAIL|     \|)' || true
  if ! grep -qE '^[0-9]+ passed' "$SCRATCH/$prog.log"; then echo "FAIL $prog was cut off or could not start"; tail -5 "$SCRATCH/$prog.log"; fi
  PASSED=$((PASSED + $(grep -c '^ok ' "$SCRATCH/$prog.log" || true)))
  FAILED=$((FAILED + $(grep -c '^FAIL ' "$SCRATCH/$prog.log" || true)))
  grep -qE '^[0-9]+ passed' "$SCRATCH/$prog.log" || FAILED=$((FAILED + 1))
done
finish
