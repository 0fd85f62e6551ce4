//! A wrapper around every processor of an application, the DSL's among them: Kafka Streams' `processor.wrapper.class`.
//!
//! It is told which node is called and for which record, and calls it, or does not. It does not see the types of the record: one wrapper is
//! around processors of all types.

use base::Timestamp;
use protocol::record::Headers;

use crate::error::BoxError;
use crate::task::TaskId;

/// A call of a processor.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorCall<'a> {
    /// The task.
    pub task: TaskId,
    /// Name of the processor.
    pub node: &'a str,
    /// Timestamp of the record, or time of the punctuation, in ms.
    pub timestamp: Timestamp,
    /// Headers of the record; none in punctuations.
    pub headers: &'a Headers,
}

/// The processor that is called.
pub struct Next<'a>(&'a mut dyn FnMut() -> Result<(), BoxError>);

impl<'a> Next<'a> {
    pub(crate) fn new(call: &'a mut dyn FnMut() -> Result<(), BoxError>) -> Self {
        Self(call)
    }

    /// Calls it; when it returns, everything downstream has been done.
    ///
    /// # Errors
    /// The processor's, or what failed downstream and no handler resumed from; pass it on with `?`.
    pub fn run(self) -> Result<(), BoxError> {
        (self.0)()
    }
}

/// Stands around every processor of an application; given by
/// [`StreamsConfig::with_processor_wrapper`](crate::StreamsConfig::with_processor_wrapper).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use streams_core::processor::wrapper::{Next, ProcessorCall, ProcessorWrapper};
/// use streams_core::{BoxError, Processor, ProcessorContext, Record, SourceOptions, StreamsConfig, Topology, TopologyTestDriver};
///
/// /// Counts the records of all processors.
/// #[derive(Clone, Default)]
/// struct Count(Arc<AtomicU64>);
///
/// impl ProcessorWrapper for Count {
///     fn process(&self, _: &ProcessorCall<'_>, next: Next<'_>) -> Result<(), BoxError> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         next.run()
///     }
/// }
///
/// struct Nothing;
///
/// impl Processor<String, String, (), ()> for Nothing {
///     fn process(&mut self, _: Record<String, String>, _: &mut ProcessorContext<(), ()>) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("in", SourceOptions::<String, String>::default(), ["in"])?;
/// topology.add_processor("nothing", || Nothing, &["in"])?;
/// let count = Count::default();
/// let config = StreamsConfig::new("app").with_processor_wrapper(count.clone());
/// let driver = TopologyTestDriver::new(&topology, config)?;
/// driver.input_topic("in").pipe("k".to_owned(), "v".to_owned())?;
/// assert_eq!(count.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), streams_core::StreamsError>(())
/// ```
pub trait ProcessorWrapper: Send + Sync {
    /// Around a processor's `init`, once for each processor of each task.
    ///
    /// # Errors
    /// What `init` returned, or the wrapper's own; the task then does not start.
    fn init(&self, task: TaskId, node: &str, next: Next<'_>) -> Result<(), BoxError> {
        let _ = (task, node);
        next.run()
    }

    /// Around a processor's `process`. A record for which `next` is not run is left out.
    ///
    /// # Errors
    /// What `process` returned, or the wrapper's own, which is treated as the processor's.
    fn process(&self, call: &ProcessorCall<'_>, next: Next<'_>) -> Result<(), BoxError> {
        let _ = call;
        next.run()
    }

    /// Around a processor's `punctuate`.
    ///
    /// # Errors
    /// As [`ProcessorWrapper::process`].
    fn punctuate(&self, call: &ProcessorCall<'_>, next: Next<'_>) -> Result<(), BoxError> {
        let _ = call;
        next.run()
    }

    /// Before a processor's `close`.
    fn close(&self, task: TaskId, node: &str) {
        let _ = (task, node);
    }
}
