//! `bench-brokers RESULTS.jsonl`: medians of what `bench/brokers.sh` noted, as the tables of `docs/benchmarks.md`.
//!
//! Each input line is one run of a tool against one of the two brokers, `kafka` or `ours`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

/// What was run: the tool, the size of its records, acks, codec, partitions.
type Cell = (String, u64, String, String, u64);

/// The runs of one cell against either broker.
#[derive(Default)]
struct Sides {
    kafka: Vec<Value>,
    ours: Vec<Value>,
}

impl Sides {
    /// Medians of a figure that `of` reads; `None` when a side has none.
    fn medians(&self, of: impl Fn(&Value) -> Option<f64>) -> Option<(f64, f64)> {
        Some((median(&self.kafka, &of)?, median(&self.ours, &of)?))
    }
}

fn median(runs: &[Value], of: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn read(path: &str) -> Result<BTreeMap<Cell, Sides>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let mut cells: BTreeMap<Cell, Sides> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let run: Value = serde_json::from_str(line).with_context(|| format!("{path}, line {}", number + 1))?;
        let word = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| run[name].as_u64().unwrap_or_default();
        let tool = if run["end_to_end"].is_object() { "one client".to_owned() } else { word("broker") };
        let sides =
            cells.entry((tool, count("size"), word("acks"), word("compression"), count("partitions"))).or_default();
        if word("side") == "ours" { &mut sides.ours } else { &mut sides.kafka }.push(run);
    }
    Ok(cells)
}

/// A row: what was run, then both sides and the ratio of records per second, of broker CPU, and of the p99 if the tool gives one.
fn throughput(cells: &BTreeMap<Cell, Sides>) {
    println!(
        "| tool | bytes | acks | codec | partitions | records/s: Kafka | ours | ratio | broker CPU s/M: Kafka | ours | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for ((tool, size, acks, codec, partitions), sides) in cells {
        let Some((kafka, ours)) = sides.medians(|run| run["records_per_s"].as_f64()) else { continue };
        let cpu = sides.medians(|run| run["broker_cpu_s_per_M"].as_f64()).unwrap_or_default();
        println!(
            "| {tool} | {size} | {acks} | {codec} | {partitions} | {kafka:.0} | {ours:.0} | {:.2} x | {:.2} | {:.2} | {:.1} x |",
            ours / kafka,
            cpu.0,
            cpu.1,
            cpu.0 / cpu.1.max(0.005)
        );
    }
}

fn latency(cells: &BTreeMap<Cell, Sides>) {
    println!("| one record at a time | acks | figure | Kafka | ours | ratio |");
    println!("|---|---|---|---|---|---|");
    for ((tool, _, acks, ..), sides) in cells {
        for figure in ["avg_us", "p50_us", "p99_us", "p99.9_us"] {
            if let Some((kafka, ours)) = sides.medians(|run| run["end_to_end"][figure].as_f64()) {
                println!("| millstream perf latency | all | {figure} | {kafka:.0} | {ours:.0} | {:.2} |", ours / kafka);
            }
        }
        if let Some((kafka, ours)) =
            sides.medians(|run| run["avg_ms"].as_f64()).filter(|_| tool.starts_with("end to end"))
        {
            println!("| EndToEndLatency | {acks} | avg_ms | {kafka:.3} | {ours:.3} | {:.2} |", ours / kafka);
        }
    }
}

fn idle(cells: &BTreeMap<Cell, Sides>) {
    println!("| started with | broker | serves after, ms | idle CPU, % | resident, MB |");
    println!("|---|---|---|---|---|");
    for ((data, ..), sides) in cells {
        for (name, runs) in [("Kafka", &sides.kafka), ("ours", &sides.ours)] {
            let figure = |field: &str| median(runs, |run| run[field].as_f64());
            let Some(ready) = figure("ready_s") else { continue };
            let (cpu, memory) = (figure("idle_cpu_percent").unwrap_or_default(), figure("rss_mb").unwrap_or_default());
            println!("| {data} | {name} | {:.0} | {cpu:.2} | {memory:.0} |", ready * 1000.0);
        }
    }
}

fn main() -> ExitCode {
    let report = std::env::args().nth(1).context("usage: bench-brokers RESULTS.jsonl").and_then(|path| read(&path));
    match report {
        Ok(cells) => {
            throughput(&cells);
            println!();
            latency(&cells);
            println!();
            idle(&cells);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
