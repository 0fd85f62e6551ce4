//! The command line that both examples share, and refusals that name the nearest known word.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser};
use millstream::base::nearest;

use super::Failure;

/// Options of both examples.
#[derive(Args, Debug)]
pub struct Common {
    /// Files to read, one after another; `-` is standard input
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = clap::ValueHint::FilePath)]
    pub input: Vec<PathBuf>,
    /// Keep topics and state there, and go on from there next time; without it they are gone at the end
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use this Kafka or Millstream cluster instead of a broker in this process
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: Option<String>,
    /// On a cluster, read this topic instead of one that is made on first use; without --input, only what is in it
    #[arg(long, value_name = "NAME", requires = "bootstrap")]
    pub topic: Option<String>,
    /// A setting of Kafka Streams by name, such as statestore.cache.max.bytes=0; may be given many times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
}

/// Reads the command line; `None` if help was asked for and shown.
pub fn parse<T: Parser>() -> Result<Option<T>, Failure> {
    let error = match T::try_parse() {
        Ok(options) => return Ok(Some(options)),
        Err(error) => error,
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return super::print(&error.to_string()).map(|()| None);
    }
    let command = T::command();
    let look = "--help explains all options".to_owned();
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    if error.kind() == ErrorKind::UnknownArgument && unknown.starts_with('-') {
        let known = command.get_arguments().filter_map(|argument| argument.get_long());
        let known: Vec<String> = known.chain(["help"]).map(|long| format!("--{long}")).collect();
        let given = unknown.split('=').next().unwrap_or(unknown);
        let hint =
            nearest(given, known.iter().map(String::as_str)).map_or(look, |nearest| format!("did you mean {nearest}?"));
        return Err(Failure::usage(format!("unknown option {unknown}")).hint(hint));
    }
    // The parser's words without its usage block.
    let text = error.to_string();
    let words = text.split("Usage:").next().unwrap_or(&text).trim_start_matches("error: ");
    let what: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).take(2).collect();
    Err(Failure::usage(what.join(" ")).hint(look))
}
