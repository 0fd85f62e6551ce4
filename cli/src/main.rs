//! The program `millstream`: starts the broker alone, writes and reads records, looks after topics, groups, settings and transactions of any
//! cluster, looks into log files, and draws and compares topologies.
//!
//! Reads options ([`options`]), calls one command ([`commands`]), and says what went wrong in at most three lines
//! ([`report`]). Knows no format and no protocol itself.

mod commands;
mod options;
mod report;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use options::{Command, TopologyCommand};
use report::Failure;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    report_events();
    let outcome = match options::parse(std::env::args_os()) {
        Ok(command) => run(command),
        Err(options::NotRun::Shown(text)) => report::print(&text),
        Err(options::NotRun::Refused(failure)) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

/// Events of the libraries, one a line on stderr; MILLSTREAM_LOG says which.
fn report_events() {
    // The broker itself sums up what recovery did, one line for each log that was cut.
    let usual = "warn,storage::log::recovery=error";
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(usual)))
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Broker(options) => commands::broker::run(options),
        Command::Topics(command) => commands::topics::run(&command),
        Command::Produce(options) => commands::produce::run(&options),
        Command::Consume(options) => commands::consume::run(&options),
        Command::Groups(command) => commands::groups::run(&command),
        Command::Configs(command) => commands::configs::run(&command),
        Command::Transactions(command) => commands::transactions::run(&command),
        Command::Offsets(options) => commands::offsets::run(&options),
        Command::DeleteRecords(options) => commands::delete_records::run(&options),
        Command::DumpLog(options) => commands::dump_log::run(&options),
        Command::Perf(command) => commands::perf::run(&command),
        Command::Topology(TopologyCommand::Draw(options)) => commands::topology::draw(&options),
        Command::Topology(TopologyCommand::Diff(options)) => commands::topology::diff(&options),
        Command::Completions(options) => commands::completions::run(&options),
    }
}
