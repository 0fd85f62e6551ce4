//! What user code implements.

use base::Timestamp;

use crate::error::BoxError;
use crate::processor::context::ProcessorContext;
use crate::processor::punctuation::ScheduleId;
use crate::record::Record;
use crate::store::builder::StoreBuilderRef;

/// A step of a topology: takes records of `KIn, VIn` and forwards any number of records of `KOut, VOut`.
///
/// One instance is made per task, on the task's thread, so a processor need be neither `Send` nor `Sync` and may keep
/// plain fields. Handles of stores are taken in [`Processor::init`] and used without further look-up.
///
/// ```
/// use streams_core::{BoxError, Processor, ProcessorContext, Record};
///
/// struct Upper;
///
/// impl Processor<String, String, String, String> for Upper {
///     fn process(
///         &mut self,
///         record: Record<String, String>,
///         ctx: &mut ProcessorContext<String, String>,
///     ) -> Result<(), BoxError> {
///         ctx.forward(record.map_value(|value| value.map(|text| text.to_uppercase())))
///     }
/// }
/// ```
pub trait Processor<KIn, VIn, KOut, VOut>: 'static {
    /// Called once before the first record, when all stores are restored. Stores are fetched and punctuations scheduled
    /// here.
    ///
    /// # Errors
    /// An error closes the task and reaches the uncaught-exception handler.
    fn init(&mut self, ctx: &mut ProcessorContext<KOut, VOut>) -> Result<(), BoxError> {
        let _ = ctx;
        Ok(())
    }

    /// Handles one record.
    ///
    /// # Errors
    /// An error of its own goes to the processing exception handler, which fails the task or drops the record at this
    /// node. Errors of [`ProcessorContext::forward`] have been handled where they arose and are passed on with `?`.
    fn process(&mut self, record: Record<KIn, VIn>, ctx: &mut ProcessorContext<KOut, VOut>) -> Result<(), BoxError>;

    /// Called when a schedule made with [`NodeContext::schedule`](crate::processor::context::NodeContext::schedule) is due; `timestamp` is the current stream or
    /// wall-clock time, not the time for which it was planned.
    ///
    /// # Errors
    /// As for [`Processor::process`].
    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        timestamp: Timestamp,
        ctx: &mut ProcessorContext<KOut, VOut>,
    ) -> Result<(), BoxError> {
        let _ = (schedule, timestamp, ctx);
        Ok(())
    }

    /// Called once when the task closes; stores can still be read, nothing can be forwarded any more.
    fn close(&mut self) {}
}

/// Makes the processors of one node, one for each task. Every `Fn() -> P` is one.
pub trait ProcessorSupplier<P>: Send + Sync + 'static {
    /// A new processor.
    fn get(&self) -> P;

    /// Stores that come with the processor: the topology adds them and connects them to its node.
    fn stores(&self) -> Vec<StoreBuilderRef> {
        Vec::new()
    }
}

impl<P, F: Fn() -> P + Send + Sync + 'static> ProcessorSupplier<P> for F {
    fn get(&self) -> P {
        self()
    }
}

/// A supplier that brings stores for its processor.
///
/// ```
/// use std::sync::Arc;
/// use streams_core::processor::{ProcessorSupplier, WithStores};
/// use streams_core::serde::{I64Serde, StringSerde};
/// use streams_core::store::Stores;
///
/// let store = Arc::new(Stores::key_value::<String, i64>("counts", StringSerde, I64Serde));
/// let supplier = WithStores::new(|| "a processor", [store as _]);
/// assert_eq!(ProcessorSupplier::stores(&supplier).len(), 1);
/// ```
#[derive(Clone)]
pub struct WithStores<S> {
    supplier: S,
    stores: Vec<StoreBuilderRef>,
}

impl<S> WithStores<S> {
    /// `supplier` and the stores that its processors use.
    pub fn new(supplier: S, stores: impl IntoIterator<Item = StoreBuilderRef>) -> Self {
        Self { supplier, stores: stores.into_iter().collect() }
    }
}

impl<P, S: ProcessorSupplier<P>> ProcessorSupplier<P> for WithStores<S> {
    fn get(&self) -> P {
        self.supplier.get()
    }

    fn stores(&self) -> Vec<StoreBuilderRef> {
        [self.supplier.stores(), self.stores.clone()].concat()
    }
}
