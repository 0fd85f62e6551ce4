//! Counts the words of texts: the "hello world" of stream processing.
//!
//! Lines go into a topic, a topology turns them into counts, and the final counts go to stdout, `word<TAB>count` a line. Everything runs in
//! this process unless `--bootstrap` names a cluster; with `--data` it goes on next time from where it was.
//!
//!     cargo run --release --example word_count -- --input FILE

mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use millstream::base::metrics::Metrics;
use millstream::prelude::*;
use support::feeder::Feeder;
use support::home::Home;
use support::options::{self, Common};
use support::screen::{Screen, grouped};
use support::source::Source;
use support::{Failure, print, run};

const LINES: &str = "text-lines";
const COUNTS: &str = "word-counts";

/// Lines in, counts out.
fn topology(lines: &str, screen: Screen) -> Result<Topology, StreamsError> {
    let builder = StreamsBuilder::new();
    builder
        .stream(lines, Consumed::<String, String>::default())
        .flat_map_values(|line| words(line))
        .group_by(|_, word| word.clone(), Grouped::default())
        .count(Materialized::named("counts"))
        .to_stream()
        .peek(move |word, count| screen.show(0, word.map_or("", String::as_str), count.copied().unwrap_or(0)))
        .to(COUNTS, Produced::default());
    builder.build()
}

/// The runs of letters and digits, in lower case.
fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Counts the words of texts: final counts on stdout, progress on stderr.
#[derive(Parser)]
#[command(
    name = "word_count",
    after_help = "Without --input it counts what is piped into it, or else the text that comes with Millstream.\n\n\
        Examples:\n  \
        word_count --input book.txt\n  \
        word_count --input a.txt b.txt --data ./counts     # again with c.txt: c.txt is added\n  \
        word_count --input book.txt --bootstrap localhost:9092"
)]
struct Options {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    run("word_count", || match options::parse::<Options>()? {
        Some(options) => count(&options.common),
        None => Ok(()),
    })
}

fn count(options: &Common) -> Result<(), Failure> {
    let metrics = Metrics::default();
    let mut sources = match (&options.topic, options.input.is_empty()) {
        (Some(_), true) => Vec::new(),
        _ => Source::from_input(&options.input, || Source::file(&shipped_text()))?,
    };
    let (screen, ticking) = Screen::start("word_count", &metrics);
    screen.starting(options);
    let home = Home::open(options)?;
    let lines = options.topic.as_deref().unwrap_or(LINES);
    if options.topic.is_none() {
        home.create_topic(lines, 4, &[])?;
    }
    home.create_topic(COUNTS, 4, &[("cleanup.policy", "compact")])?;
    let config = home.config("word-count", options)?;
    let app = Streams::builder(topology(lines, screen.clone())?, config, home.client())
        .with_metrics(metrics)
        .on_state_change(screen.on_state_change())
        .start()?;

    let mut feeder = Feeder::open(&home, lines)?;
    for source in sources.iter_mut().filter(|source| source.is_resumable) {
        source.check_utf8(feeder.position(source))?;
    }
    for source in &mut sources {
        feeder.feed(source, &screen, Source::utf8)?;
    }
    app.wait_until_caught_up()?;
    let mut counts = app
        .with_store("counts", |store: &TimestampedKeyValueStore<String, i64>| {
            store.all().map(|entry| entry.map(|(word, count)| (word, count.value))).collect::<Result<Vec<_>, _>>()
        })?
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    app.close()?;
    home.close()?;

    screen.done(ticking, &format!("{} different words", grouped(counts.len() as u64)));
    counts.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    print(&counts.iter().map(|(word, count)| format!("{word}\t{count}\n")).collect::<String>())
}

/// The Jargon File, in the public domain.
fn shipped_text() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/jargon-file-4.4.7.txt"))
}
