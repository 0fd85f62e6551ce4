//! Counters by group, name and tags, named as in Kafka. A handle is taken once, at start; counting is one atomic add.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Identity of one metric: Kafka's group (`stream-task-metrics`), name (`dropped-records-total`) and tags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricName {
    /// Group, as in Kafka's `MetricName`.
    pub group: String,
    /// Name within the group.
    pub name: String,
    /// Tags in the order of their keys.
    pub tags: BTreeMap<String, String>,
}

/// A number that only grows; cheap to clone, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All metrics of one process or one test; cheap to clone, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    counters: Arc<Mutex<BTreeMap<MetricName, Counter>>>,
}

impl Metrics {
    /// The counter of that name; made at the first call, the same one afterwards.
    pub fn counter(&self, group: &str, name: &str, tags: &[(&str, &str)]) -> Counter {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let name = MetricName { group: group.to_owned(), name: name.to_owned(), tags };
        self.counters.lock().entry(name).or_default().clone()
    }

    /// Every counter with its value, in the order of names.
    pub fn snapshot(&self) -> Vec<(MetricName, u64)> {
        self.counters.lock().iter().map(|(name, counter)| (name.clone(), counter.get())).collect()
    }

    /// Sum of the counters called `name` in `group`, over all tags.
    pub fn total(&self, group: &str, name: &str) -> u64 {
        let counters = self.counters.lock();
        counters
            .iter()
            .filter(|(key, _)| key.group == group && key.name == name)
            .map(|(_, counter)| counter.get())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_counter() {
        let metrics = Metrics::default();
        metrics.counter("g", "n", &[("task", "0_0")]).add(2);
        metrics.counter("g", "n", &[("task", "0_1")]).add(3);
        metrics.counter("g", "n", &[("task", "0_0")]).add(1);
        assert_eq!(metrics.total("g", "n"), 6);
        assert_eq!(metrics.snapshot().len(), 2);
    }
}
