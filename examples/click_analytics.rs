//! Counts clicks per page and minute, and raises an alert where a page has more than it should.
//!
//! Time is that of the clicks. A minute takes late clicks until 30 seconds after its end, in the time of the latest click seen; later ones are
//! dropped. Final counts go to stdout, `window-start-ms<TAB>page<TAB>count` a line; alerts to the topic `alerts`; progress to stderr.
//!
//!     cargo run --release --example click_analytics -- --input CLICKS.jsonl

#[path = "support/clicks.rs"]
mod clicks;
mod support;

use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use clicks::{Click, ClickSerde, ClickTime, made_up};
use millstream::base::metrics::Metrics;
use millstream::prelude::*;
use millstream::streams_core::processor::handlers::{DeserializationHandler, ErrorContext, ErrorResponse};
use millstream::streams_core::serde::TimeWindowedSerde;
use millstream::streams_core::store::Stores;
use serde::{Deserialize, Serialize};
use support::feeder::Feeder;
use support::home::Home;
use support::options::{self, Common};
use support::screen::Screen;
use support::source::Source;
use support::{Failure, print, run};

const CLICKS: &str = "clicks";
const COUNTS: &str = "page-counts";
const ALERTS: &str = "alerts";
const MINUTE_MS: i64 = 60_000;
const GRACE_MS: i64 = 30_000;
/// All minutes are kept, since all are printed at the end.
const FOR_EVER_MS: i64 = 1000 * 365 * 24 * 60 * MINUTE_MS;

/// A page has had too many clicks in the minute from `window_start_ms`: `count` when that was noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Alert {
    page: String,
    window_start_ms: i64,
    count: i64,
}

/// Lets the first count of each page and window through as an alert: counts rise on, the alert was given.
#[derive(Default)]
struct OnceAWindow {
    alerted: Option<Rc<KeyValueStore<Windowed<String>, i64>>>,
}

impl Processor<Windowed<String>, i64, String, Alert> for OnceAWindow {
    fn init(&mut self, ctx: &mut ProcessorContext<String, Alert>) -> Result<(), BoxError> {
        self.alerted = Some(ctx.key_value_store("alerted")?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Windowed<String>, i64>,
        ctx: &mut ProcessorContext<String, Alert>,
    ) -> Result<(), BoxError> {
        let (Some(alerted), Some(page), Some(count)) = (&self.alerted, record.key, record.value) else { return Ok(()) };
        if alerted.put_if_absent(&page, count)?.is_some() {
            return Ok(());
        }
        let alert = Alert { page: page.key.clone(), window_start_ms: page.window.start, count };
        ctx.forward(Record {
            key: Some(page.key),
            value: Some(alert),
            timestamp: record.timestamp,
            headers: record.headers,
        })
    }
}

/// Counts the lines that are no clicks and leaves them out.
#[derive(Clone, Default)]
struct Skipped(Arc<AtomicU64>);

impl DeserializationHandler for Skipped {
    fn handle(&self, _: &ErrorContext<'_>, _: &(dyn Error + 'static)) -> ErrorResponse {
        self.0.fetch_add(1, Ordering::Relaxed);
        ErrorResponse::resume()
    }
}

/// Clicks in, counts and alerts out.
fn topology(clicks: &str, threshold: i64, screen: Screen) -> Result<Topology, StreamsError> {
    let builder = StreamsBuilder::new();
    let counts = builder
        .stream(clicks, Consumed::<String, Click>::with(StringSerde, ClickSerde).with_timestamp_extractor(ClickTime))
        .map_values(|click| click.page.clone())
        .group_by(|_, page| page.clone(), Grouped::default())
        .windowed_by(TimeWindows::of_size_ms(MINUTE_MS).with_grace_ms(GRACE_MS))
        .count(Materialized::named("counts").with_retention_ms(FOR_EVER_MS))
        .to_stream();
    counts
        .peek(move |page, count| {
            if let (Some(page), Some(count)) = (page, count) {
                screen.show(page.window.start, &page.key, *count);
            }
        })
        .to(COUNTS, Produced::inherited());

    builder.add_state_store(Stores::key_value(
        "alerted",
        TimeWindowedSerde::new(StringSerde, Some(MINUTE_MS)),
        I64Serde,
    ));
    counts
        .filter(move |_, count| *count > threshold)
        .process(OnceAWindow::default, &["alerted"])
        .to(ALERTS, Produced::with(StringSerde, Json::new()));
    builder.build()
}

