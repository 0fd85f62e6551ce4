//! `bench-streams ttd`: the engine without a broker. One record is piped in, outputs are drained, and so on.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use millstream::prelude::*;
use millstream::storage::state::{Backend, BudgetOptions, StateBudget};

use crate::cpu;
use crate::datasets::{Datasets, Input};
use crate::embedded::Totals;
use crate::workloads::Workload;

/// Runs `rounds` rounds of `n` records; prints a JSON line with the figures of the JVM's `bench ttd`.
///
/// # Errors
/// The output differs from round to round, or processing failed.
pub fn run(workload: Workload, n: u64, rounds: usize, cache: Option<&str>, persistent: bool) -> Result<()> {
    let [dataset] = workload.datasets() else {
        bail!("{} reads several topics: this measures workloads of one", workload.name())
    };
    let datasets = Datasets::new();
    let inputs: Vec<(Option<Bytes>, Bytes, i64)> = (0..n)
        .map(|index| {
            let mut input = Input::default();
            datasets.fill(*dataset, index, &mut input);
            (input.has_key.then(|| Bytes::from(input.key)), Bytes::from(input.value), input.timestamp)
        })
        .collect();
    let mut figures = Vec::new();
    let mut check = None;
    for round in 0..rounds {
        let folder = std::env::temp_dir().join(format!("bench-ttd-{}-{round}", std::process::id()));
        let mut config = StreamsConfig::new("ttd").with("state.dir", folder.display())?;
        if let Some(cache) = cache {
            config = config.with("statestore.cache.max.bytes", cache)?;
        }
        let backend = match persistent {
            true => Backend::RocksDb(StateBudget::new(BudgetOptions::default())),
            false => Backend::Memory,
        };
        let topology = workload.topology(&["in".to_owned()], "out")?;
        let driver = TopologyTestDriver::with_backend(&topology, config, 0, backend)?;
        let input = driver.input_topic::<Bytes, Bytes>("in");
        let output = driver.output_topic::<Bytes, Bytes>("out");
        let mut outputs = Vec::new();
        let (begun, cpu) = (Instant::now(), cpu::seconds());
        for (key, value, timestamp) in &inputs {
            input.pipe_bytes(key.as_deref(), Some(value), *timestamp, &Headers::default())?;
            while let Some(record) = output.try_read()? {
                outputs.push(record);
            }
        }
        figures.push((begun.elapsed().as_secs_f64(), cpu::seconds() - cpu));
        let mut totals = Totals::of(workload);
        outputs.iter().for_each(|record| totals.add(record.key.as_deref(), record.value.as_deref()));
        let line = totals.line();
        ensure!(check.get_or_insert_with(|| line.clone()) == &line, "round {round} gave {line}, the first {check:?}");
        driver.close()?;
        let _ = std::fs::remove_dir_all(folder);
    }
    figures.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (seconds, cpu) = figures[figures.len() / 2];
    println!(
        "{}",
        serde_json::json!({
            "workload": format!("ttd-{}", workload.name()),
            "records": n,
            "median_s": seconds,
            "records_per_s": (n as f64 / seconds).round(),
            "cpu_s_per_M": cpu / n as f64 * 1e6,
            "store": if persistent { "rocks" } else { "mem" },
            "output": check,
        })
    );
    Ok(())
}
