//! One file per command; and what those that talk to a cluster share.

pub mod broker;
pub mod dump_log;
pub mod groups;
pub mod topics;
pub mod topology;

use client::{Admin, Client, ClientConfig, block_on};

use crate::options::{Cluster, address};
use crate::report::Failure;

/// How long a command looks for a broker before it says that there is none.
const FIND_BROKER_MS: i64 = 3_000;
/// How long a command may take in all.
const COMMAND_MS: i64 = 30_000;

fn admin(cluster: &Cluster) -> Result<Admin, Failure> {
    for one in cluster.bootstrap.split(',') {
        address("--bootstrap", one.trim())?;
    }
    let config = ClientConfig::default()
        .client_id("millstream-cli")
        .socket_connection_setup_timeout_ms(FIND_BROKER_MS)
        .default_api_timeout_ms(COMMAND_MS);
    let client = Client::connect(&cluster.bootstrap, config)?;
    // A wrong address is said at once, not after all the time that a call may take.
    block_on(client.ready())?;
    Ok(Admin::new(client))
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
