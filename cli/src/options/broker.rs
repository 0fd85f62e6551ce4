//! Options of `millstream broker`.

use std::path::PathBuf;

use clap::Args;

/// `millstream broker`.
#[derive(Args)]
pub struct BrokerOptions {
    /// A file of broker properties by Kafka's names, such as Kafka's server.properties; the other options win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, port 0 takes any free port; may be given many times, then as NAME://HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Vec<String>,
    /// Directory of the data; one broker at a time has it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address that clients are told to come to, if not the one listened on; NAME://HOST:PORT for a certain listener
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Vec<String>,
    /// A broker property by Kafka's name, or durability=power|process; may be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}
