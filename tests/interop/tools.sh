# Checks with Apache Kafka's console clients and tools; sourced by run.sh.

tool() {
    local status=0
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$KAFKA_LIBS/*" \
        "$@" --bootstrap-server "$BOOTSTRAP" 2>&1 || status=$?
    return "$status"
}
topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell "$@"; }
produce() { tool org.apache.kafka.tools.ConsoleProducer --topic "$@"; }
consume() { # TOPIC COUNT
    local topic="$1" count="$2"; shift 2
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$topic" --from-beginning --max-messages "$count" --timeout-ms 20000 "$@" |
        grep -vE '^(Processed a total|The consumer rebalance protocol|WARNING)'
}
make_topic() { topics --create --topic "$@" >/dev/null; }

tools_versions() {
    local said; said="$(tool org.apache.kafka.tools.BrokerApiVersionsCommand)"
    has "$said" 'Produce\(0\): .*usable: [0-9]+'; has "$said" 'OffsetCommit\(8\): .*usable: [0-9]+'
}
tools_topics() {
    local topic said; topic=$(fresh topic)
    has "$(topics --create --topic "$topic" --partitions 3 --config retention.ms=123456)" "Created topic $topic"
    said="$(topics --describe --topic "$topic")"; has "$said" 'PartitionCount: 3'; has "$said" 'retention.ms=123456'
    topics --alter --topic "$topic" --partitions 5; has "$(topics --describe --topic "$topic")" 'PartitionCount: 5'
    has "$(topics --create --topic "$topic" || true)" 'already exists'
    topics --delete --topic "$topic"
    gone() { ! topics --list | grep -qx "$topic"; }; within 20 gone
}
tools_console() {
    local topic codec; topic=$(fresh console); make_topic "$topic"
    for codec in gzip snappy lz4 zstd; do seq -f "$codec-%g" 50 | produce "$topic" --compression-codec "$codec"; done
    equal "$(consume "$topic" 200 | sha1sum)" "$(for codec in gzip snappy lz4 zstd; do seq -f "$codec-%g" 50; done | sha1sum)"
}
tools_keys_and_headers() {
    local topic; topic=$(fresh keys); make_topic "$topic"
    printf 'h1:a,h2:b\tk1\tv1\n' | produce "$topic" --reader-property parse.headers=true --reader-property parse.key=true
    has "$(consume "$topic" 1 --formatter-property print.key=true --formatter-property print.headers=true --formatter-property print.offset=true)" \
        'Offset:0.h1:a,h2:b.k1.v1'
}
tools_configs() {
    local topic; topic=$(fresh configs); make_topic "$topic"
    configs --alter --entity-type topics --entity-name "$topic" --add-config retention.ms=7777,max.message.bytes=5000
    has "$(configs --describe --entity-type topics --entity-name "$topic")" 'retention.ms=7777'
    configs --alter --entity-type topics --entity-name "$topic" --delete-config retention.ms
    hasnt "$(configs --describe --entity-type topics --entity-name "$topic")" 'retention.ms=7777'
    has "$(configs --alter --entity-type topics --entity-name "$topic" --add-config no.such.config=1 || true)" 'nknown|nvalid'
}
tools_offsets_and_delete_records() {
    local topic; topic=$(fresh offsets); make_topic "$topic"; seq 100 | produce "$topic"
    equal "$(offsets --topic "$topic")" "$topic:0:100"
    echo "{\"version\":1,\"partitions\":[{\"topic\":\"$topic\",\"partition\":0,\"offset\":60}]}" >"$scratch/delete.json"
    has "$(tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$scratch/delete.json")" 'low_watermark: 60'
    equal "$(offsets --topic "$topic" --time earliest)" "$topic:0:60"
    equal "$(consume "$topic" 40 | head -1)" 61
}
tools_groups() {
    local topic group said; topic=$(fresh groups); group="$topic-g"; make_topic "$topic" --partitions 2; seq 100 | produce "$topic"
    consume "$topic" 100 --group "$group" >/dev/null
    has "$(groups --list)" "^$group\$"
    said="$(groups --describe --group "$group" | awk -v t="$topic" '$2==t {s+=$4; l+=$6} END {print s","l}')"; equal "$said" 100,0
    has "$(groups --describe --group "$group" --state)" 'Empty'
    has "$(groups --reset-offsets --group "$group" --topic "$topic" --to-earliest --execute)" "$group +$topic +[01] +0"
    equal "$(groups --describe --group "$group" | awk -v t="$topic" '$2==t {l+=$6} END {print l}')" 100
    has "$(groups --delete-offsets --group "$group" --topic "$topic")" 'Successful'
    has "$(groups --delete --group "$group")" 'successful'
}
tools_compaction() {
    local topic pass; topic=$(fresh compacted)
    make_topic "$topic" --config cleanup.policy=compact --config segment.ms=100 --config min.cleanable.dirty.ratio=0.01
    for pass in 1 2 3; do seq 200 | awk -v p=$pass '{print "k" $1%20 "\tv" p "-" $1}' | produce "$topic" --reader-property parse.key=true; done
    echo $'last\tx' | produce "$topic" --reader-property parse.key=true
    few() { [ "$(kafka_values "$topic" | wc -l)" = 21 ]; }; within 120 few
    equal "$(kafka_values "$topic" | grep -c '^v3-')" 20
}
kafka_values() {
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$1" --from-beginning --timeout-ms 2000 | grep -E '^(v[0-9]|x$)'
}

run_suite() {
    command -v java >/dev/null || { failed=$((failed + 1)); echo "FAIL  java is not installed (17 or later)"; return 0; }
    KAFKA_LIBS="${KAFKA_LIBS:-$("$root/bench/kafka/broker.sh" libs)}"; export KAFKA_LIBS
    for name in versions topics console keys_and_headers configs offsets_and_delete_records groups compaction; do
        check "tools_$name" "tools_$name"
    done
}
