//! The order of a producer's requests while one of them asks the coordinator.
//!
//! The first batch of a transaction goes into a partition only once the coordinator knows that the partition is part of
//! it. Whoever comes from the same producer meanwhile waits behind it, since its sequence numbers follow. Requests of
//! producers for which nobody asks pass without waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use base::ProducerId;
use base::hash::HashMap;
use parking_lot::Mutex;

/// A request that has its turn once those before it are through.
type Job = Box<dyn FnOnce(Turn) + Send>;

/// Who waits, by producer; a producer is listed while one of its requests has the turn.
#[derive(Clone, Default)]
pub struct Admissions {
    queues: Arc<Mutex<HashMap<ProducerId, VecDeque<Job>>>>,
}

/// The turn of one request; its end is the next one's begin.
pub struct Turn {
    admissions: Admissions,
    producer: ProducerId,
}

impl Admissions {
    /// Whether a request of `producer` has the turn.
    pub fn is_busy(&self, producer: ProducerId) -> bool {
        self.queues.lock().contains_key(&producer)
    }

    /// Runs `job` when it is its turn: at once, on this thread, if no request of `producer` is before it.
    pub fn enter(&self, producer: ProducerId, job: impl FnOnce(Turn) + Send + 'static) {
        {
            let mut queues = self.queues.lock();
            if let Some(queue) = queues.get_mut(&producer) {
                return queue.push_back(Box::new(job));
            }
            queues.insert(producer, VecDeque::new());
        }
        job(Turn { admissions: self.clone(), producer });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queues = self.admissions.queues.lock();
            let next = queues.get_mut(&self.producer).and_then(VecDeque::pop_front);
            if next.is_none() {
                queues.remove(&self.producer);
            }
            next
        };
        if let Some(next) = next {
            next(Self { admissions: self.admissions.clone(), producer: self.producer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_producer_have_their_turns_one_after_another() {
        let admissions = Admissions::default();
        let log: Arc<Mutex<Vec<i32>>> = Arc::default();
        let held: Arc<Mutex<Option<Turn>>> = Arc::default();
        let (first_log, first_held) = (Arc::clone(&log), Arc::clone(&held));
        admissions.enter(1, move |turn| {
            first_log.lock().push(1);
            *first_held.lock() = Some(turn);
        });
        for number in 2..5 {
            let log = Arc::clone(&log);
            admissions.enter(1, move |_turn| log.lock().push(number));
        }
        assert!(admissions.is_busy(1) && !admissions.is_busy(2));
        assert_eq!(*log.lock(), [1], "the others wait");
        let other = Arc::clone(&log);
        admissions.enter(2, move |_turn| other.lock().push(0));
        assert_eq!(*log.lock(), [1, 0], "another producer does not");
        let turn = held.lock().take();
        drop(turn);
        assert_eq!(*log.lock(), [1, 0, 2, 3, 4]);
        assert!(!admissions.is_busy(1));
    }
}
