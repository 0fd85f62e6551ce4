//! What the application on this state directory was when it last started: the note `topology.json` in it. With it a changed
//! topology is compared exactly; without it, as after Kafka Streams on the JVM or on a new disk, the topics must tell.

use serde::{Deserialize, Serialize};

use super::state_directory::StateDirectory;
use crate::error::StreamsError;
use crate::topology::{BuiltTopology, TopologyDescription};

const FILE: &str = "topology.json";
const VERSION: u32 = 1;

/// A topology as far as its state is concerned.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownTopology {
    version: u32,
    /// The text of `describe()`.
    description: String,
    pub(super) stores: Vec<KnownStore>,
    /// Full names of repartition topics and changelogs.
    pub(super) internal_topics: Vec<String>,
}

/// A store that tasks have; global stores are filled again and need no note.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownStore {
    pub(super) name: String,
    /// As [`StoreBuilder::kind_name`](crate::StoreBuilder::kind_name) says.
    pub(super) kind: String,
    /// Full name of the topic it is restored from; `None` if there is none.
    pub(super) changelog: Option<String>,
    pub(super) is_persistent: bool,
}

impl KnownTopology {
    pub(super) fn of(built: &BuiltTopology) -> Self {
        let stores =
            built.topology.stores.iter().filter(|(_, entry)| !entry.is_global).map(|(name, entry)| KnownStore {
                name: name.clone(),
                kind: entry.builder.kind_name().to_owned(),
                changelog: built.changelog_topic(name),
                is_persistent: entry.builder.is_persistent(),
            });
        let mut internal_topics: Vec<String> = Vec::new();
        for sub in built.subtopologies() {
            internal_topics.extend(sub.repartition_sources.iter().map(|topic| topic.name.clone()));
            internal_topics.extend(sub.changelogs.values().map(|topic| topic.name.clone()));
        }
        internal_topics.sort();
        Self { version: VERSION, description: built.describe(), stores: stores.collect(), internal_topics }
    }

    /// The note of `directory`; `None` where there is none that can be read.
    pub(super) fn read(directory: &StateDirectory) -> Option<Self> {
        let text = directory.read_note(FILE)?;
        match serde_json::from_slice::<Self>(&text) {
            Ok(known) if known.version == VERSION => Some(known),
            Ok(known) => {
                tracing::warn!(version = known.version, "{FILE} was written by another version and is not used");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "{FILE} in the state directory cannot be read and is not used");
                None
            }
        }
    }

    /// Writes the note, unless it says the same already.
    pub(super) fn write(&self, directory: &StateDirectory) -> Result<(), StreamsError> {
        // Strings, numbers and booleans: nothing that could fail.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        if directory.read_note(FILE).is_some_and(|known| known == text) {
            return Ok(());
        }
        directory.write_note(FILE, &text)
    }

    pub(super) fn description(&self) -> Option<TopologyDescription> {
        self.description.parse().ok()
    }

    pub(super) fn store(&self, name: &str) -> Option<&KnownStore> {
        self.stores.iter().find(|store| store.name == name)
    }
}
