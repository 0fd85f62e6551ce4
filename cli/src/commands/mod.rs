//! One file per command; and what those that talk to a cluster share.

pub mod broker;
pub mod completions;
pub mod configs;
pub mod consume;
pub mod delete_records;
pub mod dump_log;
pub mod groups;
pub mod offsets;
pub mod perf;
pub mod produce;
pub mod topics;
pub mod topology;
pub mod transactions;

mod json;
mod partitions;
mod signals;

use client::{Admin, Client, ClientConfig, block_on};

use crate::options::{Cluster, address, key_value};
use crate::report::Failure;

/// How long a command looks for a broker before it says that there is none.
const FIND_BROKER_MS: i64 = 3_000;
/// How long a call may take in all.
const COMMAND_MS: i64 = 30_000;

fn admin(cluster: &Cluster) -> Result<Admin, Failure> {
    Ok(Admin::new(connect(cluster, &[])?))
}

/// A client of the cluster, with `settings` of its connections.
fn connect(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Client, Failure> {
    for one in cluster.bootstrap.split(',') {
        address("--bootstrap", one.trim())?;
    }
    let mut config = ClientConfig::default()
        .client_id("millstream-cli")
        .socket_connection_setup_timeout_ms(FIND_BROKER_MS)
        .default_api_timeout_ms(COMMAND_MS);
    for (key, value) in settings {
        config.set(key, value).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let client = Client::connect(&cluster.bootstrap, config)?;
    // A wrong address is said at once, not after all the time that a call may take.
    block_on(client.ready())?;
    Ok(client)
}

/// The settings of `--set` for each of those that are to be configured, by the names that each knows.
///
/// # Errors
/// One that nobody knows, with the nearest that is known.
fn settings_for<'a, const N: usize>(
    given: &'a [String],
    known: [&[&str]; N],
) -> Result<[Vec<(&'a str, &'a str)>; N], Failure> {
    let mut sorted = [const { Vec::new() }; N];
    for setting in given {
        let (key, value) = key_value(setting)?;
        let mut is_known = false;
        for (names, settings) in known.iter().zip(&mut sorted) {
            if names.contains(&key) {
                is_known = true;
                settings.push((key, value));
            }
        }
        if !is_known {
            let failure = Failure::usage(format!("--set {setting}: unknown setting {key}"));
            return Err(match base::nearest(key, known.into_iter().flatten().copied()) {
                Some(nearest) => failure.hint(&format!("did you mean {nearest}?")),
                None => failure,
            });
        }
    }
    Ok(sorted)
}

/// Text of an option in which `\\t`, `\\n`, `\\r`, `\\0` and `\\\\` stand for what cannot be typed.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match (character, if character == '\\' { rest.next() } else { None }) {
            ('\\', Some('t')) => plain.push('\t'),
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('r')) => plain.push('\r'),
            ('\\', Some('0')) => plain.push('\0'),
            ('\\', Some(other)) => plain.push(other),
            (other, _) => plain.push(other),
        }
    }
    plain
}

/// Rows of columns, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
