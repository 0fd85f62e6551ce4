//! `cargo run --release -p xtask -- tidy`: checks that the workspace keeps its layout. `.. -- parity`: writes the table of Kafka Streams' API.
//! The tests run the same checks.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

mod layers;
mod parity;
mod sources;

/// Every breach of the layout, one line each; an empty list is a tidy workspace.
fn tidy(root: &Path) -> Result<Vec<String>> {
    let mut breaches = layers::check(root)?;
    breaches.extend(sources::check(root)?);
    Ok(breaches)
}

/// Files that everything passes through; their length is printed so that growth is seen.
const CROSSROADS: [&str; 5] = [
    "broker/src/dispatch.rs",
    "storage/src/log/partition.rs",
    "streams-core/src/runtime/stream_thread.rs",
    "streams-core/src/task/task.rs",
    "streams-dsl/src/kstream.rs",
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => report_tidy(),
        ["parity"] => match parity::run(root()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: cargo run --release -p xtask -- tidy|parity");
            ExitCode::from(2)
        }
    }
}

fn report_tidy() -> ExitCode {
    match tidy(root()) {
        Ok(breaches) => {
            for breach in &breaches {
                println!("{breach}");
            }
            for file in CROSSROADS {
                let lines = std::fs::read_to_string(root().join(file)).map_or(0, |text| text.lines().count());
                println!("{lines:5} lines  {file}");
            }
            if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("tidy could not run: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let breaches = tidy(root()).expect("the workspace can be read");
        assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
    }
}
