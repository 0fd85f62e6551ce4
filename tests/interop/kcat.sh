# Checks with kcat; sourced by run.sh.

kc() { kcat -b "$BOOTSTRAP" -m 15 "$@"; }
all_of() { kc -C -t "$1" -o beginning -e -q "${@:2}"; }
in_group() { timeout 30 kcat -b "$BOOTSTRAP" -G "$1" -X auto.offset.reset=earliest -X session.timeout.ms=6000 -q "${@:2}" 2>/dev/null; }

kcat_metadata() {
    local topic shown; topic=$(fresh metadata); echo x | kc -P -t "$topic"
    shown="$(kc -L)"; has "$shown" '1 brokers:'; has "$shown" "topic \"$topic\" with 1 partitions:"
}
kcat_order() {
    local topic; topic=$(fresh order); seq 1000 | kc -P -t "$topic" -p 0
    equal "$(all_of "$topic" -p 0 | sha1sum)" "$(seq 1000 | sha1sum)"
    equal "$(kc -C -t "$topic" -p 0 -o 100 -c 3 -q -f '%o:%s,')" "100:101,101:102,102:103,"
    equal "$(kc -C -t "$topic" -p 0 -o -2 -e -q | tr '\n' ' ')" "999 1000 "
}
kcat_codec() {
    local topic; topic=$(fresh "$1"); seq -f 'value-%g' 2000 | kc -P -t "$topic" -p 0 -z "$1" -X linger.ms=50
    equal "$(all_of "$topic" | sha1sum)" "$(seq -f 'value-%g' 2000 | sha1sum)"
}
kcat_headers_and_nulls() {
    local topic; topic=$(fresh headers); echo "k:v" | kc -P -t "$topic" -p 0 -K: -H a=1 -H 'b=two words' -H a=3
    equal "$(all_of "$topic" -f '%k|%s|%h')" 'k|v|a=1,b=two words,a=3'
    printf 'k1:\n' | kc -P -t "$topic" -p 0 -K: -Z
    equal "$(kc -C -t "$topic" -p 0 -o 1 -c 1 -q -f '%k,%K,%S')" 'k1,2,-1'
}
kcat_too_large() {
    local topic said; topic=$(fresh large); echo x | kc -P -t "$topic"
    head -c 3000000 /dev/urandom >"$scratch/large"
    said="$(kc -P -t "$topic" -X message.max.bytes=5000000 "$scratch/large" 2>&1 || true)"; has "$said" 'too large|larger than'
    equal "$(all_of "$topic")" x
}
kcat_offsets_by_time() {
    local topic middle; topic=$(fresh time); seq 10 | kc -P -t "$topic" -p 0; sleep 1.1
    middle=$(($(date +%s%N) / 1000000)); sleep 0.1; seq 11 20 | kc -P -t "$topic" -p 0
    has "$(kc -Q -t "$topic:0:$middle")" '\[0\] offset 10'
    has "$(kc -Q -t "$topic:0:-1")" 'offset 20'
    has "$(kc -Q -t "$topic:0:-2")" 'offset 0'
    equal "$(kc -C -t "$topic" -p 0 -o "s@$middle" -e -q | head -1)" 11
}
kcat_acks() {
    local topic acks; topic=$(fresh acks)
    for acks in 0 1 all; do seq 50 | kc -P -t "$topic" -p 0 -X acks=$acks; done
    seen() { [ "$(all_of "$topic" | wc -l)" = 150 ]; }; within 10 seen
}
kcat_idempotent() {
    local topic; topic=$(fresh idempotent)
    seq 3000 | kc -P -t "$topic" -p 0 -X enable.idempotence=true -X batch.num.messages=50
    equal "$(all_of "$topic" | sha1sum)" "$(seq 3000 | sha1sum)"
}
kcat_group_goes_on() {
    local topic; topic=$(fresh group); seq 300 | kc -P -t "$topic"
    equal "$(in_group "$topic-g" -c 300 "$topic" | sort -n | sha1sum)" "$(seq 300 | sha1sum)"
    seq 301 310 | kc -P -t "$topic"
    equal "$(in_group "$topic-g" -c 10 "$topic" | sort -n | tr '\n' ' ')" "$(seq 301 310 | tr '\n' ' ')"
}

run_suite() {
    command -v kcat >/dev/null || { failed=$((failed + 1)); echo "FAIL  kcat is not installed (apt-get install kcat)"; return 0; }
    check kcat_metadata kcat_metadata
    check kcat_order kcat_order
    for codec in none gzip snappy lz4 zstd; do check "kcat_codec_$codec" kcat_codec "$codec"; done
    for name in headers_and_nulls too_large offsets_by_time acks idempotent group_goes_on; do
        check "kcat_$name" "kcat_$name"
    done
}
