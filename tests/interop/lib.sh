# Shared functions of the interop suites. Source it; do not run it.
#
# Environment (all optional but BOOTSTRAP):
#   BOOTSTRAP      host:port of the broker under test (required)
#   INTEROP_CACHE  where packages and builds are kept (default: $HOME/.cache/millstream/interop)
#   ONLY           extended regex; only checks whose name matches are run
#   SKIP           extended regex; checks whose name matches are left out (SKIP='^x_': see README.md)
#   CHECK_TIMEOUT  seconds one shell check may take (default 60)
#   VERBOSE=1      print the output of passing checks too

: "${BOOTSTRAP:?set BOOTSTRAP=host:port of the broker under test}"
INTEROP_CACHE="${INTEROP_CACHE:-${HOME:-/tmp}/.cache/millstream/interop}"
CHECK_TIMEOUT="${CHECK_TIMEOUT:-60}"
ONLY="${ONLY:-.}"
SKIP="${SKIP:-^$}"
mkdir -p "$INTEROP_CACHE"
export BOOTSTRAP INTEROP_CACHE ONLY SKIP
INTEROP_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

KAFKA_VERSION=4.3.1

# Nothing listens there: say so at once rather than wait in every check (NO_PROBE=1: go on all the same)
if [ -z "${NO_PROBE:-}" ] && ! (exec 3<>"/dev/tcp/${BOOTSTRAP%:*}/${BOOTSTRAP##*:}") 2>/dev/null; then
  echo "FAIL nothing accepts connections at $BOOTSTRAP"; echo "0 passed, 1 failed"; exit 1
fi

PASSED=0 FAILED=0
SCRATCH="$(mktemp -d -t interop.XXXXXX)"
KIDS=()
cleanup() {
  local p
  for p in "${KIDS[@]:-}"; do [ -n "$p" ] && kill -9 "$p" 2>/dev/null || true; done
  rm -rf "$SCRATCH"
}
trap cleanup EXIT

# A name that no other run uses: uniq TAG
uniq() { printf 'it-%s-%s%s' "$1" "$(date +%s | tail -c 6)" "$RANDOM"; }

# check NAME FUNCTION [ARGS...]: runs the function in a subshell with `set -e`, bounded in time.
check() {
  local name="$1"; shift
  [[ "$name" =~ $ONLY ]] && ! [[ "$name" =~ $SKIP ]] || return 0
  local out="$SCRATCH/check.out" t0=$SECONDS rc=0 pid guard
  # errexit must be live inside, so the subshell is not the operand of if / || / &&
  set +e
  ( set -euo pipefail; trap - EXIT; KIDS=(); "$@" ) >"$out" 2>&1 </dev/null &
  pid=$!
  ( trap - EXIT; sleep "$CHECK_TIMEOUT"; echo "check ran past ${CHECK_TIMEOUT}s" >>"$out"; kill_tree "$pid" ) >/dev/null 2>&1 </dev/null &
  guard=$!
  wait "$pid" 2>/dev/null; rc=$?
  kill_tree "$guard" 2>/dev/null; wait "$guard" 2>/dev/null
  set -e
  if [ "$rc" = 0 ]; then
    PASSED=$((PASSED + 1)); echo "ok   $name ($((SECONDS - t0))s)"
    [ -z "${VERBOSE:-}" ] || sed 's/^/     | /' "$out"
  else
    FAILED=$((FAILED + 1)); echo "FAIL $name (exit $rc, $((SECONDS - t0))s)"
    tail -n 25 "$out" | cut -c1-400 | sed 's/^/     | /'
  fi
}

# Ends a process of ours and all that descend from it.
kill_tree() {
  local p="$1" c
  for c in $(cat "/proc/$p/task/"*/children 2>/dev/null); do kill_tree "$c"; done
  kill -9 "$p" 2>/dev/null || true
}

finish() {
  echo "$PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ]
}

# Little assertions for checks
eq() { [ "$1" = "$2" ] || { echo "expected [$2], got [$1]${3:+: $3}"; return 1; }; }
has() { grep -qE -- "$2" <<<"$1" || { echo "no match for /$2/ in:"; echo "$1" | head -40; return 1; }; }
hasnt() { ! grep -qE -- "$2" <<<"$1" || { echo "unexpected match for /$2/ in:"; echo "$1" | head -40; return 1; }; }
# retry SECONDS COMMAND...: until it succeeds
retry() { local until=$((SECONDS + $1)); shift; until "$@"; do [ "$SECONDS" -lt "$until" ] || return 1; sleep 0.5; done; }

# Debian package, if the program is not there: need_deb PROGRAM PACKAGE...
need_deb() {
  local prog="$1"; shift
  command -v "$prog" >/dev/null && return 0
  { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } >"$INTEROP_CACHE/apt-$prog.log" 2>&1 ||
    { echo "FAIL $prog is missing and $* cannot be installed; see $INTEROP_CACHE/apt-$prog.log"; exit 2; }
}

# Apache Kafka's jars (clients, streams, tools, broker) from Maven, once: sets KAFKA_CP.
# KAFKA_LIBS may name a folder that holds them already.
need_kafka_jars() {
  if [ -n "${KAFKA_LIBS:-}" ]; then KAFKA_CP="$KAFKA_LIBS/*"; export KAFKA_CP; return 0; fi
  local dir="$INTEROP_CACHE/kafka-$KAFKA_VERSION"
  if [ ! -f "$dir/.complete" ]; then
    KAFKA_LIBS="$dir" "$INTEROP_ROOT/../../bench/kafka/broker.sh" libs >"$INTEROP_CACHE/mvn.log" 2>&1 ||
      { tail -5 "$INTEROP_CACHE/mvn.log"; echo "FAIL Apache Kafka's jars are not in $dir and Maven cannot fetch them"; exit 2; }
  fi
  KAFKA_CP="$dir/*"; export KAFKA_CP
}
JAVA_LOG="-Dorg.slf4j.simpleLogger.defaultLogLevel=${JAVA_LOG_LEVEL:-error} -Dkafka.logger.level=ERROR"
# Short-lived JVMs start faster so
JAVA_FAST="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Xmx512m"

# The Python clients of python/requirements.txt, in a venv of their own: sets PYTHON.
need_python_clients() {
  local venv="$INTEROP_CACHE/python-venv" wanted="$INTEROP_ROOT/python/requirements.txt"
  if ! cmp -s "$wanted" "$venv/.complete"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -r "$wanted" >"$INTEROP_CACHE/pip.log" 2>&1 || { tail -5 "$INTEROP_CACHE/pip.log"; echo "FAIL the Python clients are not in the cache and pip cannot fetch them"; exit 2; }
    cp "$wanted" "$venv/.complete"
  fi
  export PYTHONDONTWRITEBYTECODE=1
  PYTHON="$venv/bin/python"
}
