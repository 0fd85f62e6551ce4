//! `merge` of two streams: the records of both, in no particular order between them.

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;
use crate::optimize::Kind;

/// Passes everything on.
pub(crate) struct PassThrough;

impl<K: Clone + 'static, V: Clone + 'static> Processor<K, V, K, V> for PassThrough {
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        ctx.forward(record)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// The records of both streams. Each partition's order is kept; between them there is none.
    pub fn merge(&self, other: &Self) -> Self {
        let name = self.place.take_name(naming::MERGE);
        let (node, one, two) = (name.clone(), self.place.node.clone(), other.place.node.clone());
        self.place.graph.add(move |topology| {
            topology.add_processor::<_, K, V, K, V>(&node, || PassThrough, &[&one, &two]).map(|_| ())
        });
        self.place.graph.mark(&name, Kind::Merges);
        let key = self.key.clone().or_else(|| other.key.clone());
        let value = self.value.clone().or_else(|| other.value.clone());
        Self::new(self.place.joined(&other.place, name), key, value, self.rekeyed || other.rekeyed)
    }
}
