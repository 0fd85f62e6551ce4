//! `print` of a stream: shows its records, for a look during development.

use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use streams_core::{BoxError, Processor, ProcessorContext, Record};

use crate::kstream::KStream;
use crate::naming;
use crate::options::Printed;

/// Where lines go; all tasks share it.
pub(crate) type Output = Arc<Mutex<dyn Write + Send>>;

struct Print {
    output: Output,
    label: Arc<str>,
}

impl<K: Debug + 'static, V: Debug + 'static> Processor<K, V, (), ()> for Print {
    fn process(&mut self, record: Record<K, V>, _: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        let Record { key, value, .. } = record;
        let (key, value) = (key.map_or_else(|| "null".to_owned(), show), value.map_or_else(|| "null".to_owned(), show));
        Ok(writeln!(self.output.lock(), "[{}]: {key}, {value}", self.label)?)
    }
}

fn show(value: impl Debug) -> String {
    format!("{value:?}")
}

impl<K: Clone + Debug + 'static, V: Clone + Debug + 'static> KStream<K, V> {
    /// Writes a line for each record: `[label]: key, value`.
    pub fn print(&self, printed: Printed) {
        let given = printed.name.or_else(|| self.place.next_name.clone());
        let name = self.place.graph.name_or(given, naming::PRINTER);
        let parent = self.place.node.clone();
        let label: Arc<str> = printed.label.unwrap_or_else(|| parent.clone()).into();
        let output = printed.output;
        self.place.graph.add(move |topology| {
            let (output, label) = (Arc::clone(&output), Arc::clone(&label));
            let supplier = move || Print { output: Arc::clone(&output), label: Arc::clone(&label) };
            topology.add_processor::<_, K, V, (), ()>(&name, supplier, &[&parent]).map(|_| ())
        });
    }
}
