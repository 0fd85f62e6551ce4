//! Producer ids, handed out from blocks.
//!
//! A block is made durable before its first id is handed out: a crash loses the rest of a block, and never repeats an id.

use std::sync::Arc;

use base::ProducerId;
use parking_lot::Mutex;
use protocol::api::ErrorCode;

/// How many ids a block has, as in Kafka.
pub const BLOCK_SIZE: i64 = 1_000;

/// Told the id, or why there is none.
pub type IdDone = Box<dyn FnOnce(Result<ProducerId, ErrorCode>) + Send>;

#[derive(Default)]
struct Block {
    next: ProducerId,
    end: ProducerId,
    requested: bool,
    waiting: Vec<IdDone>,
}

/// The ids of one broker.
#[derive(Clone, Default)]
pub struct ProducerIds {
    block: Arc<Mutex<Block>>,
}

impl ProducerIds {
    /// Gives an id to `done`, perhaps before this returns. `request_block` is called when a new block is needed: it must
    /// see to it that [`ProducerIds::block_arrived`] is called once with the first id of [`BLOCK_SIZE`] that nobody has.
    pub fn take(&self, done: IdDone, request_block: impl FnOnce(Self)) {
        let request = {
            let mut block = self.block.lock();
            if block.next < block.end {
                let id = block.next;
                block.next += 1;
                drop(block);
                return done(Ok(id));
            }
            block.waiting.push(done);
            !std::mem::replace(&mut block.requested, true)
        };
        if request {
            request_block(self.clone());
        }
    }

    /// A block has become durable, or could not be had: whoever waits is told, without locks held.
    pub fn block_arrived(&self, first: Result<ProducerId, ErrorCode>) {
        let answers: Vec<(IdDone, Result<ProducerId, ErrorCode>)> = {
            let mut block = self.block.lock();
            block.requested = false;
            if let Ok(first) = first {
                block.next = first;
                block.end = first.saturating_add(BLOCK_SIZE);
            }
            let waiting = std::mem::take(&mut block.waiting);
            let mut answer = |done: IdDone| match first {
                Err(error) => (done, Err(error)),
                // More than a block's worth waited: the last ones ask again.
                Ok(_) if block.next >= block.end => (done, Err(ErrorCode::CoordinatorLoadInProgress)),
                Ok(_) => {
                    block.next += 1;
                    (done, Ok(block.next - 1))
                }
            };
            waiting.into_iter().map(&mut answer).collect()
        };
        for (done, answer) in answers {
            done(answer);
        }
    }
}

impl std::fmt::Debug for ProducerIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProducerIds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ids: &ProducerIds, got: &Arc<Mutex<Vec<Result<ProducerId, ErrorCode>>>>) -> bool {
        let mut asked = false;
        let got = Arc::clone(got);
        ids.take(Box::new(move |id| got.lock().push(id)), |_| asked = true);
        asked
    }

    #[test]
    fn ids_come_from_one_block_until_it_is_used_up() {
        let ids = ProducerIds::default();
        let got = Arc::default();
        assert!(take(&ids, &got), "the first asks for a block");
        assert!(!take(&ids, &got), "the second waits for the same one");
        assert!(got.lock().is_empty());
        ids.block_arrived(Ok(5_000));
        assert_eq!(*got.lock(), [Ok(5_000), Ok(5_001)]);
        for _ in 2..BLOCK_SIZE {
            assert!(!take(&ids, &got));
        }
        assert_eq!(got.lock().last(), Some(&Ok(5_999)));
        assert!(take(&ids, &got), "the block is used up");
        ids.block_arrived(Err(ErrorCode::CoordinatorNotAvailable));
        assert_eq!(got.lock().last(), Some(&Err(ErrorCode::CoordinatorNotAvailable)));
        assert!(take(&ids, &got), "after a failure the next one asks again");
        ids.block_arrived(Ok(9_000));
        assert_eq!(got.lock().last(), Some(&Ok(9_000)));
    }
}
