#!/usr/bin/env bash
# Go clients against BOOTSTRAP: segmentio/kafka-go, and confluent-kafka-go where cgo builds (GO_CLIENTS to choose).
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
here="$(cd "$(dirname "$0")" && pwd)"; mkdir -p "$INTEROP_CACHE/go"
for c in ${GO_CLIENTS:-kafkago confluent}; do
  sources="$(cat "$here/$c/main.go" "$here/$c/go.mod" "$here/$c/go.sum" | sha1sum)" # of what the build in the cache is
  if ! { [ -x "$INTEROP_CACHE/go/$c" ] && [ "$(cat "$INTEROP_CACHE/go/$c.sources" 2>/dev/null)" = "$sources" ]; } &&
    ! { (cd "$here/$c" && go build -o "$INTEROP_CACHE/go/$c" .) >"$INTEROP_CACHE/go-$c.log" 2>&1 && echo "$sources" >"$INTEROP_CACHE/go/$c.sources"; }; then
    echo "FAIL $c does not build (its modules come over the network, once)"; tail -5 "$INTEROP_CACHE/go-$c.log"; FAILED=$((FAILED + 1)); continue
  fi
  timeout 400 "$INTEROP_CACHE/go/$c" >"$SCRATCH/$c.log" 2>&1 || true
  grep -E '^(ok|FAIL|panic)' "$SCRATCH/$c.log" || true
  PASSED=$((PASSED + $(grep -c '^ok ' "$SCRATCH/$c.log" || true)))
  FAILED=$((FAILED + $(grep -c '^FAIL ' "$SCRATCH/$c.log" || true)))
  grep -qE '^[0-9]+ passed' "$SCRATCH/$c.log" || { echo "FAIL $c was cut off"; tail -5 "$SCRATCH/$c.log"; FAILED=$((FAILED + 1)); }
done
finish
