//! The two sides as processes: an application is closed by the end of its stdin.

use std::fmt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Move;

/// Who runs the application.
pub enum Side {
    /// Kafka Streams.
    Java { class_path: String },
    /// This program.
    Rust,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Java { .. } => "the JVM",
            Self::Rust => "Millstream",
        })
    }
}

/// A running application; killed if it is dropped without being stopped.
pub struct Running(Child);

impl Side {
    /// Starts the application.
    pub fn start(&self, application: &Move<'_>) -> Result<Running> {
        let mut command = match self {
            Self::Java { class_path } => {
                let mut command = Command::new("java");
                command.args(["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
                command.args(["-cp", class_path, "Migration"]);
                command
            }
            Self::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("app");
                command
            }
        };
        let state = application.state.join(self.to_string().replace(' ', "-"));
        command.args([application.topology, application.bootstrap, &application.application_id]).arg(state);
        let child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("starting {self}"))?;
        Ok(Running(child))
    }
}

impl Running {
    /// Closes the application and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "the application ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
