#!/usr/bin/env bash
# confluent-kafka and kafka-python against BOOTSTRAP.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
here="$(cd "$(dirname "$0")" && pwd)"; venv="$INTEROP_CACHE/python-venv"
if ! cmp -s "$here/requirements.txt" "$venv/.complete"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q -r "$here/requirements.txt" >"$INTEROP_CACHE/pip.log" 2>&1 || { tail -5 "$INTEROP_CACHE/pip.log"; echo "FAIL the Python clients are not in the cache and pip cannot fetch them"; exit 2; }
  cp "$here/requirements.txt" "$venv/.complete"
fi
export PYTHONDONTWRITEBYTECODE=1
for prog in confluent_checks kafka_python_checks; do
  timeout 420 "$venv/bin/python" "$here/$prog.py" >"$SCRATCH/$prog.log" 2>&1 || true
  grep -vE '^[0-9]+ passed' "$SCRATCH/$prog.log" | grep -E '^(ok|FAIL|     \|)' || true
  if ! grep -qE '^[0-9]+ passed' "$SCRATCH/$prog.log"; then echo "FAIL $prog was cut off or could not start"; tail -5 "$SCRATCH/$prog.log"; fi
  PASSED=$((PASSED + $(grep -c '^ok ' "$SCRATCH/$prog.log" || true)))
  FAILED=$((FAILED + $(grep -c '^FAIL ' "$SCRATCH/$prog.log" || true)))
  grep -qE '^[0-9]+ passed' "$SCRATCH/$prog.log" || FAILED=$((FAILED + 1))
done
finish
