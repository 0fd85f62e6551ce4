#!/usr/bin/env bash
# A single-node Apache Kafka to compare with, from its jars on Maven: broker.sh start|stop|pid|libs
#   KAFKA_PORT (default 29092; the controller listens on the next port)   KAFKA_DIR (data, log, pid; default target/bench/kafka)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
port="${KAFKA_PORT:-29092}"
dir="${KAFKA_DIR:-$here/../../target/bench/kafka}"
libs="${KAFKA_LIBS:-$here/../../target/bench/kafka-libs}"
mkdir -p "$dir"

fetch() {
    [ -f "$libs/.complete" ] && return 0
    command -v mvn >/dev/null || { echo "mvn not found: install Maven to fetch Apache Kafka" >&2; exit 1; }
    echo "fetching Apache Kafka 4.3.1 from Maven" >&2
    mkdir -p "$libs"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >&2
    touch "$libs/.complete"
}

running() { [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

start() {
    running && return 0
    fetch
    cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/logs
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
P
    [ -f "$dir/logs/meta.properties" ] ||
        java -cp "$libs/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$dir/server.properties" >"$dir/format.log" 2>&1
    nohup java -Xms1g -Xmx1g -cp "$libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka "$dir/server.properties" >"$dir/out.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 120); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
        running || break
        sleep 0.5
    done
    tail -5 "$dir/out.log" >&2
    echo "Apache Kafka did not come up on port $port; its output is in $dir/out.log" >&2
    exit 1
}

case "${1:-}" in
start) start ;;
stop) running && kill "$(cat "$dir/pid")" && while running; do sleep 0.2; done; rm -rf "$dir/pid" "$dir/logs" ;;
pid) cat "$dir/pid" ;;
libs) fetch; echo "$libs" ;;
*) sed -n '2,3p' "$0"; exit 2 ;;
esac