/// Counts clicks per page and minute: final counts on stdout, progress and the top pages of the latest minute on stderr.
#[derive(Parser)]
#[command(
    name = "click_analytics",
    after_help = "Clicks are lines like {\"page\":\"/a\",\"user\":\"u1\",\"ts\":1700000000000}. Without --input it counts what is piped\n\
        into it, or else clicks of its own.\n\n\
        Examples:\n  \
        click_analytics --events 1000000\n  \
        click_analytics --input clicks.jsonl --threshold 100 --data ./clicks\n  \
        click_analytics --input clicks.jsonl --bootstrap localhost:9092"
)]
struct Options {
    #[command(flatten)]
    common: Common,
    /// Alert when a page has more clicks than this in a minute
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    threshold: i64,
    /// How many clicks to make up when there is no input
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    events: u64,
    /// What the made-up clicks follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    run("click_analytics", || match options::parse::<Options>()? {
        Some(options) => analyse(&options),
        None => Ok(()),
    })
}

fn analyse(options: &Options) -> Result<(), Failure> {
    let metrics = Metrics::default();
    let mut sources = match (&options.common.topic, options.common.input.is_empty()) {
        (Some(_), true) => Vec::new(),
        _ => Source::from_input(&options.common.input, || Ok(made_up(options.events, options.seed)))?,
    };
    let (screen, ticking) = Screen::start("click_analytics", &metrics);
    screen.starting(&options.common);
    let home = Home::open(&options.common)?;
    let clicks = options.common.topic.as_deref().unwrap_or(CLICKS);
    if options.common.topic.is_none() {
        home.create_topic(clicks, 1, &[])?;
    }
    home.create_topic(COUNTS, 1, &[("cleanup.policy", "compact")])?;
    home.create_topic(ALERTS, 1, &[])?;
    let skipped = Skipped::default();
    let config = home.config("click-analytics", &options.common)?.with_deserialization_handler(skipped.clone());
    let topology = topology(clicks, options.threshold, screen.clone())?;
    let app = Streams::builder(topology, config, home.client())
        .with_metrics(metrics.clone())
        .on_state_change(screen.on_state_change())
        .start()?;

    let mut feeder = Feeder::open(&home, clicks)?;
    if feeder.partitions() != 1 {
        return Err(Failure::new(format!(
            "topic {clicks} has {} partitions: which click is late would depend on chance",
            feeder.partitions()
        ))
        .hint("Use a topic with one partition: --topic NAME."));
    }
    for source in &mut sources {
        feeder.feed(source, &screen, |_, _| Ok(()))?;
    }
    app.wait_until_caught_up()?;
    let mut counts = app
        .with_store("counts", |store: &TimestampedWindowStore<String, i64>| {
            store.all()?.map(|entry| entry.map(|(page, count)| (page.window.start, page.key, count.value))).collect()
        })?
        .into_iter()
        .collect::<Result<Vec<Vec<(i64, String, i64)>>, StreamsError>>()?
        .concat();
    app.close()?;
    home.close()?;

    let skipped = skipped.0.load(Ordering::Relaxed);
    let dropped = metrics.total("stream-task-metrics", "dropped-records-total") - skipped;
    screen.done(ticking, &format!("dropped {dropped} late clicks, skipped {skipped} lines that are no clicks"));
    counts.sort_unstable();
    print(&counts.iter().map(|(start, page, count)| format!("{start}\t{page}\t{count}\n")).collect::<String>())
}
