//! What both examples need around their topology: options, a place to run, lines to feed, progress to show, errors to explain.
//!
//! None of it belongs to a topology; a program of your own needs `home.rs` at most.

#![allow(dead_code, reason = "each example uses its part")]

pub mod feeder;
pub mod home;
pub mod options;
pub mod screen;
pub mod source;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use millstream::EmbeddedError;
use millstream::client::ClientError;
use millstream::prelude::StreamsError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why an example stopped: what is wrong, and what to do about it. At most three lines.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something was tried and failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command line was wrong; nothing was tried.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// With one more line: what to do.
    #[must_use]
    pub fn hint(mut self, line: impl fmt::Display) -> Self {
        self.message = format!("{}\n{line}", self.message.trim_end());
        self
    }
}

/// How an error reaches the user, and what helps: full disks and unreachable brokers look alike wherever they are met.
fn explained(message: String) -> Failure {
    let failure = Failure::new(&message);
    if message.contains("No space left on device") || message.contains("os error 28") {
        failure.hint("Free some space and start again with the same --data: nothing that was acknowledged is lost.")
    } else if message.contains("no broker at") {
        failure
            .hint("Start one with `millstream broker`, correct --bootstrap HOST:PORT, or leave it out to run embedded.")
    } else {
        failure
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        explained(error.to_string())
    }
}

impl From<StreamsError> for Failure {
    fn from(error: StreamsError) -> Self {
        explained(error.to_string())
    }
}

impl From<EmbeddedError> for Failure {
    fn from(error: EmbeddedError) -> Self {
        explained(error.to_string())
    }
}

/// Runs an example; a failure becomes at most three lines on stderr and a non-zero exit.
pub fn run(name: &str, example: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    // Silent unless asked: what matters to the user is shown by the example itself.
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("MILLSTREAM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
    match example() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let lines = failure.message.lines().map(str::trim).filter(|line| !line.is_empty()).take(3);
            for (index, line) in lines.enumerate() {
                let lead = if index == 0 { format!("{name}: ") } else { "  ".to_owned() };
                // There is nobody left to tell if stderr is closed.
                let _ = writeln!(io::stderr(), "{lead}{line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Prints the final result on stdout; a reader that has seen enough (`| head`) is no failure.
pub fn print(result: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(result.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(explained(format!("the result cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
