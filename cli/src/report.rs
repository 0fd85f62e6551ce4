//! What the user reads: results on stdout, and a failure in at most three lines on stderr.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

const LINES_MAX: usize = 3;

/// Why a command did not do what it was asked: what is wrong, then what to do.
#[derive(Clone, Debug)]
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
    pub fn hint(mut self, line: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(line);
        self
    }

    /// 1 for a failure, 2 for a wrong command line.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.message.lines().map(str::trim).filter(|line| !line.is_empty());
        for (index, line) in lines.take(LINES_MAX).enumerate() {
            match index {
                0 => write!(f, "millstream: {line}")?,
                _ => write!(f, "\n  {line}")?,
            }
        }
        Ok(())
    }
}

impl From<broker::BrokerError> for Failure {
    fn from(error: broker::BrokerError) -> Self {
        match error {
            broker::BrokerError::Config(message) => Self::usage(message),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<client::ClientError> for Failure {
    fn from(error: client::ClientError) -> Self {
        let unreachable = matches!(error, client::ClientError::Unreachable { .. });
        let failure = Self::new(error.to_string());
        if unreachable {
            return failure.hint("start one with `millstream broker`, or correct --bootstrap HOST:PORT");
        }
        failure
    }
}

/// Prints `text` and makes sure that it is out.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(|_| ())
}

/// Whether output goes on: a reader that has seen enough (`| head`) is no failure.
pub fn written(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot write the output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_at_most_three_lines() {
        let failure = Failure::new("one\n\n two \nthree\nfour");
        assert_eq!(failure.to_string(), "millstream: one\n  two\n  three");
    }
}
