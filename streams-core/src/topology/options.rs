//! What a source or sink is told besides its name and topics.

use std::sync::Arc;

use base::{PartitionId, Timestamp};
use protocol::record::{Headers, partition_for_key};
use smallvec::SmallVec;

use crate::processor::{RecordMetadata, TimestampExtractor};
use crate::serde::{DefaultSerde, Serde, SerdeRef};
use crate::windowed::Windowed;

/// Where to begin in a partition without committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// Fail.
    None,
    /// At the first record not older than that many milliseconds.
    ByDuration(i64),
}

/// How a source reads its topics.
pub struct SourceOptions<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) extractor: Option<Arc<dyn TimestampExtractor<K, V>>>,
    pub(crate) reset: Option<AutoOffsetReset>,
}

impl<K, V> SourceOptions<K, V> {
    /// Reads with these serdes.
    pub fn new(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self { key: key.into_ref(), value: value.into_ref(), extractor: None, reset: None }
    }

    /// Takes timestamps from `extractor` instead of the application's default.
    #[must_use]
    pub fn with_extractor(mut self, extractor: impl TimestampExtractor<K, V> + 'static) -> Self {
        self.extractor = Some(Arc::new(extractor));
        self
    }

    /// Takes timestamps from a shared `extractor`.
    #[must_use]
    pub fn with_shared_extractor(mut self, extractor: Arc<dyn TimestampExtractor<K, V>>) -> Self {
        self.extractor = Some(extractor);
        self
    }

    /// Begins there without a committed offset, instead of where the application's default says.
    #[must_use]
    pub fn with_reset(mut self, reset: AutoOffsetReset) -> Self {
        self.reset = Some(reset);
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for SourceOptions<K, V> {
    fn default() -> Self {
        Self { key: K::default_serde(), value: V::default_serde(), extractor: None, reset: None }
    }
}

impl<K, V> Clone for SourceOptions<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
            extractor: self.extractor.clone(),
            reset: self.reset,
        }
    }
}

/// How a sink writes its topic.
pub struct SinkOptions<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    /// Whether the whole key decides the partition, even of a windowed key.
    pub(crate) by_whole_key: bool,
}

impl<K, V> SinkOptions<K, V> {
    /// Writes with these serdes.
    pub fn new(key: impl Serde<K> + 'static, value: impl Serde<V> + 'static) -> Self {
        Self { key: key.into_ref(), value: value.into_ref(), partitioner: None, by_whole_key: false }
    }

    /// Chooses partitions by `partitioner` instead of the key's hash.
    #[must_use]
    pub fn with_partitioner(mut self, partitioner: impl StreamPartitioner<K, V> + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Chooses partitions by the hash of the whole key; without this (and without a partitioner) windowed keys go where the keys in them go.
    #[must_use]
    pub fn by_whole_key(mut self) -> Self {
        self.by_whole_key = true;
        self
    }

    /// Chooses partitions by a shared `partitioner`.
    #[must_use]
    pub fn with_shared_partitioner(mut self, partitioner: Arc<dyn StreamPartitioner<K, V>>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for SinkOptions<K, V> {
    fn default() -> Self {
        Self { key: K::default_serde(), value: V::default_serde(), partitioner: None, by_whole_key: false }
    }
}

impl<K, V> Clone for SinkOptions<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
            partitioner: self.partitioner.clone(),
            by_whole_key: self.by_whole_key,
        }
    }
}

/// Which partitions a record goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// Where the producer would put it: by the hash of the key bytes, or anywhere without a key.
    Default,
    /// Nowhere: dropped, and counted.
    Drop,
    /// One partition.
    One(PartitionId),
    /// A copy to each of these.
    Several(SmallVec<[PartitionId; 4]>),
}

/// Chooses the partitions of a sink's records.
pub trait StreamPartitioner<K, V>: Send + Sync {
    /// Partitions for a record of `topic`, which has `partitions` of them.
    fn partitions(&self, topic: &str, key: Option<&K>, value: Option<&V>, partitions: PartitionId) -> PartitionChoice;
}

impl<K, V, F> StreamPartitioner<K, V> for F
where
    F: Fn(&str, Option<&K>, Option<&V>, PartitionId) -> PartitionChoice + Send + Sync,
{
    fn partitions(&self, topic: &str, key: Option<&K>, value: Option<&V>, partitions: PartitionId) -> PartitionChoice {
        self(topic, key, value, partitions)
    }
}

/// Partitions windowed keys by the hash of the inner key alone, so that all windows of a key share a partition.
pub struct WindowedPartitioner<K> {
    key: SerdeRef<K>,
}

impl<K> WindowedPartitioner<K> {
    /// `key` serialises the inner key.
    pub fn new(key: impl Serde<K> + 'static) -> Self {
        Self { key: key.into_ref() }
    }
}

impl<K, V> StreamPartitioner<Windowed<K>, V> for WindowedPartitioner<K> {
    fn partitions(
        &self,
        topic: &str,
        key: Option<&Windowed<K>>,
        _: Option<&V>,
        partitions: PartitionId,
    ) -> PartitionChoice {
        let Some(key) = key else { return PartitionChoice::Default };
        let mut bytes = Vec::new();
        match self.key.serialize(topic, &Headers::default(), &key.key, &mut bytes) {
            Ok(()) => PartitionChoice::One(partition_for_key(&bytes, partitions)),
            // The sink serialises the same key next and reports the error.
            Err(_) => PartitionChoice::Default,
        }
    }
}

/// What a topic can be chosen by besides key and value.
#[derive(Clone, Copy, Debug)]
pub struct TopicContext<'a> {
    /// Source topic, partition and offset of the record being processed; `None` in punctuators.
    pub source: Option<&'a RecordMetadata>,
    /// Timestamp of the record to be written.
    pub timestamp: Timestamp,
    /// Its headers.
    pub headers: &'a Headers,
}

/// Names the topic of each record of a dynamic sink.
pub trait TopicNameExtractor<K, V>: Send + Sync {
    /// The topic. It must exist, or the broker create it when it is asked for; else the application fails after `producer.max.block.ms`.
    fn topic(&self, key: Option<&K>, value: Option<&V>, context: &TopicContext<'_>) -> String;

    /// What `describe()` shows.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

impl<K, V, F> TopicNameExtractor<K, V> for F
where
    F: Fn(Option<&K>, Option<&V>, &TopicContext<'_>) -> String + Send + Sync,
{
    fn topic(&self, key: Option<&K>, value: Option<&V>, context: &TopicContext<'_>) -> String {
        self(key, value, context)
    }
}

/// A repartition topic: internal, written by one sub-topology and read by another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepartitionOptions {
    /// Enforced number of partitions; `None` follows from what is co-partitioned with it.
    pub partitions: Option<PartitionId>,
}
