# The two commands of the README are `make demo` and `make test`; both set up what they need.
# One profile (release, overflow checks on) for everything, so that RocksDB is compiled once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench fmt clippy docs
SETUP := . xtask/setup.sh &&
TARGET := $${CARGO_TARGET_DIR:-target}

help: ## what can be done here
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## count the words of a book, then analyse clicks (builds first; RocksDB takes about 10 minutes the first time)
	@$(SETUP) xtask/demo.sh

test: ## all tests, the seeded simulation included
	@$(SETUP) cargo test --release --workspace
	@$(SETUP) cargo run --release -q -p simulation -- --seeds 200

bench: ## compare with Kafka Streams on the JVM (needs java 17, mvn); prints the table of docs/benchmarks.md
	@$(SETUP) bench/compare.sh

fmt: ## check the formatting
	@cargo fmt --all --check

clippy: ## lints, warnings are errors
	@$(SETUP) cargo clippy --release --workspace --all-targets -- -D warnings

docs: ## build the API documentation, warnings are errors
	@$(SETUP) RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
