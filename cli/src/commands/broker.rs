//! `millstream broker`: the broker alone, until a signal ends it, or its data directory fails, as Kafka's does.

use std::io::Write;
use std::sync::Arc;

use broker::config::DurabilityLevel;
use broker::{Broker, BrokerConfig, server};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::options::{BrokerOptions, address, key_value};
use crate::report::Failure;

/// Serves until SIGINT or SIGTERM, then closes cleanly; ends with the reason when the data directory fails.
pub fn run(options: BrokerOptions) -> Result<(), Failure> {
    let mut config = BrokerConfig::embedded(&options.data);
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        if let Some(option) = option_instead_of(key) {
            return Err(Failure::usage(format!("--set {setting}: a broker started alone takes that from {option}"))
                .hint(&format!("leave it out, and give {option}")));
        }
        config = config.with(key, value).map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
    }
    let advertised = options.advertise.as_deref().map(|given| address("--advertise", given)).transpose()?;
    address("--listen", &options.listen)?;
    let durability = match config.durability {
        DurabilityLevel::Power => "power",
        DurabilityLevel::Process => "process",
    };
    // Before anything is opened, so that a signal that comes early still ends in a clean shutdown.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
    let mut signals = Signals::new(&runtime)?;
    // Before the data directory is made.
    let bound = server::bind(&options.listen)?;
    let running = Broker::start(config)?;
    // What could not be opened will not be served.
    running.broker().failure().map_or(Ok(()), Err)?;
    let mut listener = bound.serve(running.broker(), advertised)?;
    serving(&format!(
        "millstream broker serves {} from {} (durability {durability})",
        listener.address(),
        options.data.display()
    ));
    let failed = Arc::new(Notify::new());
    let notify = Arc::clone(&failed);
    running.broker().on_failure(move || notify.notify_one());
    runtime.block_on(async {
        tokio::select! {
            () = signals.next() => {}
            () = failed.notified() => {}
        }
    });
    tracing::info!("shutting down");
    let failure = running.broker().failure();
    listener.close();
    let closed = running.shutdown();
    // What the failure has left open is recovered at the next start; why it failed says more.
    Ok(failure.map_or(closed, Err)?)
}

/// Properties of Kafka that this program has options for.
fn option_instead_of(property: &str) -> Option<&'static str> {
    match property {
        "log.dirs" | "log.dir" => Some("--data DIR"),
        "listeners" => Some("--listen HOST:PORT"),
        "advertised.listeners" => Some("--advertise HOST:PORT"),
        _ => None,
    }
}

/// The one line; a closed stderr does not stop a broker.
fn serving(line: &str) {
    let mut out = std::io::stderr().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::debug!("{line}: {error}");
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new(runtime: &runtime::Runtime) -> Result<Self, Failure> {
        let _inside = runtime.enter();
        let failed = |error| Failure::new(format!("cannot wait for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
