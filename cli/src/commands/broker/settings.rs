//! What a broker is started with: options, then `--set`, then the file of `--config`; each wins over what comes after it.
//!
//! A name in the file that nobody knows is warned of, since files written for Kafka carry the settings of plugins; one in `--set` is refused.

use std::collections::BTreeMap;

use broker::BrokerConfig;
use broker::properties::PROPERTIES;

use super::listeners::{ListenerSpec, Said, listeners};
use super::server_properties::{self, Property};
use crate::options::{BrokerOptions, key_value};
use crate::report::Failure;

/// Properties that are read here and not by the broker itself.
const OF_LISTENERS: &[&str] = &[
    "advertised.listeners",
    "controller.listener.names",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
];
/// Properties that name the nodes of a quorum; one node alone is what this broker is.
const OF_QUORUM: &[&str] = &["controller.quorum.bootstrap.servers", "controller.quorum.voters"];

/// What the broker command needs.
pub struct Settings {
    pub config: BrokerConfig,
    pub listeners: Vec<ListenerSpec>,
}

/// Puts options, `--set` and the file together.
///
/// # Errors
/// A property is unknown (in `--set`) or of the wrong type, asks for what is not there, or what is needed is not given.
pub fn settings(options: &BrokerOptions) -> Result<Settings, Failure> {
    let mut of_listeners: BTreeMap<String, String> = BTreeMap::new();
    let mut config = BrokerConfig::standalone("");
    if let Some(path) = &options.config {
        for Property { line, key, value } in server_properties::read(path)? {
            let place = format!("{} line {line}", path.display());
            if OF_LISTENERS.contains(&key.as_str()) {
                of_listeners.insert(key, value);
            } else if !is_known(&key) {
                tracing::warn!("{place}: {}", unknown(&key));
            } else if !says_what_is_so(&key, &value) {
                config =
                    config.with(&key, value.as_str()).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
            }
        }
    }
    for setting in &options.settings {
        let (key, value) = key_value(setting)?;
        if let Some(option) = option_instead_of(key, options) {
            return Err(Failure::usage(format!("--set {setting}: {option} says something else"))
                .hint(&format!("leave one of the two out, {key} or {option}")));
        }
        if OF_LISTENERS.contains(&key) {
            of_listeners.insert(key.to_owned(), value.to_owned());
        } else if !says_what_is_so(key, value) {
            config = config.with(key, value).map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
        }
    }
    if let Some(data) = &options.data {
        config = config
            .with("log.dirs", data.to_string_lossy())
            .map_err(|error| Failure::usage(format!("--data {}: {error}", data.display())))?;
        config.data_dir.clone_from(data);
    }
    if config.data_dir.as_os_str().is_empty() {
        return Err(Failure::usage("where should the broker keep its data?")
            .hint("give --data DIR, or --config FILE with log.dirs in it"));
    }
    let of = |key: &str| of_listeners.get(key).map(String::as_str);
    let listeners = listeners(&Said {
        listen: &options.listen,
        advertise: &options.advertise,
        listeners: of("listeners"),
        advertised_listeners: of("advertised.listeners"),
        protocols: of("listener.security.protocol.map"),
        controllers: of("controller.listener.names"),
    })?;
    Ok(Settings { config, listeners })
}

fn is_known(key: &str) -> bool {
    PROPERTIES.binary_search_by(|(name, ..)| (*name).cmp(key)).is_ok()
}

fn unknown(key: &str) -> String {
    match base::nearest(key, PROPERTIES.iter().map(|(name, ..)| *name)) {
        Some(nearest) => format!("unknown property {key} is left out; did you mean {nearest}?"),
        None => format!("unknown property {key} is left out"),
    }
}

/// Properties that say no more than that this is one node, which is broker and controller in one.
fn says_what_is_so(key: &str, value: &str) -> bool {
    match key {
        "process.roles" => value.split(',').any(|role| role.trim() == "broker"),
        _ => OF_QUORUM.contains(&key) && !value.contains(','),
    }
}

/// The option that was given for what a property says, too.
fn option_instead_of(property: &str, options: &BrokerOptions) -> Option<&'static str> {
    match property {
        "log.dirs" | "log.dir" if options.data.is_some() => Some("--data"),
        "listeners" if !options.listen.is_empty() => Some("--listen"),
        "advertised.listeners" if !options.advertise.is_empty() => Some("--advertise"),
        _ => None,
    }
}
