#!/usr/bin/env bash
# `make demo`: builds the examples, counts the words of the shipped text, analyses clicks; shows progress, throughput and the top ten of each.
# CARGO_TARGET_DIR is respected. Needs what the build needs (xtask/setup.sh sees to it), and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What is said by this script itself; results and progress come from the examples.
say() { printf '\n%s\n' "$*" >&2; }
# The first lines, without cutting off whoever writes.
first() { awk -v n="$1" 'NR <= n'; }

# shellcheck source=xtask/setup.sh
. xtask/setup.sh
target="${CARGO_TARGET_DIR:-target}"
if ! compgen -G "$target/release/deps/liblibrocksdb_sys-*.rlib" >/dev/null; then
    say "Building. RocksDB comes first and takes about 10 minutes on two cores; it is built once, for everything. Progress:"
else
    say "Building (RocksDB is there already):"
fi
cargo build --release --package millstream --example word_count --example click_analytics

results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT

say "1. Counting the words of the Jargon File: lines go into a topic, a topology counts, all in one process."
"$target/release/examples/word_count" --input examples/data/jargon-file-4.4.7.txt >"$results/words"
say "The ten most frequent words:"
first 10 <"$results/words"

say "2. Counting clicks per page and minute, in the time of the clicks; alerts go to a topic."
"$target/release/examples/click_analytics" </dev/null >"$results/clicks"
say "The ten busiest pages (all minutes together):"
awk -F '\t' '{ clicks[$2] += $3 } END { for (page in clicks) printf "%s\t%d\n", page, clicks[page] }' "$results/clicks" |
    sort -t "$(printf '\t')" -k2,2nr -k1,1 | first 10

say "Your own text:  cargo run --release --example word_count -- --input FILE     README.md shows the rest."
