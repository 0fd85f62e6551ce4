//! The only file of this crate, besides `tcp.rs` and `producer/shell.rs`, that has threads: waiting for a future on a
//! plain thread ([`block_on`]), and the process's timer thread (`millstream-timer`), which sleeps until the earliest
//! deadline of any client's [`Timers`](crate::Timers).

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::timers::Shared as Timers;

/// A waker that unparks one thread.
pub(crate) struct Unpark(Thread);

impl Unpark {
    pub(crate) fn current() -> Waker {
        Waker::from(Arc::new(Self(thread::current())))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end on this thread, which is parked while there is nothing to do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Unpark::current();
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The timer thread's list: which timers wait for which tick of their own clock.
#[derive(Default)]
struct TimerThread {
    waiting: Mutex<Vec<(Weak<Timers>, i64)>>,
    changed: Condvar,
}

/// Tells the timer thread that `timers` have a deadline at `ticks_ms`; starts the thread at the first call.
pub(crate) fn wake_timer_thread(timers: &Arc<Timers>, ticks_ms: i64) {
    static THREAD: OnceLock<Option<Arc<TimerThread>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let shared = Arc::new(TimerThread::default());
        let of_thread = Arc::clone(&shared);
        let started = thread::Builder::new().name("millstream-timer".into()).spawn(move || of_thread.run());
        if let Err(error) = &started {
            tracing::error!(%error, "no timer thread: time-outs of async calls will not fire");
        }
        started.ok().map(|_| shared)
    });
    let Some(thread) = thread else { return };
    let mut waiting = thread.waiting.lock();
    match waiting.iter_mut().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(timers))) {
        Some((_, known)) if *known <= ticks_ms => return,
        Some((_, known)) => *known = ticks_ms,
        None => waiting.push((Arc::downgrade(timers), ticks_ms)),
    }
    drop(waiting);
    thread.changed.notify_one();
}

impl TimerThread {
    fn run(&self) {
        let mut waiting = self.waiting.lock();
        loop {
            // Fire what is due, without the lock: wakers run code of others.
            let due: Vec<Arc<Timers>> = waiting
                .iter()
                .filter_map(|(timers, ticks_ms)| Some((timers.upgrade()?, *ticks_ms)))
                .filter(|(timers, ticks_ms)| timers.clock().now().ticks_ms >= *ticks_ms)
                .map(|(timers, _)| timers)
                .collect();
            if !due.is_empty() {
                waiting.retain(|(timers, _)| !due.iter().any(|due| std::ptr::eq(timers.as_ptr(), Arc::as_ptr(due))));
                drop(waiting);
                for timers in &due {
                    if let Some(next) = timers.fire(timers.clock().now()) {
                        wake_timer_thread(timers, next);
                    }
                }
                drop(due);
                waiting = self.waiting.lock();
                continue;
            }
            waiting.retain(|(timers, _)| timers.strong_count() > 0);
            let wait_ms = waiting
                .iter()
                .filter_map(|(timers, ticks_ms)| Some(ticks_ms - timers.upgrade()?.clock().now().ticks_ms))
                .min();
            match wait_ms {
                Some(ms) => {
                    self.changed.wait_for(&mut waiting, Duration::from_millis(ms.max(1) as u64));
                }
                None => self.changed.wait(&mut waiting),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::Timers;
    use base::SystemClock;

    #[test]
    fn a_sleep_is_ended_by_the_timer_thread() {
        let timers = Timers::threaded(SystemClock::shared());
        let start = timers.now().ticks_ms;
        block_on(async {
            timers.sleep(20).await;
            assert!(timers.before(timers.now().ticks_ms + 10, std::future::pending::<()>()).await.is_none());
        });
        assert!(timers.now().ticks_ms - start >= 30);
    }
}
