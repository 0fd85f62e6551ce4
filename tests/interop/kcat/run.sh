#!/usr/bin/env bash
# kcat (librdkafka) against BOOTSTRAP.
set -euo pipefail
source "$(dirname "$0")/../lib.sh"
need_deb kcat kcat

K="kcat -b $BOOTSTRAP -m 15"
# Topics are made by the broker on first use (auto.create.topics.enable) or by the first produce
lines() { local i; for i in $(seq "$1"); do echo "k$i:value-$i"; done; }
consume_all() { $K -C -t "$1" -o beginning -e -q "${@:2}"; }

metadata_brokers() {
  local m; m="$($K -L)"
  has "$m" '[0-9]+ brokers?:'; has "$m" "broker [0-9]+ at "
}
metadata_json() {
  local t; t=$(uniq kcat-meta); echo x | $K -P -t "$t"
  $K -L -J -t "$t" | python3 -c '
import json,sys
m=json.load(sys.stdin); t=m["topics"][0]
assert t["topic"]==sys.argv[1], t
p=t["partitions"]; assert len(p)>=1 and p[0]["leader"]>=0 and p[0]["replicas"] and p[0]["isrs"], p
assert m["brokers"] and m["controllerid"]>=0, m' "$t"
}
roundtrip() {
  local t n; t=$(uniq kcat-rt); lines 1000 | $K -P -t "$t" -K:
  n="$(consume_all "$t" -K: | sort | sha1sum)"; eq "$n" "$(lines 1000 | sort | sha1sum)"
}
order_and_offsets() {
  local t; t=$(uniq kcat-ord); seq 500 | $K -P -t "$t" -p 0
  eq "$($K -C -t "$t" -p 0 -o beginning -e -q -f '%o %s\n' | awk '$1+1!=$2' | wc -l)" 0
  eq "$($K -C -t "$t" -p 0 -o 100 -c 3 -q -f '%o:%s,')" "100:101,101:102,102:103,"
  eq "$($K -C -t "$t" -p 0 -o -2 -e -q | tr '\n' ' ')" "499 500 "
}
codec() {
  local t; t=$(uniq "kcat-$1"); lines 2000 | $K -P -t "$t" -K: -z "$1" -X linger.ms=50
  eq "$(consume_all "$t" -K: | sort | sha1sum)" "$(lines 2000 | sort | sha1sum)"
}
mixed_codecs() {
  local t c; t=$(uniq kcat-mix)
  for c in none gzip snappy lz4 zstd; do seq 100 | sed "s/^/$c-/" | $K -P -t "$t" -p 0 -z "$c"; done
  eq "$(consume_all "$t" | sha1sum)" "$(for c in none gzip snappy lz4 zstd; do seq 100 | sed "s/^/$c-/"; done | sha1sum)"
}
headers() {
  local t o; t=$(uniq kcat-hdr)
  echo "k:v" | $K -P -t "$t" -K: -H a=1 -H "b=two words" -H a=3 -H empty=
  o="$(consume_all "$t" -f '%k|%s|%h\n')"; eq "$o" "k|v|a=1,b=two words,a=3,empty="
}
keys_and_nulls() {
  local t; t=$(uniq kcat-null)
  printf 'k1:\nk2:v\n' | $K -P -t "$t" -p 0 -K: -Z
  eq "$(consume_all "$t" -f '%k,%K,%S;')" "k1,2,-1;k2,2,1;"
}
large_message() {
  local t f="$SCRATCH/big.$RANDOM"; t=$(uniq kcat-big); head -c 900000 /dev/urandom >"$f"
  $K -P -t "$t" -X message.max.bytes=1000000 "$f"
  eq "$(consume_all "$t" -f '%s' | sha1sum)" "$(sha1sum <"$f")"
}
too_large_is_refused() {
  local t f="$SCRATCH/huge.$RANDOM" o; t=$(uniq kcat-huge); echo x | $K -P -t "$t"
  head -c 3000000 /dev/urandom >"$f"
  o="$($K -P -t "$t" -X message.max.bytes=5000000 "$f" 2>&1 || true)"; has "$o" 'too large|larger than'
  eq "$(consume_all "$t")" "x"
}
timestamps() {
  local t q mid; t=$(uniq kcat-ts); seq 10 | $K -P -t "$t" -p 0; sleep 1.2
  mid=$(($(date +%s%N) / 1000000)); sleep 0.2; seq 11 20 | $K -P -t "$t" -p 0
  q="$($K -Q -t "$t:0:$mid")"; has "$q" "\[0\] offset 10"
  q="$($K -Q -t "$t:0:-1")"; has "$q" "offset 20"
  q="$($K -Q -t "$t:0:-2")"; has "$q" "offset 0"
  eq "$($K -C -t "$t" -p 0 -o "s@$mid" -e -q | head -1)" 11
  eq "$($K -C -t "$t" -p 0 -o "s@0" -o "e@$mid" -e -q | tail -1)" 10
  eq "$($K -C -t "$t" -p 0 -o beginning -e -q -f '%T\n' | awk -v n="$(date +%s)" '{d=n-$1/1000; if (d<-60||d>600) print}' | wc -l)" 0
}
acks() {
  local t a; t=$(uniq kcat-acks); for a in 0 1 all; do seq 50 | sed "s/^/$a-/" | $K -P -t "$t" -p 0 -X acks=$a; done
  retry 10 acks_seen "$t"
}
acks_seen() { [ "$(consume_all "$1" | wc -l)" = 150 ]; }
idempotent() {
  local t; t=$(uniq kcat-idem); seq 3000 | $K -P -t "$t" -p 0 -X enable.idempotence=true -X batch.num.messages=50
  eq "$(consume_all "$t" | sha1sum)" "$(seq 3000 | sha1sum)"
}
transactional() {
  local t; t=$(uniq kcat-txn); seq 200 | $K -P -t "$t" -X transactional.id="$t-id"
  eq "$(consume_all "$t" -X isolation.level=read_committed | sort -n | sha1sum)" "$(seq 200 | sha1sum)"
  seq 201 300 | $K -P -t "$t" -X transactional.id="$t-id"
  eq "$(consume_all "$t" -X isolation.level=read_committed | sort -n | sha1sum)" "$(seq 300 | sha1sum)"
}
transaction_of_killed_producer() { # a killed transactional producer's records never show to read_committed
  local t p; t=$(uniq kcat-abort); echo start | $K -P -t "$t" -p 0 -X transactional.id="$t-id"
  # kcat reads its input in blocks: enough lines that some are sent while the input stays open
  { seq -f '%0200g' 2000; sleep 30; } | $K -P -t "$t" -p 0 -X transactional.id="$t-id" -X linger.ms=1 >/dev/null 2>&1 &
  retry 15 uncommitted_seen "$t" || { echo "the open transaction's records never showed to read_uncommitted"; return 1; }
  for p in $(pgrep -f -- "transactional.id=$t-id" || true); do kill -9 "$p"; done
  echo end | $K -P -t "$t" -p 0 -X transactional.id="$t-id"   # its InitProducerId aborts what the other left
  eq "$(consume_all "$t" -p 0 -X isolation.level=read_committed | tr '\n' ' ')" "start end "
  [ "$(consume_all "$t" -p 0 -X isolation.level=read_uncommitted | wc -l)" -gt 100 ]
}
uncommitted_seen() { [ "$(consume_all "$1" -p 0 -X isolation.level=read_uncommitted | wc -l)" -gt 100 ]; }
group_reads_all_once() {
  local t g a b; t=$(uniq kcat-grp); g="$t-g"; seq 300 | $K -P -t "$t"
  a="$(timeout 20 kcat -b "$BOOTSTRAP" -G "$g" -X auto.offset.reset=earliest -X session.timeout.ms=6000 -c 300 -q "$t" 2>/dev/null | sort -n | sha1sum)"
  eq "$a" "$(seq 300 | sha1sum)"
  seq 301 310 | $K -P -t "$t"   # the group goes on where it committed
  b="$(timeout 20 kcat -b "$BOOTSTRAP" -G "$g" -X auto.offset.reset=earliest -X session.timeout.ms=6000 -c 10 -q "$t" 2>/dev/null | sort -n | tr '\n' ' ')"
  eq "$b" "$(seq 301 310 | tr '\n' ' ')"
}
group_two_members() {
  local t g s="${1:-range}"; t=$(uniq "kcat-g2"); g="$t-g"
  need_partitions "$t" 4
  local f="$SCRATCH/$t"
  timeout 40 kcat -b "$BOOTSTRAP" -G "$g" -u -X partition.assignment.strategy="$s" -X session.timeout.ms=6000 -X heartbeat.interval.ms=500 -X auto.offset.reset=earliest -f '%p %s\n' "$t" >"$f.a" 2>"$f.a.err" &
  timeout 40 kcat -b "$BOOTSTRAP" -G "$g" -u -X partition.assignment.strategy="$s" -X session.timeout.ms=6000 -X heartbeat.interval.ms=500 -X auto.offset.reset=earliest -f '%p %s\n' "$t" >"$f.b" 2>"$f.b.err" &
  local i=0
  both_read() { # fresh records until both members have got some
    i=$((i + 1)); for p in 0 1 2 3; do echo "$i-$p" | $K -P -t "$t" -p "$p"; done; sleep 0.5
    [ -s "$f.a" ] && [ -s "$f.b" ]
  }
  retry 30 both_read || { cat "$f".*.err; echo "one member got nothing"; return 1; }
  sleep 2; all_there() { [ "$(cat "$f.a" "$f.b" | awk '{print $2}' | sort -u | wc -l)" = $((i * 4)) ]; }
  retry 10 all_there || { wc -l "$f".?; return 1; }
}
need_partitions() { # a topic of N partitions, by librdkafka's python binding-free way: the Java tools are not here
  python3 "$(dirname "$0")/mktopic.py" "$BOOTSTRAP" "$1" "$2"
}
unknown_partition() {
  local t o; t=$(uniq kcat-up); echo x | $K -P -t "$t"
  o="$(echo y | $K -P -t "$t" -p 77 2>&1 || true)"; has "$o" 'nknown partition'
}
librdkafka_debug_features() { # librdkafka must see a modern broker: no downgrade of features
  local o; o="$($K -L -d feature,protocol 2>&1)"; has "$o" 'ApiVersion'; hasnt "$o" 'ApiVersionRequest failed|Disabling feature (MsgVer2|IdempotentProducer|BrokerBalancedConsumer|ApiVersion)'
}

check metadata_brokers metadata_brokers
check metadata_json metadata_json
check features librdkafka_debug_features
check roundtrip_1000_keyed roundtrip
check order_and_offsets order_and_offsets
for c in none gzip snappy lz4 zstd; do check "codec_$c" codec "$c"; done
check codecs_mixed_in_one_partition mixed_codecs
check headers headers
check null_values_and_keys keys_and_nulls
check large_message large_message
check too_large_is_refused too_large_is_refused
check offsets_by_timestamp timestamps
check acks_0_1_all acks
check idempotent idempotent
check transactional transactional
check transaction_of_a_killed_producer transaction_of_killed_producer
check group_resumes_after_commit group_reads_all_once
check group_two_members_range group_two_members range
check group_two_members_roundrobin group_two_members roundrobin
check group_two_members_cooperative_sticky group_two_members cooperative-sticky
check unknown_partition unknown_partition
finish
