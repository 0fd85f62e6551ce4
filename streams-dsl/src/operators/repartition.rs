//! Repartitioning: through an internal topic to the task that owns the key.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use streams_core::topology::{RepartitionOptions, StreamPartitioner};
use streams_core::{BoxError, Processor, ProcessorContext, Record, SerdeRef, SinkOptions, SourceOptions, Topology};

use crate::graph::Place;
use crate::kstream::KStream;
use crate::naming;
use crate::optimize::{Repartition, RepartitionNames};
use crate::options::Repartitioned;

/// Drops records without key, which no task owns, unless a left join downstream wants them.
struct KeyFilter {
    keep_null_keys: bool,
}

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, V> for KeyFilter {
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        if record.key.is_some() || self.keep_null_keys { ctx.forward(record) } else { Ok(()) }
    }
}

/// What a repartition goes by besides the stream: the base of its names, serdes, partitions.
pub(crate) struct Through<K, V> {
    pub(crate) base: String,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) partitions: Option<i32>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    /// Whether the user asked for it by name: then it is not merged with others.
    pub(crate) is_asked_for: bool,
}

impl<K, V> Through<K, V> {
    pub(crate) fn new(base: String, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { base, key, value, partitions: None, partitioner: None, is_asked_for: false }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Writes the stream to an internal topic and reads it again, so that all records of a key are in one partition.
    pub fn repartition(&self, repartitioned: Repartitioned<K, V>) -> Self {
        let given = repartitioned.name.clone().or_else(|| self.place.next_name.clone());
        let base = given.unwrap_or_else(|| self.place.graph.next_name(naming::REPARTITION));
        let remedy = "Repartitioned::with(key serde, value serde)";
        let what = format!("repartition topic {base}");
        let Some((key, value)) = self.serdes(&repartitioned.key, &repartitioned.value, &what, remedy) else {
            return self.clone();
        };
        let Repartitioned { partitions, partitioner, .. } = repartitioned;
        self.through(Through { base, key, value, partitions, partitioner, is_asked_for: true })
    }

    /// The stream behind a repartition topic named after `through.base`.
    pub(crate) fn through(&self, through: Through<K, V>) -> Self {
        let Through { base, key, value, partitions, partitioner, is_asked_for } = through;
        let graph = &self.place.graph;
        let topic = if base.ends_with(naming::REPARTITION_SUFFIX) {
            base.clone()
        } else {
            format!("{base}{}", naming::REPARTITION_SUFFIX)
        };
        let (sink, filter, source) =
            (graph.next_name(naming::SINK), graph.next_name(naming::FILTER), graph.next_name(naming::SOURCE));
        let (sink, filter, source) = if naming::is_generated(&base) {
            (sink, filter, source)
        } else {
            (format!("{topic}-sink"), format!("{topic}-filter"), format!("{topic}-source"))
        };
        let null_keys = Rc::new(Cell::new(false));
        let distinct = graph.distinct_source(&source);
        let place = Place {
            sources: vec![distinct.clone()],
            repartitions: [self.place.repartitions.clone(), vec![Rc::clone(&null_keys)]].concat(),
            ..self.place.at(distinct.clone())
        };
        let stream = KStream::new(place, Some(Arc::clone(&key)), Some(Arc::clone(&value)), false);
        let add = move |topology: &mut Topology, names: &RepartitionNames, parent: &str, keep_null_keys: bool| {
            let RepartitionNames { topic, filter, sink, source } = names;
            topology.add_repartition_topic(topic, RepartitionOptions { partitions })?;
            topology.add_processor::<_, K, V, K, V>(filter, move || KeyFilter { keep_null_keys }, &[parent])?;
            let mut options = SinkOptions::new(Arc::clone(&key), Arc::clone(&value)).by_whole_key();
            if let Some(partitioner) = &partitioner {
                options = options.with_shared_partitioner(Arc::clone(partitioner));
            }
            topology.add_sink(sink, options, topic, &[filter])?;
            let options = SourceOptions::new(Arc::clone(&key), Arc::clone(&value));
            topology.add_source(source, options, [topic.as_str()]).map(|_| ())
        };
        graph.add_repartition(Repartition {
            names: RepartitionNames { topic, filter, sink, source },
            source: distinct,
            parent: self.place.node.clone(),
            null_keys,
            may_merge: !is_asked_for,
            add: Box::new(add),
        });
        stream
    }
}
