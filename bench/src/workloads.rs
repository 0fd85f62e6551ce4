//! The topologies under measurement, written as a user would write them. Definitions: `bench/README.md`, "Workloads".

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use millstream::prelude::*;
use millstream::streams_core::Topology;

use crate::datasets::Dataset;

/// A workload of the harness that this program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Lines split into words, words counted.
    Wordcount,
    /// Clicks per page and minute.
    Clicks,
    /// Clicks per page in each minute that begins at a second.
    Hopping60,
    /// A filter and a change of the value.
    Passthrough,
    /// A stream joined with a table.
    Enrich,
    /// Two streams joined in time.
    Streamjoin,
    /// Visits per user and session.
    Sessions,
    /// A table joined with another by a foreign key.
    Fkjoin,
}

const ALL: [(&str, Workload); 8] = [
    ("wordcount", Workload::Wordcount),
    ("clicks", Workload::Clicks),
    ("hopping-60", Workload::Hopping60),
    ("passthrough", Workload::Passthrough),
    ("enrich", Workload::Enrich),
    ("streamjoin", Workload::Streamjoin),
    ("sessions", Workload::Sessions),
    ("fkjoin", Workload::Fkjoin),
];

impl Workload {
    /// The workload of that name.
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn named(name: &str) -> Result<Self> {
        let found = ALL.iter().find(|(known, _)| *known == name).map(|(_, workload)| *workload);
        found.ok_or_else(|| {
            anyhow!("workload {name:?} is not built: use one of {}", ALL.map(|(known, _)| known).join(", "))
        })
    }

    /// Its name in the harness.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(_, workload)| *workload == self).map_or("?", |(name, _)| name)
    }

    /// What it reads, the main input first.
    pub fn datasets(self) -> &'static [Dataset] {
        match self {
            Self::Wordcount => &[Dataset::Lines],
            Self::Clicks | Self::Hopping60 => &[Dataset::Clicks],
            Self::Passthrough => &[Dataset::Pass],
            Self::Enrich => &[Dataset::Purchases, Dataset::Customers],
            Self::Streamjoin => &[Dataset::Left, Dataset::Right],
            Self::Sessions => &[Dataset::Visits],
            Self::Fkjoin => &[Dataset::Orders, Dataset::Products],
        }
    }

    /// Records that go in, and records that its tasks process, when the main input has `n`.
    pub fn records(self, n: u64) -> (u64, u64) {
        let inputs: u64 = self.datasets().iter().map(|dataset| dataset.records(n)).sum();
        let internal = match self {
            Self::Wordcount => 8 * n,
            // A subscription and a response for each order.
            Self::Fkjoin => 2 * n,
            _ => 0,
        };
        (inputs, inputs + internal)
    }

    /// Whether its output is a table, of which the last value of each key counts.
    pub fn makes_table(self) -> bool {
        !matches!(self, Self::Passthrough | Self::Enrich | Self::Streamjoin)
    }

    /// The topology from topics `inputs`, in the order of the datasets, to topic `output`.
    ///
    /// # Errors
    /// A topic is missing.
    pub fn topology(self, inputs: &[String], output: &str) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        let input = |index: usize| inputs.get(index).with_context(|| format!("{} lacks an input topic", self.name()));
        let first = input(0)?;
        match self {
            Self::Wordcount => wordcount(&builder, first, output),
            Self::Clicks => {
                clicks(&builder, first, output, TimeWindows::of_size_ms(60_000).with_grace_ms(10_000), "clicks");
            }
            Self::Hopping60 => {
                let windows = TimeWindows::of_size_ms(60_000).advance_by_ms(1_000).with_grace_ms(10_000);
                clicks(&builder, first, output, windows, "hopping");
            }
            Self::Passthrough => builder
                .stream(first, Consumed::<Bytes, Bytes>::default())
                .filter(|_, value| passes(value))
                .map_values(|value| increment(value))
                .to(output, Produced::default()),
            Self::Enrich => enrich(&builder, first, input(1)?, output),
            Self::Streamjoin => streamjoin(&builder, first, input(1)?, output),
            Self::Sessions => sessions(&builder, first, output),
            Self::Fkjoin => fkjoin(&builder, first, input(1)?, output),
        }
        Ok(builder.build()?)
    }
}

