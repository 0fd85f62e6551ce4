//! `millstream broker`: the broker alone, until a signal ends it, or its data directory fails, as Kafka's does.

mod listeners;
mod server_properties;
mod settings;

use std::io::Write;
use std::sync::Arc;

use broker::Broker;
use broker::config::{BrokerConfig, DurabilityLevel};
use broker::server::{self, BoundAddress, Listener};
use tokio::sync::Notify;

use self::listeners::ListenerSpec;
use self::settings::Settings;
use crate::commands::signals::Signals;
use crate::options::BrokerOptions;
use crate::report::Failure;

/// Serves until SIGINT or SIGTERM, then closes cleanly; ends with the reason when the data directory fails.
pub fn run(options: BrokerOptions) -> Result<(), Failure> {
    let Settings { config, listeners } = settings::settings(&options)?;
    let data = config.data_dir.clone();
    let durable = match config.durability {
        DurabilityLevel::Power => {
            "durability power: records acknowledged with acks=all are on disk, and survive a power cut"
        }
        DurabilityLevel::Process => {
            "durability process: records acknowledged survive the end of this process, not a power cut"
        }
    };
    // Before anything is opened, so that a signal that comes early still ends in a clean shutdown.
    let (runtime, mut signals) = Signals::listen()?;
    // Before the data directory is made.
    let bound: Vec<(ListenerSpec, BoundAddress)> = listeners
        .into_iter()
        .map(|spec| Ok((spec.clone(), server::bind(&spec.bind)?)))
        .collect::<Result<_, Failure>>()?;
    let running = Broker::start(with_listeners(config, &bound)?)?;
    // What could not be opened will not be served.
    running.broker().failure().map_or(Ok(()), Err)?;
    let mut listeners: Vec<Listener> = Vec::new();
    let mut places: Vec<String> = Vec::new();
    for (spec, bound) in bound {
        let advertised = spec.advertised.as_ref().map(|(host, port)| (host.as_str(), *port));
        let listener = bound.serve(running.broker(), advertised)?;
        places.push(place(&spec, &listener));
        listeners.push(listener);
    }
    let state = running.broker().state();
    let metadata = state.metadata.current();
    serving(&format!(
        "millstream broker {} keeps {} topic(s) of cluster {} in {}\n{durable}\nmillstream broker serves {}\n",
        env!("CARGO_PKG_VERSION"),
        metadata.topic_count(),
        state.cluster_id,
        data.display(),
        places.join(" and "),
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
    listeners.iter_mut().for_each(Listener::close);
    let closed = running.shutdown();
    // What the failure has left open is recovered at the next start; why it failed says more.
    Ok(failure.map_or(closed, Err)?)
}

/// The settings with the listeners in them, for those who ask the broker what it was started with.
fn with_listeners(config: BrokerConfig, bound: &[(ListenerSpec, BoundAddress)]) -> Result<BrokerConfig, Failure> {
    let mut listened: Vec<String> = Vec::new();
    let mut told: Vec<String> = Vec::new();
    for (spec, address) in bound {
        let advertised = spec.advertised.as_ref().map(|(host, port)| (host.as_str(), *port));
        let (host, port) = address.endpoint(advertised)?;
        listened.push(format!("{}://{}", spec.name, spec.bind));
        told.push(format!("{}://{host}:{port}", spec.name));
    }
    Ok(config.with("listeners", listened.join(","))?.with("advertised.listeners", told.join(","))?)
}

/// A listener's address; its name and what clients are told, where that is something else.
fn place(spec: &ListenerSpec, listener: &Listener) -> String {
    let address = listener.address();
    let named = (spec.name != "PLAINTEXT").then(|| spec.name.clone());
    let told = spec.advertised.as_ref().map(|(host, port)| format!("clients are told {host}:{port}"));
    let more: Vec<String> = named.into_iter().chain(told).collect();
    match more.as_slice() {
        [] => address.to_string(),
        more => format!("{address} ({})", more.join(", ")),
    }
}

/// The three lines, the one that says that it serves last; a closed stderr does not stop a broker.
fn serving(lines: &str) {
    let mut out = std::io::stderr().lock();
    if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!("{lines}: {error}");
    }
}
