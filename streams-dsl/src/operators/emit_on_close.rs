//! Results once per window, when it closes: the bookkeeping that all windowed aggregations share.

use streams_core::Timestamp;
use streams_core::processor::context::NodeContext;

/// Up to when windows have come out. Committed with the offsets, so that a restart neither repeats nor skips any.
pub(super) struct EmitOnClose {
    store_name: String,
    /// The greatest close time whose windows have come out; -1 before the first.
    last: Timestamp,
}

impl EmitOnClose {
    /// Goes on where the last run ended.
    pub(super) fn new(ctx: &NodeContext, store_name: &str) -> Self {
        let last = ctx.committed_metadata(store_name).unwrap_or(-1);
        Self { store_name: store_name.to_owned(), last }
    }

    /// The close time up to which windows have come out, if windows that close up to `close_time` are to come out now.
    pub(super) fn due(&self, close_time: Timestamp) -> Option<Timestamp> {
        (self.last == -1 || self.last < close_time).then_some(self.last)
    }

    /// All windows up to `close_time` have come out.
    pub(super) fn done(&mut self, ctx: &NodeContext, close_time: Timestamp) {
        self.last = close_time;
        ctx.set_committed_metadata(&self.store_name, close_time);
    }
}
