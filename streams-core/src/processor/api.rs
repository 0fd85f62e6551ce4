//! What user code implements.

use base::Timestamp;

use crate::error::BoxError;
use crate::processor::context::ProcessorContext;
use crate::processor::punctuation::ScheduleId;
use crate::record::Record;

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
}

impl<P, F: Fn() -> P + Send + Sync + 'static> ProcessorSupplier<P> for F {
    fn get(&self) -> P {
        self()
    }
}
