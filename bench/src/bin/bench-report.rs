//! `bench-report RESULTS.jsonl`: medians of the runs that `bench/compare.sh` noted, as the tables of `docs/benchmarks.md`.
//!
//! Each input line is one run as the JVM harness prints it; its variant is `side/label`. Two sizes of a workload give the cost
//! free of start-up and JIT: (CPU at the larger - CPU at the smaller) / (records at the larger - records at the smaller).

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

/// What one run gives, in the units of the table.
#[derive(Clone, Copy, Default)]
struct Run {
    records_per_s: f64,
    app_cpu_s: f64,
    broker_cpu_s: f64,
    peak_rss_mb: f64,
    broker_rss_mb: f64,
}

type Key = (String, u64, String);

fn read(path: &str) -> Result<BTreeMap<Key, Vec<Run>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let mut runs: BTreeMap<Key, Vec<Run>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let run: Value = serde_json::from_str(line).with_context(|| format!("{path}, line {}", number + 1))?;
        let figure = |name: &str| run[name].as_f64().unwrap_or_default();
        let word = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(
            word("check") == "ok",
            "{path}, line {}: a run failed its check: {}",
            number + 1,
            word("check")
        );
        let key = (word("workload"), run["records"].as_u64().unwrap_or_default(), word("variant"));
        runs.entry(key).or_default().push(Run {
            records_per_s: figure("records_per_s"),
            app_cpu_s: figure("app_cpu_s"),
            broker_cpu_s: figure("broker_cpu_s"),
            peak_rss_mb: figure("peak_rss_mb"),
            broker_rss_mb: figure("broker_rss_mb"),
        });
    }
    Ok(runs)
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn medians(runs: &BTreeMap<Key, Vec<Run>>) -> BTreeMap<Key, (Run, usize)> {
    runs.iter()
        .map(|(key, runs)| {
            let run = Run {
                records_per_s: median(runs, |run| run.records_per_s),
                app_cpu_s: median(runs, |run| run.app_cpu_s),
                broker_cpu_s: median(runs, |run| run.broker_cpu_s),
                peak_rss_mb: median(runs, |run| run.peak_rss_mb),
                broker_rss_mb: median(runs, |run| run.broker_rss_mb),
            };
            (key.clone(), (run, runs.len()))
        })
        .collect()
}

fn whole_runs(table: &BTreeMap<Key, (Run, usize)>) {
    println!(
        "| workload | records | variant | runs | records/s | app CPU s/M | broker CPU s/M | peak RSS MB: app | broker |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for ((workload, records, variant), (run, count)) in table {
        let million = *records as f64 / 1e6;
        let broker =
            if variant.starts_with("ours-embedded") { "-".to_owned() } else { format!("{:.0}", run.broker_rss_mb) };
        println!(
            "| {workload} | {records} | {variant} | {count} | {:.0} | {:.2} | {:.2} | {:.0} | {broker} |",
            run.records_per_s,
            run.app_cpu_s / million,
            run.broker_cpu_s / million,
            run.peak_rss_mb
        );
    }
}

/// CPU seconds per million records, app and broker, free of what every run pays once.
fn marginal(table: &BTreeMap<Key, (Run, usize)>, workload: &str, variant: &str) -> Option<(f64, f64)> {
    let mut sizes = table.iter().filter(|((w, _, v), _)| w == workload && v == variant);
    let ((_, small_n, _), (small, _)) = sizes.next()?;
    let ((_, large_n, _), (large, _)) = sizes.next()?;
    let million = (large_n - small_n) as f64 / 1e6;
    Some(((large.app_cpu_s - small.app_cpu_s) / million, (large.broker_cpu_s - small.broker_cpu_s) / million))
}

fn ratios(table: &BTreeMap<Key, (Run, usize)>) {
    println!();
    println!(
        "| workload | ours | against | CPU, whole run, smaller size | larger size | free of start-up and JIT | peak RSS |"
    );
    println!("|---|---|---|---|---|---|---|");
    let variants: BTreeSet<(&str, &str)> = table.keys().map(|(w, _, v)| (w.as_str(), v.as_str())).collect();
    for (workload, ours) in variants.iter().filter(|(_, variant)| variant.starts_with("ours-")) {
        let embedded = ours.starts_with("ours-embedded");
        let cache = ours.rsplit('/').next().unwrap_or_default();
        let peers = variants.iter().filter(|(other, variant)| {
            other == workload
                && (*variant == format!("jvm/default-{cache}") || (cache != "cache-0" && *variant == "jvm/tuned"))
        });
        for (_, jvm) in peers {
            let cost = |app: f64, broker: f64| if embedded { app + broker } else { app };
            let memory = |run: &Run| run.peak_rss_mb + if embedded { run.broker_rss_mb } else { 0.0 };
            let mut whole = Vec::new();
            let mut rss = f64::INFINITY;
            for ((_, records, _), (own, _)) in table.iter().filter(|((w, _, v), _)| w == workload && v == ours) {
                let Some((theirs, _)) = table.get(&((*workload).to_owned(), *records, (*jvm).to_owned())) else {
                    continue;
                };
                whole.push(format!("{:.1} x", cost(theirs.app_cpu_s, theirs.broker_cpu_s) / own.app_cpu_s));
                rss = rss.min(memory(theirs) / own.peak_rss_mb);
            }
            whole.resize(2, "-".to_owned());
            let warm = marginal(table, workload, jvm)
                .zip(marginal(table, workload, ours))
                .map(|(theirs, own)| cost(theirs.0, theirs.1) / own.0);
            let warm = warm.map_or("-".to_owned(), |ratio| format!("{ratio:.1} x"));
            println!("| {workload} | {ours} | {jvm} | {} | {} | {warm} | {rss:.1} x |", whole[0], whole[1]);
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path] = &arguments[..] else {
        eprintln!("usage: bench-report RESULTS.jsonl");
        return ExitCode::from(2);
    };
    match read(path) {
        Ok(runs) => {
            let table = medians(&runs);
            whole_runs(&table);
            ratios(&table);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
