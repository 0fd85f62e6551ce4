//! `process` and `process_values` of a stream: a processor of the user's own.

use streams_core::processor::{FixedKey, FixedKeySupplier, ProcessorSupplier};
use streams_core::{FixedKeyProcessor, Processor, StreamsError, Topology};

use crate::kstream::KStream;
use crate::naming;

impl<K: Clone + 'static, V: Clone + 'static> KStream<K, V> {
    /// Hands each record to a processor of `supplier`, one per task, which can use the stores named and those that the supplier brings
    /// ([`WithStores`](streams_core::processor::WithStores)). Since it may forward other keys, what follows and works by key first
    /// repartitions.
    pub fn process<P, K2, V2>(&self, supplier: impl ProcessorSupplier<P> + Clone, stores: &[&str]) -> KStream<K2, V2>
    where
        P: Processor<K, V, K2, V2>,
        K2: Clone + 'static,
        V2: Clone + 'static,
    {
        let name = self.place.next_name.clone().unwrap_or_else(|| self.place.graph.next_name(naming::PROCESSOR));
        self.add_process(&name, stores, move |topology, node, parent| {
            topology.add_processor::<P, K, V, K2, V2>(node, supplier.clone(), &[parent]).map(|_| ())
        });
        // Not marked for the optimiser: as in Kafka Streams, repartitions behind it stay where they are.
        KStream::new(self.place.at(name), None, None, true)
    }

    /// As [`KStream::process`] with a processor that cannot change the key, so that nothing behind it has to be repartitioned.
    pub fn process_values<P, V2>(&self, supplier: impl ProcessorSupplier<P> + Clone, stores: &[&str]) -> KStream<K, V2>
    where
        P: FixedKeyProcessor<K, V, V2>,
        V2: Clone + 'static,
    {
        let name = self.place.next_name.clone().unwrap_or_else(|| self.place.graph.next_name(naming::PROCESS_VALUES));
        let supplier = FixedKeySupplier(supplier);
        self.add_process(&name, stores, move |topology, node, parent| {
            topology.add_processor::<FixedKey<P>, K, V, K, V2>(node, supplier.clone(), &[parent]).map(|_| ())
        });
        KStream::new(self.place.at(name), self.key.clone(), None, self.rekeyed)
    }

    fn add_process(
        &self,
        node: &str,
        stores: &[&str],
        add: impl Fn(&mut Topology, &str, &str) -> Result<(), StreamsError> + 'static,
    ) {
        let (node, parent) = (node.to_owned(), self.place.node.clone());
        let stores: Vec<String> = stores.iter().map(|&store| store.to_owned()).collect();
        self.place.graph.add(move |topology| {
            add(topology, &node, &parent)?;
            let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
            topology.connect(&node, &stores).map(|_| ())
        });
    }
}
