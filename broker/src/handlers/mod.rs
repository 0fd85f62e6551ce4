//! One file per request: `pub(crate) fn handle(state: &Arc<BrokerState>, context: &RequestContext, request: XRequest) -> Outcome`.
//!
//! A handler runs on its caller's thread (a stream thread in process, a network worker over TCP). It may write to a log
//! but never waits: what must wait is handed to [`crate::waiters`] or kept as a [`crate::dispatch::Responder`].
