//! `millstream broker`: the broker alone, until a signal ends it.

use std::io::Write;

use broker::config::DurabilityLevel;
use broker::{Broker, BrokerConfig, server};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::{BrokerOptions, key_value};
use crate::report::Failure;

/// Serves until SIGINT or SIGTERM; then closes cleanly.
pub fn run(options: BrokerOptions) -> Result<(), Failure> {
    let mut config = BrokerConfig::embedded(&options.data);
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        if matches!(key, "log.dirs" | "log.dir") {
            return Err(Failure::usage(format!("--set {setting}: the directory is named by --data")));
        }
        config = config.with(key, value).map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
    }
    let advertised = options.advertise.as_deref().map(host_and_port).transpose()?;
    host_and_port(&options.listen).map_err(|_| not_an_address("--listen", &options.listen))?;
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
    let running = Broker::start(config)?;
    let mut listener = server::listen(running.broker(), &options.listen, advertised)?;
    serving(&format!(
        "millstream broker serves {} from {} (durability {durability})",
        listener.address(),
        options.data.display()
    ));
    runtime.block_on(signals.next());
    tracing::info!("shutting down");
    listener.close();
    running.shutdown()?;
    Ok(())
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

fn host_and_port(address: &str) -> Result<(&str, u16), Failure> {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() => Ok((host.trim_start_matches('[').trim_end_matches(']'), port)),
        _ => Err(not_an_address("--advertise", address)),
    }
}

fn not_an_address(option: &str, address: &str) -> Failure {
    Failure::usage(format!("{option} {address} is not HOST:PORT")).hint("write it as 127.0.0.1:9092")
}
