# `make test` sets up what it needs.
# One profile (release, overflow checks on) for everything, so that RocksDB is compiled once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench interop migration fmt clippy docs
SETUP := . xtask/setup.sh &&

help: ## what can be done here
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## builds, counts a text, analyses clicks: progress, throughput, top ten of each
	@xtask/demo.sh

test: ## builds everything and runs every test: units, properties, simulation, crashes, documentation
	@$(SETUP) cargo test --release --workspace

bench: ## the workloads beside Kafka Streams on Apache Kafka, alternating; prints the table (needs Java 17, Maven; about half an hour)
	@$(SETUP) bench/compare.sh

interop: ## clients written by others (C, Java, Python, Node, Go, Kafka's tools) against our broker; SUITES="kcat go" for some of them
	@tests/interop/run.sh $(SUITES)

migration: ## applications moved between Kafka Streams on the JVM and Millstream, both ways, on Apache Kafka (needs a JDK 17, Maven)
	@tests/migration/run.sh

fmt: ## check the formatting
	@cargo fmt --all --check

clippy: ## lints, warnings are errors
	@$(SETUP) cargo clippy --release --workspace --all-targets -- -D warnings

docs: ## build the API documentation, warnings are errors
	@$(SETUP) RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
