#!/usr/bin/env bash
# Brokers of its own (MILLSTREAM: the program), killed KILLS times (default 50) under clients of librdkafka.
set -euo pipefail
: "${MILLSTREAM:?this suite starts and kills brokers itself: set MILLSTREAM to the millstream program}"
# No broker but its own is looked at.
BOOTSTRAP="${BOOTSTRAP:-127.0.0.1:0}" NO_PROBE=1
source "$(dirname "$0")/../lib.sh"
need_python_clients
exec "$PYTHON" "$(dirname "$0")/kills.py" "$MILLSTREAM" "${KILLS:-50}"
