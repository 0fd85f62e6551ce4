#!/usr/bin/env bash
# Kafka clients written by others against our broker: run.sh [all | SUITE...]      (README.md says what each suite does)
#   BOOTSTRAP=HOST:PORT   test that broker instead of starting `millstream broker`
#   ONLY=REGEX SKIP=REGEX only the checks whose names match, all but them
#   INTEROP_CACHE=DIR     packages and builds, kept over runs (default ~/.cache/millstream/interop); complete, no network is needed
#   INTEROP_RUNS=DIR      where each run leaves its table and logs (default $INTEROP_CACHE/runs)
#   KAFKA_LIBS=DIR        Apache Kafka's jars, if they are there already; fetched with Maven otherwise
#   SUITE_TIMEOUT=SECONDS bounds each suite (default 900)      TABLE_ONLY=1   prints failed checks and the table only
# Exit code 0 only if every suite ran and no check failed.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$here/../.."
export INTEROP_CACHE="${INTEROP_CACHE:-${HOME:-/tmp}/.cache/millstream/interop}"
run="${INTEROP_RUNS:-$INTEROP_CACHE/runs}/$(date -u +%Y%m%d-%H%M%S)-$$"
all="kcat kafka-tools java-clients java-streams python node go hostile kills"
broker_pid="" data=""

finish() {
    if [ -n "$broker_pid" ]; then
        kill "$broker_pid" 2>/dev/null || true
        wait "$broker_pid" 2>/dev/null || true
    fi
    [ -z "$data" ] || rm -rf "$data"
}
trap finish EXIT

# What SUITE needs and this machine has not, one a line.
missing() {
    local program
    case "$1" in
    kcat) [ "$(id -u)" = 0 ] || command -v kcat >/dev/null || echo "kcat, or root to install it (Debian: apt-get install kcat)" ;;
    kafka-tools | java-*)
        for program in java javac; do command -v "$program" >/dev/null || echo "$program: a JDK, 17 or later"; done
        [ -n "${KAFKA_LIBS:-}" ] || [ -f "$INTEROP_CACHE/kafka-4.3.1/.complete" ] || command -v mvn >/dev/null ||
            echo "mvn (Maven) to fetch Apache Kafka's jars, or KAFKA_LIBS=DIR with them" ;;
    node) for program in node npm; do command -v "$program" >/dev/null || echo "$program: Node.js, 18 or later"; done ;;
    go) for program in go gcc; do command -v "$program" >/dev/null || echo "$program: Go 1.24 or later, with a C compiler"; done ;;
    esac
    case "$1" in kcat | python | hostile | kills) command -v python3 >/dev/null || echo "python3" ;; esac
    case "$1" in kills) [ -n "${MILLSTREAM:-}" ] || echo "MILLSTREAM, the program whose brokers it kills" ;; esac
    case "$1" in python | kills) python3 -c 'import venv, ensurepip' 2>/dev/null || echo "python3's venv (Debian: apt-get install python3-venv)" ;; esac
}

start_broker() {
    if [ -z "${MILLSTREAM:-}" ]; then
        (cd "$root" && . xtask/setup.sh && cargo build --release -p cli)
        MILLSTREAM="${CARGO_TARGET_DIR:-$root/target}/release/millstream"
    fi
    export MILLSTREAM
    data="$(mktemp -d -t millstream-interop.XXXXXX)"
    "$MILLSTREAM" broker --listen 127.0.0.1:0 --data "$data" --config "$here/broker.properties" --set durability=process 2>"$run/broker.log" &
    broker_pid=$!
    for _ in $(seq 100); do
        grep -q ' serves ' "$run/broker.log" && break
        kill -0 "$broker_pid" 2>/dev/null || break
        sleep 0.1
    done
    BOOTSTRAP="$(sed -nE 's/.* serves ([^ ]+).*/\1/p' "$run/broker.log" | head -1)"
    [ -n "$BOOTSTRAP" ] || { echo "the broker did not start:"; cat "$run/broker.log"; exit 1; }
    export LOG_FOLDER="$data"
}

# Runs SUITE and appends its line to the table: suite, passed, failed, seconds.
run_suite() {
    local suite="$1" log="$run/$1.log" start=$SECONDS status=0 passed failed last lacks
    lacks="$(missing "$suite")"
    if [ -n "$lacks" ]; then
        sed "s/^/FAIL $suite cannot run here, it needs /" <<<"$lacks" | tee "$log"
        printf '%s\t0\t1\t0\n' "$suite" >>"$run/table.tsv"
        return
    fi
    echo "== $suite"
    if [ -n "${TABLE_ONLY:-}" ]; then
        timeout -k 10 "${SUITE_TIMEOUT:-900}" bash "$here/$suite/run.sh" >"$log" 2>&1 || status=$?
        grep -aE '^(FAIL|     \|)' "$log" || true
    else
        timeout -k 10 "${SUITE_TIMEOUT:-900}" bash "$here/$suite/run.sh" 2>&1 | tee "$log" || status=$?
    fi
    last="$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -1 || true)"
    if [[ "$last" =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
        passed=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]}
    else # cut off, or it could not start: what was printed counts, and the suite itself has failed
        passed=$(grep -ac '^ok ' "$log" || true)
        failed=$(($(grep -ac '^FAIL ' "$log" || true) + 1))
        echo "FAIL $suite was cut off or could not start:"; tail -5 "$log"
    fi
    [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
    printf '%s\t%s\t%s\t%s\n' "$suite" "$passed" "$failed" $((SECONDS - start)) >>"$run/table.tsv"
}

suites=("$@")
# A broker that is there already is not ours to kill.
[ -z "${BOOTSTRAP:-}" ] || all="${all% kills}"
[ $# -gt 0 ] && [ "$1" != all ] || read -ra suites <<<"$all"
for suite in "${suites[@]}"; do
    [ -f "$here/$suite/run.sh" ] || { echo "there is no suite $suite: all $all" >&2; exit 2; }
done
mkdir -p "$run"
[ -n "${BOOTSTRAP:-}" ] || start_broker
export BOOTSTRAP
for suite in "${suites[@]}"; do run_suite "$suite"; done
if [ -n "$broker_pid" ] && ! kill -0 "$broker_pid" 2>/dev/null; then
    printf 'broker\t0\t1\t0\n' >>"$run/table.tsv"
    echo "FAIL the broker ended:"; tail -20 "$run/broker.log"
fi
echo
awk -F'\t' 'BEGIN { printf "%-14s %8s %8s %8s\n", "suite", "passed", "failed", "seconds" }
    { printf "%-14s %8d %8d %8d\n", $1, $2, $3, $4; p += $2; f += $3; s += $4 }
    END { printf "%-14s %8d %8d %8d\n", "all", p, f, s; exit !(f == 0 && p > 0) }' "$run/table.tsv" | tee "$run/table.txt"
echo "table and logs: $run"
