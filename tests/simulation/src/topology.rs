//! The application: a word count, with hooks that tell the ledger what it processes.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::record::partition_for_key;
use streams_core::StreamsError;
use streams_dsl::{Consumed, Grouped, Materialized, Produced, Repartitioned, StreamsBuilder, Topology};

use crate::ledger::Ledger;
use crate::settings::Flaw;

/// `application.id`.
pub const APPLICATION: &str = "word-count";
/// Input topic.
pub const LINES: &str = "lines";
/// Output topic.
pub const COUNTS: &str = "counts";
/// The store.
pub const WORDS: &str = "words";
/// Topic between the two halves.
pub const REPARTITION: &str = "word-count-by-word-repartition";

/// One line of the input: `#<id> <word> <word> ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Different for each line sent.
    pub id: u64,
    /// Its words.
    pub words: Vec<String>,
}

impl Line {
    /// Reads a line; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let id = parts.next()?.strip_prefix('#')?.parse().ok()?;
        Some(Self { id, words: parts.map(str::to_owned).collect() })
    }

    /// The line as text.
    pub fn text(&self) -> String {
        let words: String = self.words.iter().flat_map(|word| [" ", word]).collect();
        format!("#{}{words}", self.id)
    }
}

/// Lines in, counts out.
///
/// # Errors
/// None, as long as the words fit together.
pub fn topology(ledger: &Arc<Mutex<Ledger>>, partitions: i32, flaw: Flaw) -> Result<Topology, StreamsError> {
    let builder = StreamsBuilder::new();
    let (lines, words) = (Arc::clone(ledger), Arc::clone(ledger));
    builder
        .stream(LINES, Consumed::<String, String>::default())
        // Word and, so that no two are alike, where it is from.
        .flat_map_values(move |text| {
            let Some(line) = Line::parse(text) else { return Vec::new() };
            lines.lock().processed_line(line.clone());
            let is_lost = |index: usize| flaw == Flaw::DropsWords && line.id % 7 == 3 && index == 1;
            line.words
                .iter()
                .enumerate()
                .filter(|(index, _)| !is_lost(*index))
                .map(|(index, word)| format!("{word} {}.{index}", line.id))
                .collect()
        })
        .select_key(|_, value| value.split(' ').next().unwrap_or_default().to_owned())
        .repartition(Repartitioned::default().named("by-word"))
        .peek(move |word: Option<&String>, value: Option<&String>| {
            let (Some(word), Some(value)) = (word, value) else { return };
            words.lock().processed_word(partition_for_key(word.as_bytes(), partitions), word, value);
        })
        .group_by_key(Grouped::default())
        .count(Materialized::named(WORDS))
        .to_stream()
        .to(COUNTS, Produced::default());
    builder.build()
}
