//! `millstream completions`: what a shell needs to complete this command line.

use crate::options::{CompletionsOptions, command_line};
use crate::report::{Failure, print};

/// Prints the shell's script.
pub fn run(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command_line(), "millstream", &mut script);
    print(&String::from_utf8_lossy(&script))
}
