//! Refusals of command lines, in our words: what is wrong, then the nearest known word or where to look.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::report::Failure;

/// What is wrong, in the words of the parser but without its usage block; then the nearest known word or where to look.
pub(super) fn refusal(root: &clap::Command, arguments: &[OsString], error: &clap::Error) -> Failure {
    let (command, path) = innermost(root, arguments);
    let look = format!("`{path} --help` explains all of them");
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let unknown = given(ContextKind::InvalidArg).unwrap_or_default();
            let known =
                command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
            let known: Vec<String> = known.chain(["--help".to_owned()]).collect();
            let what = if unknown.starts_with('-') { "option" } else { "argument" };
            Failure::usage(format!("unknown {what} {unknown} for `{path}`")).hint(&did_you_mean(unknown, &known, &look))
        }
        ErrorKind::InvalidSubcommand => {
            let unknown = given(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
            Failure::usage(format!("unknown command {unknown} for `{path}`"))
                .hint(&did_you_mean(unknown, &known, &look))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            Failure::usage(format!("`{path}` needs a command: {}", known.join(", "))).hint(&look)
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(missing)) => missing.join(", "),
                _ => String::new(),
            };
            Failure::usage(format!("`{path}` lacks {missing}")).hint(&look)
        }
        ErrorKind::InvalidValue if given(ContextKind::InvalidValue) == Some("") => {
            Failure::usage(format!("{} needs a value", given(ContextKind::InvalidArg).unwrap_or_default())).hint(&look)
        }
        ErrorKind::ArgumentConflict => {
            let one = given(ContextKind::InvalidArg).unwrap_or_default();
            let other = match error.get(ContextKind::PriorArg) {
                Some(ContextValue::String(other)) => Some(other.as_str()),
                Some(ContextValue::Strings(others)) => others.first().map(String::as_str),
                _ => None,
            };
            let what = match other {
                Some(other) if other != one => format!("{one} and {other} cannot be given together"),
                _ => format!("{one} may be given once only"),
            };
            Failure::usage(what).hint(&look)
        }
        ErrorKind::InvalidValue => {
            let option = given(ContextKind::InvalidArg).and_then(|option| option.split(' ').next()).unwrap_or_default();
            let value = given(ContextKind::InvalidValue).unwrap_or_default();
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) => known.clone(),
                _ => Vec::new(),
            };
            let otherwise = format!("write one of {}", known.join(", "));
            Failure::usage(format!("{option} {value}: there is no such value"))
                .hint(&did_you_mean(value, &known, &otherwise))
        }
        ErrorKind::ValueValidation => {
            let option = given(ContextKind::InvalidArg).and_then(|option| option.split(' ').next()).unwrap_or_default();
            let value = given(ContextKind::InvalidValue).unwrap_or_default();
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            Failure::usage(format!("{option} {value}: {reason}")).hint(&look)
        }
        _ => {
            let text = error.to_string();
            let words = text.split("Usage:").next().unwrap_or(&text).trim_start_matches("error: ");
            let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| useful(line)).collect();
            Failure::usage(lines.first().copied().unwrap_or("the command line is not understood")).hint(&look)
        }
    }
}

fn useful(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("For more information")
}

fn did_you_mean(unknown: &str, known: &[String], otherwise: &str) -> String {
    let unknown = unknown.split('=').next().unwrap_or(unknown);
    match base::nearest(unknown, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => otherwise.to_owned(),
    }
}

/// The command that the arguments had come to, and how it is called.
fn innermost<'a>(root: &'a clap::Command, arguments: &[OsString]) -> (&'a clap::Command, String) {
    let mut command = root;
    let mut path = root.get_name().to_owned();
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        let Some(next) = command.find_subcommand(argument) else { break };
        command = next;
        path = format!("{path} {argument}");
    }
    (command, path)
}