fn wordcount(builder: &StreamsBuilder, input: &str, output: &str) {
    builder
        .stream(input, Consumed::<Bytes, String>::default())
        .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone(), Grouped::default())
        .count(Materialized::named("counts"))
        .to_stream()
        .to(output, Produced::inherited());
}

fn clicks(builder: &StreamsBuilder, input: &str, output: &str, windows: TimeWindows, store: &str) {
    builder
        .stream(input, Consumed::<String, Bytes>::default())
        .group_by_key(Grouped::default())
        .windowed_by(windows)
        .count(Materialized::named(store))
        .to_stream()
        .filter(|_, count| *count > 1000)
        .map(|page: Option<&Windowed<String>>, count| {
            let key = page.map(|page| format!("{}@{}", page.key, page.window.start)).unwrap_or_default();
            (key, *count)
        })
        .to(output, Produced::default());
}

fn enrich(builder: &StreamsBuilder, purchases: &str, customers: &str, output: &str) {
    let table = builder.table(customers, Consumed::<String, Bytes>::default(), Materialized::named("customers"));
    builder
        .stream(purchases, Consumed::<String, Bytes>::default())
        .join(&table, |purchase, customer| concat(purchase, customer), Joined::inherited())
        .to(output, Produced::default());
}

fn streamjoin(builder: &StreamsBuilder, left: &str, right: &str, output: &str) {
    let right = builder.stream(right, Consumed::<String, Bytes>::default());
    builder
        .stream(left, Consumed::<String, Bytes>::default())
        .join_stream(
            &right,
            |left, right| concat(left, right),
            JoinWindows::of_difference_ms(10_000).with_grace_ms(5_000),
            StreamJoined::inherited(),
        )
        .to(output, Produced::default());
}

fn sessions(builder: &StreamsBuilder, visits: &str, output: &str) {
    builder
        .stream(visits, Consumed::<String, Bytes>::default())
        .group_by_key(Grouped::default())
        .windowed_by(SessionWindows::of_gap_ms(5_000))
        .count(Materialized::named("sessions"))
        .to_stream()
        .map_nullable(|session: Option<&Windowed<String>>, count: Option<&i64>| {
            let session =
                session.map(|session| format!("{}@{}@{}", session.key, session.window.start, session.window.end));
            (session, count.copied())
        })
        .to(output, Produced::default());
}

fn fkjoin(builder: &StreamsBuilder, orders: &str, products: &str, output: &str) {
    let orders = builder.table(orders, Consumed::<String, Bytes>::default(), Materialized::unnamed());
    let products = builder.table(products, Consumed::<i64, Bytes>::default(), Materialized::unnamed());
    orders
        .join_foreign_key(
            &products,
            |_, order| order.first_chunk().map(|bytes| i64::from_be_bytes(*bytes)),
            |order, product| concat(order, product),
            TableJoined::new(),
            Materialized::with(StringSerde, BytesSerde).with_name("joined"),
        )
        .to_stream()
        .to(output, Produced::default());
}

/// Whether passthrough keeps a record with this value.
pub fn passes(value: &[u8]) -> bool {
    value.get(7).is_some_and(|byte| *byte >= 26)
}

fn increment(value: &[u8]) -> Bytes {
    let mut changed = value.to_vec();
    if let Some(word) = changed.first_chunk_mut::<8>() {
        *word = u64::from_be_bytes(*word).wrapping_add(1).to_be_bytes();
    }
    changed.into()
}

fn concat(one: &[u8], other: &[u8]) -> Bytes {
    [one, other].concat().into()
}
