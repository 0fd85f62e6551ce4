//! The end of a chain: serialises records and hands them to the collector.

use std::rc::Rc;
use std::sync::Arc;

use base::hash::HashMap;
use protocol::record::partition_for_key;

use crate::collector::{ChoosePartitions, OutputRecord, TopicHandle};
use crate::error::{BoxError, ErrorKind, StreamsError};
use crate::processor::RecordMetadata;
use crate::processor::chain::Receive;
use crate::processor::handlers::ErrorResult;
use crate::record::Record;
use crate::serde::{SerdeError, SerdeRef};
use crate::task::dead_letters::Failure;
use crate::task::shared::{Scratch, TaskShared};
use crate::topology::options::{PartitionChoice, SinkOptions, StreamPartitioner, TopicContext, TopicNameExtractor};

/// Where a sink writes.
pub(crate) enum SinkTopic<K, V> {
    Name(String),
    Extracted(Arc<dyn TopicNameExtractor<K, V>>),
}

struct Target {
    name: Arc<str>,
    handle: TopicHandle,
}

enum Targets<K, V> {
    Fixed(Target),
    Dynamic { extractor: Arc<dyn TopicNameExtractor<K, V>>, known: std::cell::RefCell<HashMap<String, Rc<Target>>> },
}

/// The node of a sink.
pub(crate) struct SinkNode<K, V> {
    name: Arc<str>,
    task: Rc<TaskShared>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    /// Whether a part of the key decides the partition.
    by_part_of_key: bool,
    targets: Targets<K, V>,
}

impl<K: 'static, V: 'static> SinkNode<K, V> {
    /// `resolve` gives the full name of a topic.
    pub(crate) fn new(
        options: &SinkOptions<K, V>,
        topic: &SinkTopic<K, V>,
        name: Arc<str>,
        task: Rc<TaskShared>,
        resolve: &dyn Fn(&str) -> String,
    ) -> Self {
        let targets = match topic {
            SinkTopic::Name(topic) => {
                let full = resolve(topic);
                let handle = task.collector().borrow_mut().topic(&full);
                Targets::Fixed(Target { name: full.into(), handle })
            }
            SinkTopic::Extracted(extractor) => {
                Targets::Dynamic { extractor: Arc::clone(extractor), known: std::cell::RefCell::default() }
            }
        };
        Self {
            name,
            task,
            key: Arc::clone(&options.key),
            value: Arc::clone(&options.value),
            partitioner: options.partitioner.clone(),
            // Which part a serde cuts out hangs on the bytes; whether it does, does not.
            by_part_of_key: options.partitioner.is_none()
                && !options.by_whole_key
                && options.key.partition_bytes(&[]).is_some(),
            targets,
        }
    }

    fn send(&self, target: &Target, record: Record<K, V>) -> Result<(), BoxError> {
        let Ok(mut scratch) = self.task.scratch().try_borrow_mut() else {
            // A serde that forwards records; nothing sane can be done with its half-written bytes.
            let message = "a serialiser called back into the topology";
            return Err(StreamsError::new(ErrorKind::IllegalState, message).in_processor(&self.name).into());
        };
        let Scratch { key, value } = &mut *scratch;
        if let Err(error) = self.serialize(&target.name, &record, key, value) {
            drop(scratch);
            return self.not_serialized(&target.name, &record, error);
        }
        let key = record.key.as_ref().map(|_| key.as_slice());
        let value = record.value.as_ref().map(|_| value.as_slice());
        let mut collector = self.task.collector().borrow_mut();
        let output = OutputRecord {
            topic: target.handle,
            partition: None,
            key,
            value,
            timestamp: Some(record.timestamp),
            headers: &record.headers,
        };
        let part = if self.by_part_of_key { key.and_then(|key| self.key.partition_bytes(key)) } else { None };
        let choice = if part.is_none() && self.partitioner.is_none() {
            PartitionChoice::Default
        } else if let Some(partitions) = collector.partition_count(target.handle) {
            match (&self.partitioner, part) {
                (Some(partitioner), _) => {
                    partitioner.partitions(&target.name, record.key.as_ref(), record.value.as_ref(), partitions)
                }
                (None, Some(part)) => PartitionChoice::One(partition_for_key(part, partitions)),
                (None, None) => PartitionChoice::Default,
            }
        } else {
            let choose: ChoosePartitions = match (&self.partitioner, part) {
                (None, part) => {
                    let part = part.unwrap_or_default().to_vec();
                    Box::new(move |partitions| PartitionChoice::One(partition_for_key(&part, partitions)))
                }
                (Some(partitioner), _) => {
                    let (partitioner, topic) = (Arc::clone(partitioner), Arc::clone(&target.name));
                    let Record { key, value, .. } = record;
                    Box::new(move |partitions| partitioner.partitions(&topic, key.as_ref(), value.as_ref(), partitions))
                }
            };
            let sent = collector.send_once_known(output, choose);
            return sent.map_err(|error| error.in_processor(&self.name).in_task(self.task.id()).into());
        };
        let sent = collector.send_to(output, choice).map(|is_sent| {
            if !is_sent {
                self.task.count_dropped();
            }
        });
        sent.map_err(|error| error.in_processor(&self.name).in_task(self.task.id()).into())
    }

    #[inline]
    fn serialize(
        &self,
        topic: &str,
        record: &Record<K, V>,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        key.clear();
        value.clear();
        if let Some(typed) = &record.key {
            self.key.serialize(topic, &record.headers, typed, key)?;
        }
        if let Some(typed) = &record.value {
            self.value.serialize(topic, &record.headers, typed, value)?;
        }
        Ok(())
    }

    #[cold]
    fn not_serialized(&self, topic: &str, record: &Record<K, V>, error: SerdeError) -> Result<(), BoxError> {
        let failure = Failure {
            kind: ErrorKind::Serialization,
            node: &self.name,
            timestamp: record.timestamp,
            output_topic: Some(topic),
        };
        match self.task.ask(&failure, &error)? {
            ErrorResult::Resume => Ok(()),
            ErrorResult::Fail => {
                let mut error = StreamsError::caused_by(ErrorKind::Serialization, error)
                    .in_processor(&self.name)
                    .in_task(self.task.id());
                if let Some((partition, offset)) = self.task.position() {
                    error = error.at_record(partition, offset);
                }
                Err(error.into())
            }
        }
    }
}

impl<K: 'static, V: 'static> Receive<K, V> for SinkNode<K, V> {
    #[inline]
    fn receive(&self, record: Record<K, V>) -> Result<(), BoxError> {
        match &self.targets {
            Targets::Fixed(target) => self.send(target, record),
            Targets::Dynamic { extractor, known } => {
                let source = self.task.position().map(|(partition, offset)| RecordMetadata {
                    topic: partition.topic,
                    partition: partition.partition,
                    offset,
                });
                let context =
                    TopicContext { source: source.as_ref(), timestamp: record.timestamp, headers: &record.headers };
                let topic = extractor.topic(record.key.as_ref(), record.value.as_ref(), &context);
                let target = known.borrow().get(&topic).cloned();
                let target = target.unwrap_or_else(|| {
                    let handle = self.task.collector().borrow_mut().topic(&topic);
                    let target = Rc::new(Target { name: topic.as_str().into(), handle });
                    known.borrow_mut().insert(topic, Rc::clone(&target));
                    target
                });
                self.send(&target, record)
            }
        }
    }
}
