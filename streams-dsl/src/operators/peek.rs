//! `peek` and `for_each` of a stream: a look at each record, on the way or at the end.

use std::sync::Arc;

use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;

struct Peek<F>(Arc<F>);

impl<K, V, F> Processor<K, V, K, V> for Peek<F>
where
    K: Clone + 'static,
    V: Clone + 'static,
    F: Fn(Option<&K>, Option<&V>) + 'static,
{
    fn process(&mut self, record: Record<K, V>, ctx: &mut ProcessorContext<K, V>) -> Result<(), BoxError> {
        (self.0)(record.key.as_ref(), record.value.as_ref());
        ctx.forward(record)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Calls `action` for each record and passes it on. After a failure a record may be seen again.
    pub fn peek(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) -> Self {
        self.same(self.add_peek(naming::PEEK, action))
    }

    /// Calls `action` for each record; the end of the stream. After a failure a record may be seen again.
    pub fn for_each(&self, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) {
        self.add_peek(naming::FOR_EACH, action);
    }

    fn add_peek(&self, prefix: &str, action: impl Fn(Option<&K>, Option<&V>) + Send + Sync + 'static) -> String {
        let name = self.place.take_name(prefix);
        let (node, parent, action) = (name.clone(), self.place.node.clone(), Arc::new(action));
        self.place.graph.add(move |topology| {
            let action = Arc::clone(&action);
            topology.add_processor::<_, K, V, K, V>(&node, move || Peek(Arc::clone(&action)), &[&parent]).map(|_| ())
        });
        name
    }
}
