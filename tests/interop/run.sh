#!/usr/bin/env bash
# Clients written by others against our broker: kcat (librdkafka), Apache Kafka's console clients and tools.
#   tests/interop/run.sh [kcat] [tools]     default: both
#   BOOTSTRAP=HOST:PORT   test that broker instead of starting `millstream broker`
#   ONLY=REGEX            only the checks whose names match
#   KAFKA_LIBS=DIR        Apache Kafka's jars, if they are there already; fetched with Maven otherwise
# Needs kcat for the first, Java 17 (and Maven, the first time) for the second; what is missing is a failure.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$here/../.."
only="${ONLY:-.}"
limit="${CHECK_TIMEOUT:-180}"
scratch="$(mktemp -d -t millstream-interop.XXXXXX)"
broker_pid=""
passed=0 failed=0

finish() {
    if [ -n "$broker_pid" ]; then
        kill "$broker_pid" 2>/dev/null || true
        wait "$broker_pid" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT

# A topic name that no other run has.
fresh() { printf 'interop-%s-%s%s' "$1" "$(date +%s)" "$RANDOM"; }
equal() { [ "$1" = "$2" ] || { echo "expected [$2], got [$1]"; return 1; }; }
has() { grep -qE -- "$2" <<<"$1" || { echo "no match for /$2/ in:"; head -30 <<<"$1"; return 1; }; }
hasnt() { ! grep -qE -- "$2" <<<"$1" || { echo "unexpected match for /$2/ in:"; head -30 <<<"$1"; return 1; }; }
# within SECONDS COMMAND...: until it succeeds
within() { local end=$((SECONDS + $1)); shift; until "$@"; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 0.3; done; }

# check NAME COMMAND...: in a process of its own, bounded in time, with errexit live.
check() {
    local name="$1" start=$SECONDS status=0
    shift
    [[ "$name" =~ $only ]] || return 0
    timeout -k 5 "$limit" bash -c 'set -euo pipefail; source "$1"; shift; "$@"' _ "$scratch/functions" "$@" \
        >"$scratch/out" 2>&1 </dev/null || status=$?
    if [ "$status" = 0 ]; then
        passed=$((passed + 1)); echo "ok    $name ($((SECONDS - start)) s)"
    else
        failed=$((failed + 1)); echo "FAIL  $name (exit $status, $((SECONDS - start)) s)"
        tail -n 25 "$scratch/out" | cut -c1-300 | sed 's/^/      | /'
    fi
}

start_broker() {
    (cd "$root" && . xtask/setup.sh && cargo build --release -p cli)
    local target="${CARGO_TARGET_DIR:-$root/target}"
    "$target/release/millstream" broker --listen 127.0.0.1:0 --data "$scratch/data" --set durability=process \
        --set log.cleaner.backoff.ms=500 --set log.retention.check.interval.ms=1000 2>"$scratch/broker.log" &
    broker_pid=$!
    within 20 grep -q ' serves ' "$scratch/broker.log" || { cat "$scratch/broker.log"; exit 1; }
    BOOTSTRAP="$(sed -nE 's/.* serves ([^ ]+) from .*/\1/p' "$scratch/broker.log" | head -1)"
}

suites=("$@")
[ $# -gt 0 ] || suites=(kcat tools)
for suite in "${suites[@]}"; do
    [ -f "$here/$suite.sh" ] || { echo "no suite $suite here: kcat, tools" >&2; exit 2; }
done
[ -n "${BOOTSTRAP:-}" ] || start_broker
export BOOTSTRAP scratch
for suite in "${suites[@]}"; do
    echo "== $suite against $BOOTSTRAP"
    source "$here/$suite.sh"
    declare -f >"$scratch/functions"
    run_suite
done
if [ -n "$broker_pid" ] && ! kill -0 "$broker_pid" 2>/dev/null; then
    failed=$((failed + 1)); echo "FAIL  the broker ended:"; tail -20 "$scratch/broker.log"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
