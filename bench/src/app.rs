//! One run under the harness: orders from the environment, marks on standard output.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use millstream::prelude::*;
use millstream::storage::state::Backend;

use crate::embedded::{self, Totals};
use crate::settings::Settings;

/// How often progress is looked at while records are processed.
const LOOK: Duration = Duration::from_millis(2);

/// Prints a mark; the harness notes clock and CPU time when it arrives.
fn say(mark: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{mark}")?;
    Ok(out.flush()?)
}

fn wait_for_end_of_input() -> Result<()> {
    let mut buffer = [0; 256];
    while std::io::stdin().read(&mut buffer)? > 0 {}
    Ok(())
}

/// Runs as the environment says.
///
/// # Errors
/// What went wrong; the harness counts the run as failed.
pub fn run() -> Result<()> {
    let settings = Settings::from_environment()?;
    match settings.embedded {
        None => {
            anyhow::ensure!(
                settings.inputs.len() == settings.workload.datasets().len(),
                "BENCH_IN names {} topics: {} reads {}",
                settings.inputs.len(),
                settings.workload.name(),
                settings.workload.datasets().len()
            );
            let client = Client::connect(&settings.bootstrap, ClientConfig::default())?;
            process(&settings, client)?;
            wait_for_end_of_input()
        }
        Some(records) => {
            let data = Path::new(&settings.state_dir).join("data");
            let durability = std::env::var("BENCH_DURABILITY").unwrap_or_else(|_| "process".to_owned());
            let broker = embedded::broker(&data, &durability)?;
            embedded::prepare(&broker, settings.workload, records, &settings.output)?;
            process(&settings, broker.client())?;
            let mut totals = Totals::of(settings.workload);
            totals.read(broker.client(), &settings.output)?;
            say(&format!("CHECK {}", totals.line()))?;
            wait_for_end_of_input()?;
            broker.shutdown()?;
            Ok(())
        }
    }
}

/// Runs the application to the end of its work, with the marks of the protocol.
fn process(settings: &Settings, client: Client) -> Result<()> {
    let topology = settings.workload.topology(&settings.inputs, &settings.output)?;
    let mut builder = Streams::builder(topology, settings.config()?, client);
    if settings.in_memory {
        builder = builder.with_backend(Backend::Memory);
    }
    let streams = builder.start()?;
    let Some(expect) = settings.expect else {
        streams.wait_until_running(Duration::from_secs(60))?;
        say("READY")?;
        wait_for_end_of_input()?;
        streams.close()?;
        return say("CLOSED");
    };
    let (mut first, mut half) = (false, false);
    loop {
        let processed = streams.metrics().total("stream-thread-metrics", "process-total");
        if !first && processed > 0 {
            first = true;
            say("FIRST")?;
        }
        if !half && processed >= expect / 2 {
            half = true;
            say(&format!("HALF {processed}"))?;
        }
        if processed >= expect {
            say(&format!("DONE {processed}"))?;
            break;
        }
        if streams.state().is_final() {
            let error = streams.error().map_or_else(|| "no error was kept".to_owned(), |error| error.to_string());
            return Err(anyhow!("the application ended after {processed} of {expect} records: {error}"));
        }
        std::thread::sleep(LOOK);
    }
    streams.close()?;
    say("CLOSED")
}
