//! The partitions this broker leads, found by topic name or id; opened on first use.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::hash::HashMap;
use base::{PartitionId, TopicName, TopicPartition};
use parking_lot::RwLock;
use uuid::Uuid;

use crate::metadata::TopicImage;
use crate::partition::Partition;

/// One topic with its opened partitions.
pub struct TopicEntry {
    /// Name.
    pub name: TopicName,
    /// Identity.
    pub id: Uuid,
    /// No client may produce to it.
    pub is_internal: bool,
    partitions: RwLock<Vec<Option<Arc<Partition>>>>,
}

/// See the module.
#[derive(Default)]
pub struct TopicTable {
    tables: RwLock<Tables>,
    version: AtomicI64,
}

#[derive(Default)]
struct Tables {
    by_name: HashMap<TopicName, Arc<TopicEntry>>,
    by_id: HashMap<Uuid, Arc<TopicEntry>>,
}

/// Whether Kafka treats a topic of this name as its own.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl TopicTable {
    /// The topic of that name.
    pub fn by_name(&self, name: &str) -> Option<Arc<TopicEntry>> {
        self.tables.read().by_name.get(name).cloned()
    }

    /// The topic with that identity.
    pub fn by_id(&self, id: &Uuid) -> Option<Arc<TopicEntry>> {
        self.tables.read().by_id.get(id).cloned()
    }

    /// Names of all topics, in no order.
    pub fn names(&self) -> Vec<TopicName> {
        self.tables.read().by_name.keys().cloned().collect()
    }

    /// All topics, in no order.
    pub(crate) fn entries(&self) -> Vec<Arc<TopicEntry>> {
        self.tables.read().by_name.values().cloned().collect()
    }

    /// Rises with every topic that comes, goes or gets more partitions.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes note of a topic as it is now: new, or with more partitions.
    pub(crate) fn put(&self, topic: &TopicImage) {
        self.change(topic);
        // After the change, so that whoever sees the new version sees the change too.
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn change(&self, topic: &TopicImage) {
        let mut tables = self.tables.write();
        if let Some(entry) = tables.by_id.get(&topic.id) {
            entry.partitions.write().resize(topic.partitions.len(), None);
            return;
        }
        let entry = Arc::new(TopicEntry {
            name: Arc::clone(&topic.name),
            id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: RwLock::new(vec![None; topic.partitions.len()]),
        });
        tables.by_name.insert(Arc::clone(&topic.name), Arc::clone(&entry));
        tables.by_id.insert(topic.id, entry);
    }

    /// Forgets a topic.
    pub(crate) fn remove(&self, id: &Uuid) -> Option<Arc<TopicEntry>> {
        let mut tables = self.tables.write();
        let entry = tables.by_id.remove(id)?;
        if tables.by_name.get(&entry.name).is_some_and(|named| named.id == *id) {
            tables.by_name.remove(&entry.name);
        }
        drop(tables);
        self.version.fetch_add(1, Ordering::AcqRel);
        Some(entry)
    }
}

impl TopicEntry {
    /// Number of partitions.
    pub fn partition_count(&self) -> usize {
        self.partitions.read().len()
    }

    /// A partition, if there is one of that index; `open` makes it on first use.
    ///
    /// # Errors
    /// What `open` says.
    pub(crate) fn partition<E>(
        &self,
        index: PartitionId,
        open: impl FnOnce(TopicPartition) -> Result<Arc<Partition>, E>,
    ) -> Result<Option<Arc<Partition>>, E> {
        let Ok(slot) = usize::try_from(index) else { return Ok(None) };
        match self.partitions.read().get(slot) {
            None => return Ok(None),
            Some(Some(partition)) => return Ok(Some(Arc::clone(partition))),
            Some(None) => {}
        }
        let mut partitions = self.partitions.write();
        match partitions.get_mut(slot) {
            None => Ok(None),
            Some(Some(partition)) => Ok(Some(Arc::clone(partition))),
            Some(empty) => {
                let partition = open(TopicPartition { topic: Arc::clone(&self.name), partition: index })?;
                *empty = Some(Arc::clone(&partition));
                Ok(Some(partition))
            }
        }
    }

    /// The partitions that are open.
    pub fn opened(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().iter().flatten().cloned().collect()
    }

    /// Takes all partitions out; none can be opened any more.
    pub(crate) fn close(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.partitions.write()).into_iter().flatten().collect()
    }
}
