//! A cluster as groups see it, for their tests: topics that come, grow and go when told to.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::group::environment::Cluster;
use uuid::Uuid;

/// Topics by name, and settings by group.
#[derive(Clone, Debug, Default)]
pub struct FakeCluster {
    version: i64,
    topics: BTreeMap<Arc<str>, (Uuid, i32)>,
    pub settings: BTreeMap<String, BTreeMap<String, String>>,
}

impl FakeCluster {
    /// A cluster of these topics, with so many partitions each.
    pub fn of(topics: &[(&str, i32)]) -> Self {
        let mut cluster = Self::default();
        topics.iter().for_each(|(name, partitions)| cluster.put(name, *partitions));
        cluster
    }

    /// Makes a topic, or gives it more partitions.
    pub fn put(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        let id = Uuid::from_u128(0xff00 + self.version as u128);
        self.topics.entry(name.into()).or_insert((id, 0)).1 = partitions;
    }

    /// Deletes a topic.
    pub fn remove(&mut self, name: &str) {
        self.version += 1;
        self.topics.remove(name);
    }

    /// Id of a topic.
    pub fn id(&self, name: &str) -> Uuid {
        self.topics.get(name).map_or(Uuid::nil(), |(id, _)| *id)
    }

    /// All partitions of all topics.
    pub fn partitions(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.topics.values().flat_map(|(id, count)| (0..*count).map(move |partition| (*id, partition)))
    }
}

impl Cluster for FakeCluster {
    fn topics_version(&self) -> i64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.topics.get(name).copied()
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        self.topics.iter().find(|(_, (known, _))| *known == id).map(|(name, _)| Arc::clone(name))
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    fn group_settings(&self, group: &str) -> BTreeMap<String, String> {
        self.settings.get(group).cloned().unwrap_or_default()
    }
}
