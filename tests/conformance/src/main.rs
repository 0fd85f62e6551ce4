//! `conformance`: runs scenario files against Millstream and tells what differs from the JVM's answers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::{Strictness, check_all, files, report};
use serde_json::Value as Json;

/// Runs recorded scenarios of Kafka Streams on Millstream and compares: records of every topic byte for byte, stores, describe(), errors.
/// Each scenario runs twice, with the default cache and without. Exit code 0 if all passed, 1 if one failed, 2 if a file could not be read.
#[derive(Parser)]
#[command(after_help = "Examples:
  conformance                                 the scenarios that come with it
  conformance scenarios/ random/dev-1.jsonl   files and folders
  conformance --name join --strict-describe   some of them, describe() to the byte")]
struct Arguments {
    /// Files (.json: one scenario, .jsonl: one a line, either with .gz) and folders; none: the scenarios that come with the program
    paths: Vec<PathBuf>,
    /// Compare describe() byte for byte, in the order in which the JVM prints
    #[arg(long)]
    strict_describe: bool,
    /// Compare the order of records over all topics, not only within each
    #[arg(long)]
    strict_order: bool,
    /// Only scenarios whose "covers" has this tag
    #[arg(long, value_name = "TAG")]
    only: Option<String>,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "PART")]
    name: Option<String>,
    /// Print only the names of those that failed
    #[arg(long)]
    list_failed: bool,
}

impl Arguments {
    fn selects(&self, scenario: &Json) -> bool {
        let covers =
            |tag: &String| scenario["covers"].as_array().is_some_and(|tags| tags.iter().any(|known| known == tag));
        let named = |part: &String| scenario["name"].as_str().is_some_and(|name| name.contains(part.as_str()));
        self.only.as_ref().is_none_or(covers) && self.name.as_ref().is_none_or(named)
    }

    fn scenarios(&self) -> Result<Vec<Json>, String> {
        if self.paths.is_empty() {
            return files::own();
        }
        let mut scenarios = Vec::new();
        for path in &self.paths {
            scenarios.extend(files::read(path)?);
        }
        Ok(scenarios)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut scenarios = match arguments.scenarios() {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    scenarios.retain(|scenario| arguments.selects(scenario));
    if scenarios.is_empty() {
        eprintln!("error: no scenario was selected");
        return ExitCode::from(2);
    }
    let strictness = Strictness { describe: arguments.strict_describe, order: arguments.strict_order };
    // A panic is told as the difference of its scenario.
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = check_all(&scenarios, strictness);
    print!("{}", report::text(&outcome, arguments.list_failed));
    ExitCode::from(u8::from(!outcome.failures.is_empty()))
}
