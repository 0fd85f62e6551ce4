//! `process` of a stream: a processor of the user's own.

use streams_core::Processor;
use streams_core::processor::ProcessorSupplier;

use crate::kstream::KStream;
use crate::naming;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Hands each record to a processor of `supplier`, one per task, which can use the stores named. Since it may forward other keys, what
    /// follows and works by key first repartitions.
    pub fn process<P, K2, V2>(&self, supplier: impl ProcessorSupplier<P> + Clone, stores: &[&str]) -> KStream<K2, V2>
    where
        P: Processor<K, V, K2, V2>,
        K2: Clone + 'static,
        V2: Clone + 'static,
    {
        let name = self.place.next_name.clone().unwrap_or_else(|| self.place.graph.next_name(naming::PROCESSOR));
        let (node, parent) = (name.clone(), self.place.node.clone());
        let stores: Vec<String> = stores.iter().map(|&store| store.to_owned()).collect();
        self.place.graph.add(move |topology| {
            topology.add_processor::<P, K, V, K2, V2>(&node, supplier.clone(), &[&parent])?;
            let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
            topology.connect(&node, &stores).map(|_| ())
        });
        self.rekeyed(name, None)
    }
}
