//! The program `millstream`: starts the broker alone, looks into logs, topics and groups, and draws and compares topologies.
//!
//! Reads options ([`options`]), calls one command ([`commands`]), and says what went wrong in at most three lines
//! ([`report`]). Knows no format and no protocol itself.

mod commands;
mod options;
mod report;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use options::{Command, GroupsCommand, TopicsCommand, TopologyCommand};
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
        Command::DumpLog(options) => commands::dump_log::run(&options),
        Command::Topics(TopicsCommand::List(cluster)) => commands::topics::list(&cluster),
        Command::Topics(TopicsCommand::Create(options)) => commands::topics::create(&options),
        Command::Topics(TopicsCommand::Describe(options)) => commands::topics::describe(&options),
        Command::Topics(TopicsCommand::Delete(options)) => commands::topics::delete(&options),
        Command::Groups(GroupsCommand::List(cluster)) => commands::groups::list(&cluster),
        Command::Groups(GroupsCommand::Describe(options)) => commands::groups::describe(&options),
        Command::Topology(TopologyCommand::Draw(options)) => commands::topology::draw(&options),
        Command::Topology(TopologyCommand::Diff(options)) => commands::topology::diff(&options),
    }
}
