//! Small processors and helpers that the tests share.

use streams_core::processor::ProcessorContext;
use streams_core::{BoxError, Processor, Record};

/// A processor made of a closure.
pub struct Each<F>(pub F);

impl<F, KIn, VIn, KOut, VOut> Processor<KIn, VIn, KOut, VOut> for Each<F>
where
    F: FnMut(Record<KIn, VIn>, &mut ProcessorContext<KOut, VOut>) -> Result<(), BoxError> + 'static,
    KIn: 'static,
    VIn: 'static,
    KOut: 'static,
    VOut: 'static,
{
    fn process(&mut self, record: Record<KIn, VIn>, ctx: &mut ProcessorContext<KOut, VOut>) -> Result<(), BoxError> {
        (self.0)(record, ctx)
    }
}

/// Does nothing; for topologies that are only described.
pub struct Nothing;

impl Processor<(), (), (), ()> for Nothing {
    fn process(&mut self, _: Record<(), ()>, _: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// `key=value@timestamp`, null as `null`.
pub fn show<K: std::fmt::Display, V: std::fmt::Display>(record: &Record<K, V>) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let key = text(record.key.as_ref().map(ToString::to_string));
    let value = text(record.value.as_ref().map(ToString::to_string));
    format!("{key}={value}@{}", record.timestamp)
}

/// Records as one line.
pub fn show_all<K: std::fmt::Display, V: std::fmt::Display>(records: &[Record<K, V>]) -> String {
    records.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// Does nothing with texts; its stores are used from outside.
pub struct Idle;

impl Processor<String, String, (), ()> for Idle {
    fn process(&mut self, _: Record<String, String>, _: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
        Ok(())
    }
}
