//! Runs the simulation from seeds: `cargo run --release -p simulation -- --seeds 200`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use simulation::{Flaw, Report, run};

/// Runs broker, clients and a word count on a simulated clock, network and disk, and crashes them.
#[derive(Parser)]
#[command(name = "simulation")]
struct Options {
    /// How many seeds to run; 200, or 1 if --seed is given.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed; 0 if not given.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Print every event, and what the crates log.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.verbose {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .without_time()
            .init();
    }
    let seeds = options.seeds.unwrap_or(if options.seed.is_some() { 1 } else { 200 });
    let first = options.seed.unwrap_or(0);
    let is_terminal = std::io::stderr().is_terminal();
    let (mut steps, mut crashes, mut longest_start_ms) = (0, 0, 0);
    for done in 0..seeds {
        let report = run(first.wrapping_add(done), Flaw::None, options.verbose);
        if let Some(violation) = &report.violation {
            tell_failure(&report, violation);
            return ExitCode::FAILURE;
        }
        steps += report.steps;
        crashes += u64::from(report.crashes);
        longest_start_ms = longest_start_ms.max(report.longest_start_ms);
        if options.verbose {
            eprintln!(
                "seed {}: {} steps, {} crashes, trace {:016x}",
                report.seed, report.steps, report.crashes, report.trace_hash
            );
        } else if is_terminal {
            eprint!("\r{}/{seeds} seeds, {steps} steps, {crashes} crashes", done + 1);
            // A lost line of progress is no reason to stop.
            let _ = std::io::stderr().flush();
        } else if (done + 1) % 100 == 0 {
            eprintln!("{}/{seeds} seeds, {steps} steps, {crashes} crashes", done + 1);
        }
    }
    if is_terminal {
        eprintln!();
    }
    println!(
        "{} seeds, {steps} steps, {crashes} crashes: nothing wrong (longest start {longest_start_ms} ms of simulated time)",
        seeds
    );
    ExitCode::SUCCESS
}

fn tell_failure(report: &Report, violation: &str) {
    eprintln!("\nThe last events of seed {}:", report.seed);
    for event in &report.last_events {
        eprintln!("  {event}");
    }
    eprintln!("seed {}: {violation}", report.seed);
    eprintln!("again with: cargo run --release -p simulation -- --seed {} --verbose", report.seed);
}
