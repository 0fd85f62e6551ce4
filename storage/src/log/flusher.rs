//! Group commit: one flusher for each data directory.

use std::sync::Arc;

/// What one step of the flusher did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStep {
    /// How many partitions were synced.
    pub partitions: usize,
    /// How many partitions failed; they refuse appends now.
    pub failed: usize,
}

/// Collects the partitions with unsynced appends, syncs them together, then moves their high watermarks and calls
/// their listeners. Under `Process` there is nothing to wait for and the flusher idles.
pub struct Flusher {}

impl Flusher {
    /// Syncs everything that is dirty now. Blocks for as long as the disk takes; appends go on meanwhile.
    pub fn step(&self) -> FlushStep {
        unimplemented!()
    }

    /// Whether a step has something to do.
    pub fn has_work(&self) -> bool {
        unimplemented!()
    }

    /// Sets what is called, from the appending thread, when there is work again after there was none: the driver's
    /// unpark.
    pub fn on_work(&self, _wake: Arc<dyn Fn() + Send + Sync>) {
        unimplemented!()
    }
}
