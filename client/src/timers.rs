//! Time-outs inside futures: a future registers a deadline, whoever owns the time fires it.
//!
//! Two kinds of owner. A step-driven one (stream thread, simulation) calls [`Timers::fire`], or polls its futures
//! through [`Pending`], which does so. Everyone else has the process's timer thread do it (`driver.rs`), which is
//! started by the first deadline that is registered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base::hash::HashMap;
use base::{Clock, Now};
use parking_lot::Mutex;

use crate::driver;
use crate::error::ClientError;

/// Deadlines of futures, on one clock. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Timers(Arc<Shared>);

pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    /// Whether the process's timer thread fires these timers.
    threaded: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// Deadline and timer, earliest first; a timer that is gone from `wakers` is skipped.
    deadlines: BinaryHeap<Reverse<(i64, u64)>>,
    wakers: HashMap<u64, Waker>,
}

impl Timers {
    /// Timers fired by the process's timer thread.
    pub fn threaded(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { clock, threaded: true, state: Mutex::default() }))
    }

    /// Timers fired by [`Timers::fire`] only.
    pub fn stepped(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { clock, threaded: false, state: Mutex::default() }))
    }

    /// The clock's reading.
    pub fn now(&self) -> Now {
        self.0.clock.now()
    }

    /// Wakes every future whose deadline has come; the next deadline, if there is one.
    pub fn fire(&self, now: Now) -> Option<i64> {
        self.0.fire(now)
    }

    /// Completes once `ms` milliseconds have passed.
    pub fn sleep(&self, ms: i64) -> Sleep {
        self.sleep_until(self.now().ticks_ms.saturating_add(ms))
    }

    /// Completes at `ticks_ms`.
    pub fn sleep_until(&self, ticks_ms: i64) -> Sleep {
        Sleep { timers: self.clone(), ticks_ms, id: None }
    }

    /// `future`, or `None` when it has not completed at `ticks_ms`.
    pub async fn before<F: Future>(&self, ticks_ms: i64, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut sleep = self.sleep_until(ticks_ms);
        std::future::poll_fn(move |context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut sleep).poll(context).map(|()| None)
        })
        .await
    }
}

impl Shared {
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn fire(&self, now: Now) -> Option<i64> {
        let mut due = Vec::new();
        let next = {
            let mut state = self.state.lock();
            loop {
                let Some(Reverse((ticks_ms, id))) = state.deadlines.peek().copied() else { break None };
                if !state.wakers.contains_key(&id) {
                    state.deadlines.pop();
                } else if ticks_ms <= now.ticks_ms {
                    state.deadlines.pop();
                    due.extend(state.wakers.remove(&id));
                } else {
                    break Some(ticks_ms);
                }
            }
        };
        due.into_iter().for_each(Waker::wake);
        next
    }
}

/// A deadline; completes when it has come. Dropping it takes it back.
pub struct Sleep {
    timers: Timers,
    ticks_ms: i64,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.now().ticks_ms >= self.ticks_ms {
            return Poll::Ready(());
        }
        let shared = Arc::clone(&self.timers.0);
        let earliest = {
            let mut state = shared.state.lock();
            let id = match self.id {
                // Still waiting: only who is woken may have changed.
                Some(id) if state.wakers.contains_key(&id) => id,
                _ => {
                    let id = state.next_id;
                    state.next_id += 1;
                    state.deadlines.push(Reverse((self.ticks_ms, id)));
                    self.id = Some(id);
                    id
                }
            };
            state.wakers.insert(id, context.waker().clone());
            state.deadlines.peek().is_some_and(|Reverse((_, first))| *first == id)
        };
        if earliest && shared.threaded {
            driver::wake_timer_thread(&shared, self.ticks_ms);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.timers.0.state.lock().wakers.remove(&id);
        }
    }
}

/// A call under way, for owners that step instead of awaiting: an async function of [`Admin`](crate::Admin) or
/// [`Client`](crate::Client), boxed, with its timers driven by the `now` of [`Pending::poll`].
///
/// ```ignore
/// let mut call = Pending::new(client.timers(), async move { admin.list_topics().await });
/// loop { if let Some(result) = call.poll(now, &waker) { break result } }
/// ```
pub struct Pending<T> {
    timers: Timers,
    future: Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send>>,
}

impl<T> Pending<T> {
    /// Takes the future; nothing runs before the first poll.
    pub fn new(timers: &Timers, future: impl Future<Output = Result<T, ClientError>> + Send + 'static) -> Self {
        Self { timers: timers.clone(), future: Box::pin(future) }
    }

    /// The result, once; not to be polled again after that. Otherwise `waker` is called when there is progress to make,
    /// and [`Pending::next_wake_ticks_ms`] says when time alone makes some.
    pub fn poll(&mut self, now: Now, waker: &Waker) -> Option<Result<T, ClientError>> {
        self.timers.fire(now);
        match self.future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// The next deadline of any future on the same timers.
    pub fn next_wake_ticks_ms(&self) -> Option<i64> {
        self.timers.fire(Now { wall_ms: 0, ticks_ms: i64::MIN })
    }
}
