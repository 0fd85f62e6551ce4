//! The topologies under measurement, written as a user would write them. Definitions: `bench/README.md`, "Workloads".

use anyhow::{Result, anyhow};
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
    /// A filter and a change of the value.
    Passthrough,
}

impl Workload {
    /// The workload of that name.
    ///
    /// # Errors
    /// There is none; the message lists those that there are.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "wordcount" => Ok(Self::Wordcount),
            "clicks" => Ok(Self::Clicks),
            "passthrough" => Ok(Self::Passthrough),
            _ => Err(anyhow!("workload {name:?} is not built: use wordcount, clicks or passthrough")),
        }
    }

    /// What it reads.
    pub fn dataset(self) -> Dataset {
        match self {
            Self::Wordcount => Dataset::Lines,
            Self::Clicks => Dataset::Clicks,
            Self::Passthrough => Dataset::Pass,
        }
    }

    /// The topology from topic `input` to topic `output`.
    ///
    /// # Errors
    /// Never, unless the DSL refuses it.
    pub fn topology(self, input: &str, output: &str) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        match self {
            Self::Wordcount => builder
                .stream(input, Consumed::<Bytes, String>::default())
                .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .group_by(|_, word| word.clone(), Grouped::default())
                .count(Materialized::named("counts"))
                .to_stream()
                .to(output, Produced::inherited()),
            Self::Clicks => builder
                .stream(input, Consumed::<String, Bytes>::default())
                .group_by_key(Grouped::default())
                .windowed_by(TimeWindows::of_size_ms(60_000).with_grace_ms(10_000))
                .count(Materialized::named("clicks"))
                .to_stream()
                .filter(|_, count| *count > 1000)
                .map(|page: Option<&Windowed<String>>, count| {
                    let key = page.map(|page| format!("{}@{}", page.key, page.window.start)).unwrap_or_default();
                    (key, *count)
                })
                .to(output, Produced::default()),
            Self::Passthrough => builder
                .stream(input, Consumed::<Bytes, Bytes>::default())
                .filter(|_, value| passes(value))
                .map_values(|value| increment(value))
                .to(output, Produced::default()),
        }
        Ok(builder.build()?)
    }
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
