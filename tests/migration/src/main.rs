//! Moves running applications between Kafka Streams on the JVM and Millstream, in place: the same application id, the same internal topics, the
//! committed offsets and changelogs of the other side. `run.sh` starts Apache Kafka and this program.

mod input;
mod side;
mod topologies;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use millstream::base::{Clock, SystemClock, TopicPartition};
use millstream::client::admin::NewTopic;
use millstream::client::consumer::{Consumer, ConsumerConfig, OffsetSpec};
use millstream::prelude::*;
use side::Side;

/// Longest wait for a result.
const PATIENCE_MS: i64 = 90_000;

/// Moves applications between the JVM and Millstream half way, and compares their results with a plain count.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every topology, from the JVM to Millstream and back the other way
    Check {
        #[arg(long)]
        bootstrap: String,
        /// Class path with Kafka Streams and Migration.class
        #[arg(long)]
        class_path: String,
        /// Folder for local state
        #[arg(long)]
        state: std::path::PathBuf,
        /// Only topologies whose name contains this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// One topology on Millstream, until stdin ends
    App { topology: String, bootstrap: String, application_id: String, state: std::path::PathBuf },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Check { bootstrap, class_path, state, only } => check(&bootstrap, &class_path, &state, &only),
        Command::App { topology, bootstrap, application_id, state } => {
            app(&topology, &bootstrap, &application_id, &state)
        }
    }
}

fn app(topology: &str, bootstrap: &str, application_id: &str, state: &std::path::Path) -> Result<()> {
    let client = Client::connect(bootstrap, ClientConfig::default())?;
    let config = StreamsConfig::new(application_id)
        .with("state.dir", state.display())?
        .with("commit.interval.ms", 100)?
        .with("auto.offset.reset", "earliest")?;
    let app = Streams::start(topologies::build(topology, application_id)?, config, client)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    app.close()?;
    Ok(())
}

fn check(bootstrap: &str, class_path: &str, state: &std::path::Path, only: &str) -> Result<()> {
    let clock = SystemClock::new();
    let java = Side::Java { class_path: class_path.to_owned() };
    for (number, (first, second)) in [(&java, &Side::Rust), (&Side::Rust, &java)].into_iter().enumerate() {
        for topology in topologies::NAMES.into_iter().filter(|name| name.contains(only)) {
            let begin = clock.now();
            let application_id = format!("{topology}-{number}-{}", begin.wall_ms);
            let application = Move { bootstrap, topology, application_id, state, clock: &clock };
            application.run(first, second).with_context(|| format!("{topology} from {first} to {second}"))?;
            let seconds = (clock.now().ticks_ms - begin.ticks_ms) / 1000;
            println!("ok    {topology} from {first} to {second} ({seconds} s)");
        }
    }
    Ok(())
}

/// One application that changes sides.
struct Move<'a> {
    bootstrap: &'a str,
    topology: &'a str,
    /// Another one in every run: nothing is taken over from an earlier one.
    application_id: String,
    state: &'a std::path::Path,
    clock: &'a SystemClock,
}

impl Move<'_> {
    fn run(&self, first: &Side, second: &Side) -> Result<()> {
        let client = Client::connect(self.bootstrap, ClientConfig::default())?;
        let admin = Admin::new(client.clone());
        let topics = topologies::topics(&self.application_id);
        let new: Vec<NewTopic> = topics.iter().map(|topic| NewTopic::new(topic.as_str(), 3)).collect();
        for (_, created) in block_on(admin.create_topics(&new))? {
            created?;
        }
        let case = input::case(self.topology, &topics, self.clock.now().wall_ms - 600_000);
        let [one, two] = &case.halves;
        let producer = Producer::new(client.clone(), ProducerConfig::default())?;
        produce(&producer, one)?;
        // The first side ends in the middle: part of what it has to do is there when it starts, the rest comes when it is gone.
        let running = first.start(self)?;
        let seen = self.results(&client, |results| results.len() * 4 > case.expected.len())?;
        running.stop()?;
        ensure!(seen != case.expected, "the first side had nothing left to hand over");
        let internal = self.internal_topics(&admin)?;
        produce(&producer, two)?;
        let running = second.start(self)?;
        let results = self.results(&client, |results| *results == case.expected)?;
        running.stop()?;
        let differing = case.expected.iter().filter(|(key, value)| results.get(*key) != Some(value)).count();
        ensure!(results == case.expected, "{differing} of {} results differ", case.expected.len());
        let after = self.internal_topics(&admin)?;
        ensure!(internal == after, "the internal topics were {internal:?} and are {after:?}");
        Ok(())
    }

    fn internal_topics(&self, admin: &Admin) -> Result<Vec<String>> {
        let prefix = format!("{}-", self.application_id);
        let topics = block_on(admin.list_topics())?;
        let mut names: Vec<String> =
            topics.iter().map(|topic| topic.name.to_string()).filter(|name| name.starts_with(&prefix)).collect();
        names.sort();
        ensure!(!names.is_empty(), "there are no internal topics");
        Ok(names)
    }

    /// The last value of every key of the output, as soon as `is_enough`, or as they are when that takes too long.
    fn results(
        &self,
        client: &Client,
        is_enough: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Result<BTreeMap<String, String>> {
        let mut consumer = Consumer::new(client.clone(), ConsumerConfig::default())?;
        let output = format!("{}-output", topologies::data(&self.application_id));
        let partitions: Vec<TopicPartition> =
            (0..3).map(|partition| TopicPartition::new(output.as_str(), partition)).collect();
        consumer.assign(partitions.clone())?;
        consumer.seek_to(&partitions, OffsetSpec::Earliest)?;
        let (mut results, give_up) = (BTreeMap::new(), self.clock.now().ticks_ms + PATIENCE_MS);
        while self.clock.now().ticks_ms < give_up && !is_enough(&results) {
            for record in consumer.poll_blocking(Duration::from_millis(200))?.iter() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let Some(key) = &record.key else { bail!("a result without key") };
                match &record.value {
                    Some(value) => results.insert(text(key), text(value)),
                    None => results.remove(&text(key)),
                };
            }
        }
        consumer.close_blocking()?;
        Ok(results)
    }
}

fn produce(producer: &Producer, records: &[input::Input]) -> Result<()> {
    let mut waiting = Vec::with_capacity(records.len());
    for record in records {
        let timestamp = record.timestamp;
        let record = ProducerRecord::to(record.topic.as_str()).key(record.key.clone()).value(record.value.clone());
        waiting.push(producer.send(record.timestamp(timestamp)));
    }
    waiting.into_iter().try_for_each(|sent| block_on(sent).map(|_| ()))?;
    Ok(())
}
