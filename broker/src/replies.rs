//! Answers on their way to whoever asked: they leave in the order of their requests, whenever they are ready.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::api::Response;
use protocol::transport::{Completer, Reply, TransportError};

/// Name of the in-process transport in messages.
pub const EMBEDDED: &str = "embedded";

/// The connection's end of an answer: puts responses in order and sends them.
pub(crate) trait ReplySink: Send + Sync {
    /// Answers request `sequence`; `Err` closes the connection with that reason.
    fn reply(&self, sequence: u64, response: Result<Response, String>);
}

/// Answers in the order of their requests: one slot for each request, emptied from the front.
///
/// `T` is what waits for the answer beside it (a completer; a version and correlation id).
pub(crate) struct InOrder<T, R> {
    pub(crate) front: u64,
    pub(crate) slots: VecDeque<Slot<T, R>>,
}

pub(crate) struct Slot<T, R> {
    pub(crate) target: Option<T>,
    pub(crate) answer: Option<R>,
}

impl<T, R> Default for InOrder<T, R> {
    fn default() -> Self {
        Self { front: 0, slots: VecDeque::new() }
    }
}

impl<T, R> InOrder<T, R> {
    /// Number of the next request; its slot is made. `None` as target means that it is given later.
    pub(crate) fn open(&mut self, target: Option<T>) -> u64 {
        self.slots.push_back(Slot { target, answer: None });
        self.front + self.slots.len() as u64 - 1
    }

    pub(crate) fn slot(&mut self, sequence: u64) -> Option<&mut Slot<T, R>> {
        self.slots.get_mut(usize::try_from(sequence.checked_sub(self.front)?).ok()?)
    }

    /// Puts the answer of a request down; `false` if it had one or is gone.
    pub(crate) fn answer(&mut self, sequence: u64, answer: R) -> bool {
        match self.slot(sequence) {
            Some(slot) if slot.answer.is_none() => {
                slot.answer = Some(answer);
                true
            }
            _ => false,
        }
    }

    /// The front request with its answer, once it has both a target and an answer.
    pub(crate) fn pop_ready(&mut self) -> Option<(T, R)> {
        let front = self.slots.front()?;
        if front.target.is_none() || front.answer.is_none() {
            return None;
        }
        self.front += 1;
        let slot = self.slots.pop_front()?;
        slot.target.zip(slot.answer)
    }

    /// How many requests have not left.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// The answers of one in-process connection.
#[derive(Default)]
pub(crate) struct EmbeddedReplies {
    pub(crate) queue: Mutex<InOrder<Completer, Reply>>,
    pub(crate) closed: AtomicBool,
}

pub(crate) fn disconnected(reason: impl Into<String>) -> TransportError {
    TransportError::Disconnected { address: EMBEDDED.to_owned(), reason: reason.into() }
}

impl EmbeddedReplies {
    pub(crate) fn deliver(&self) {
        loop {
            let ready = self.queue.lock().pop_ready();
            match ready {
                Some((completer, reply)) => completer.complete(reply),
                None => return,
            }
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let abandoned: Vec<Completer> = {
            let mut queue = self.queue.lock();
            let count = queue.slots.len() as u64;
            queue.front += count;
            queue.slots.drain(..).filter_map(|slot| slot.target).collect()
        };
        for completer in abandoned {
            completer.complete(Err(disconnected("the connection was closed")));
        }
    }
}

impl ReplySink for EmbeddedReplies {
    fn reply(&self, sequence: u64, response: Result<Response, String>) {
        let closes = response.is_err();
        self.queue.lock().answer(sequence, response.map_err(disconnected));
        self.deliver();
        if closes {
            self.close();
        }
    }
}

/// Numbers connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionIds(AtomicU64);

impl ConnectionIds {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut queue: InOrder<&str, i32> = InOrder::default();
        let (first, second, third) = (queue.open(Some("a")), queue.open(Some("b")), queue.open(None));
        assert!(queue.answer(second, 2));
        assert!(queue.answer(third, 3));
        assert_eq!(queue.pop_ready(), None);
        assert!(queue.answer(first, 1));
        assert!(!queue.answer(first, 9), "only one answer");
        assert_eq!(queue.pop_ready(), Some(("a", 1)));
        assert_eq!(queue.pop_ready(), Some(("b", 2)));
        assert_eq!(queue.pop_ready(), None, "nobody takes the third yet");
        assert_eq!(queue.len(), 1);
    }
}
