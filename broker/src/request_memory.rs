//! The one bound on the memory of requests that are still arriving, over all connections (`queued.max.request.bytes`).
//!
//! A frame's declared length reserves nothing: what counts is what has arrived and waits for the rest of its frame. While
//! less than the bound is held, everybody reads on. Once it is reached:
//!
//! * who wants more waits, and its socket fills up;
//! * frames that miss least go on first, above the bound, as long as what they miss is no more than one frame of the
//!   greatest size together: so somebody always gets done. Each has a time for it, and loses its connection after that;
//! * a frame of which nothing has come for [`STALL_MS`] while others wait loses its connection, the largest first.
//!
//! So what is held stays below the bound and one frame (and one read for each network thread). A state machine: it closes
//! and wakes nobody itself, but says whom to.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Now;
use parking_lot::Mutex;

/// Bytes that a connection may hold without being counted: most requests are smaller.
pub(crate) const UNCOUNTED_BYTES: usize = 4 << 10;
/// A frame that waits for its client for so long makes room for others, when memory is short.
const STALL_MS: i64 = 1_000;
/// Time for a frame that goes on above the bound: this, and what it takes at [`SLOWEST_BYTES_PER_MS`].
const GRACE_MS: i64 = 2_000;
const SLOWEST_BYTES_PER_MS: i64 = 1 << 10;

/// A connection, as seen from here.
pub(crate) trait Claimant: Send + Sync {
    /// It may ask again.
    fn wake(&self);
    /// It must close, and release what it holds.
    fn end(&self, reason: &str);
}

/// See the module.
pub(crate) struct RequestMemory {
    limit_bytes: usize,
    frame_max_bytes: usize,
    holders: Mutex<Holders>,
}

#[derive(Default)]
struct Holders {
    used_bytes: usize,
    /// Sum of what is missing of the frames that go on above the bound.
    above_bytes: usize,
    waiting: usize,
    by_connection: BTreeMap<u64, Holder>,
}

struct Holder {
    claimant: Arc<dyn Claimant>,
    held_bytes: usize,
    missing_bytes: usize,
    last_arrival_ticks_ms: i64,
    waits: bool,
    /// Its frame is whole, but not taken up: nothing is expected of its client.
    is_whole: bool,
    above: Option<Above>,
}

struct Above {
    reserved_bytes: usize,
    until_ticks_ms: i64,
}

/// What a connection that wants to read may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// Read on.
    Granted,
    /// Ask again when woken, or after a while.
    Wait,
    /// Close: it had its time.
    Refused,
}

impl RequestMemory {
    /// `limit_bytes` negative: no bound.
    pub(crate) fn new(limit_bytes: i64, frame_max_bytes: usize) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { limit_bytes, frame_max_bytes, holders: Mutex::default() }
    }

    /// Bytes held now.
    #[cfg(test)]
    pub(crate) fn used_bytes(&self) -> usize {
        self.holders.lock().used_bytes
    }

    /// Whether `connection`, which holds more than [`UNCOUNTED_BYTES`] of a frame of which `missing_bytes` have not come,
    /// may read on. Called before each read of such a connection; it takes a lock that is held for a few comparisons.
    pub(crate) fn ask(
        &self,
        connection: u64,
        claimant: &Arc<dyn Claimant>,
        held_bytes: usize,
        missing_bytes: usize,
        now: Now,
    ) -> Growth {
        let mut holders = self.holders.lock();
        holders.update(connection, claimant, held_bytes, missing_bytes, now);
        let growth = holders.decide(connection, self.limit_bytes, self.frame_max_bytes, now);
        let waits = growth == Growth::Wait;
        let stalled = if waits { holders.largest_stalled(now) } else { None };
        holders.set_waits(connection, waits, now);
        drop(holders);
        if let Some(stalled) = stalled {
            stalled.end("its request stopped arriving, and the memory for requests is short");
        }
        growth
    }

    /// The frame of `connection` has arrived whole and waits for the requests before it; or `is_whole` no longer, since it was
    /// taken up. It is counted on.
    pub(crate) fn set_whole(&self, connection: u64, is_whole: bool, now: Now) {
        let mut holders = self.holders.lock();
        let Some(holder) = holders.by_connection.get_mut(&connection) else { return };
        holder.is_whole = is_whole;
        holder.last_arrival_ticks_ms = now.ticks_ms;
        let above = holder.above.take();
        holders.above_bytes -= above.map_or(0, |above| above.reserved_bytes);
    }

    /// `connection` holds no part of a frame any more, or less than is counted.
    pub(crate) fn release(&self, connection: u64) {
        let mut holders = self.holders.lock();
        let Some(gone) = holders.by_connection.remove(&connection) else { return };
        holders.used_bytes -= gone.held_bytes;
        holders.waiting -= usize::from(gone.waits);
        holders.above_bytes -= gone.above.map_or(0, |above| above.reserved_bytes);
        if holders.waiting == 0 {
            return;
        }
        let waiting = holders.by_connection.values().filter(|holder| holder.waits);
        let waiting: Vec<Arc<dyn Claimant>> = waiting.map(|holder| Arc::clone(&holder.claimant)).collect();
        drop(holders);
        waiting.iter().for_each(|claimant| claimant.wake());
    }
}

impl Holders {
    fn update(
        &mut self,
        connection: u64,
        claimant: &Arc<dyn Claimant>,
        held_bytes: usize,
        missing_bytes: usize,
        now: Now,
    ) {
        let holder = self.by_connection.entry(connection).or_insert_with(|| Holder {
            claimant: Arc::clone(claimant),
            held_bytes: 0,
            missing_bytes,
            last_arrival_ticks_ms: now.ticks_ms,
            waits: false,
            is_whole: false,
            above: None,
        });
        if holder.held_bytes != held_bytes {
            holder.last_arrival_ticks_ms = now.ticks_ms;
        }
        if missing_bytes > holder.missing_bytes {
            // The frame that went on above the bound is whole; this is the next one.
            self.above_bytes -= holder.above.take().map_or(0, |above| above.reserved_bytes);
        }
        self.used_bytes = self.used_bytes - holder.held_bytes + held_bytes;
        holder.held_bytes = held_bytes;
        holder.missing_bytes = missing_bytes;
    }

    fn decide(&mut self, connection: u64, limit_bytes: usize, frame_max_bytes: usize, now: Now) -> Growth {
        if self.used_bytes < limit_bytes {
            return Growth::Granted;
        }
        let Some(asking) = self.by_connection.get(&connection) else { return Growth::Granted };
        if let Some(above) = &asking.above {
            return if now.ticks_ms < above.until_ticks_ms { Growth::Granted } else { Growth::Refused };
        }
        let missing_bytes = asking.missing_bytes;
        let is_least = self.by_connection.values().all(|other| !other.waits || other.missing_bytes >= missing_bytes);
        if !is_least || self.above_bytes.saturating_add(missing_bytes) > frame_max_bytes {
            return Growth::Wait;
        }
        let time_ms = GRACE_MS + i64::try_from(missing_bytes).unwrap_or(i64::MAX) / SLOWEST_BYTES_PER_MS;
        let above = Above { reserved_bytes: missing_bytes, until_ticks_ms: now.ticks_ms.saturating_add(time_ms) };
        self.above_bytes += missing_bytes;
        if let Some(asking) = self.by_connection.get_mut(&connection) {
            asking.above = Some(above);
        }
        Growth::Granted
    }

    fn set_waits(&mut self, connection: u64, waits: bool, now: Now) {
        let Some(holder) = self.by_connection.get_mut(&connection) else { return };
        if holder.waits && !waits {
            // While it waited nothing was read: that was not its client's fault.
            holder.last_arrival_ticks_ms = now.ticks_ms;
        }
        self.waiting = self.waiting - usize::from(holder.waits) + usize::from(waits);
        holder.waits = waits;
    }

    fn largest_stalled(&self, now: Now) -> Option<Arc<dyn Claimant>> {
        let is_stalled = |holder: &&Holder| {
            !holder.waits && !holder.is_whole && now.ticks_ms - holder.last_arrival_ticks_ms >= STALL_MS
        };
        let stalled = self.by_connection.values().filter(is_stalled);
        stalled.max_by_key(|holder| holder.held_bytes).map(|holder| Arc::clone(&holder.claimant))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn at(ticks_ms: i64) -> Now {
        Now { wall_ms: 0, ticks_ms }
    }

    #[derive(Default)]
    struct Connection {
        woken: AtomicUsize,
        ended: AtomicUsize,
    }

    impl Claimant for Connection {
        fn wake(&self) {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }

        fn end(&self, _reason: &str) {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct World {
        memory: RequestMemory,
        connections: Vec<(Arc<Connection>, Arc<dyn Claimant>)>,
    }

    /// Bound 1000 bytes, frames up to 500.
    fn world(count: usize) -> World {
        let connection = |_| {
            let connection = Arc::new(Connection::default());
            (Arc::clone(&connection), connection as Arc<dyn Claimant>)
        };
        World { memory: RequestMemory::new(1000, 500), connections: (0..count).map(connection).collect() }
    }

    impl World {
        fn ask(&self, index: usize, held: usize, missing: usize, ticks_ms: i64) -> Growth {
            let now = at(ticks_ms);
            self.memory.ask(index as u64, &self.connections[index].1, held, missing, now)
        }

        fn ended(&self, index: usize) -> usize {
            self.connections[index].0.ended.load(Ordering::Relaxed)
        }

        fn woken(&self, index: usize) -> usize {
            self.connections[index].0.woken.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn below_the_bound_everybody_reads_and_a_declared_length_counts_for_nothing() {
        let world = world(3);
        for index in 0..3 {
            assert_eq!(world.ask(index, 300, 1 << 30, 0), Growth::Granted);
        }
        assert_eq!(world.memory.used_bytes(), 900);
        world.memory.release(1);
        assert_eq!(world.memory.used_bytes(), 600);
    }

    #[test]
    fn above_the_bound_the_frame_that_misses_least_goes_on_and_the_others_wait_to_be_woken() {
        let world = world(4);
        assert_eq!(world.ask(0, 600, 450, 0), Growth::Granted);
        assert_eq!(world.ask(1, 600, 400, 0), Growth::Granted, "the bound is reached: 400 more may come above it");
        assert_eq!(world.ask(0, 600, 450, 0), Growth::Wait, "850 would be above it");
        assert_eq!(world.ask(2, 10, 90, 0), Growth::Granted, "a small one fits beside");
        assert_eq!(world.ask(3, 10, 90, 0), Growth::Wait);
        world.memory.release(1);
        assert_eq!((world.woken(0), world.woken(3)), (1, 1));
        assert_eq!(world.ask(0, 600, 450, 0), Growth::Granted, "room again");
    }

    #[test]
    fn who_goes_on_above_the_bound_has_a_time_for_it() {
        let world = world(1);
        assert_eq!(world.ask(0, 1000, 500, 0), Growth::Granted);
        assert_eq!(world.ask(0, 1001, 499, GRACE_MS - 1), Growth::Granted);
        assert_eq!(world.ask(0, 1002, 498, GRACE_MS), Growth::Refused);
    }

    #[test]
    fn a_stalled_frame_makes_room_only_when_somebody_waits() {
        let world = world(3);
        assert_eq!(world.ask(0, 400, 500, 0), Growth::Granted);
        assert_eq!(world.ask(1, 500, 500, 0), Growth::Granted);
        assert_eq!((world.ended(0), world.ended(1)), (0, 0));
        assert_eq!(world.ask(2, 100, 501, STALL_MS - 1), Growth::Wait);
        assert_eq!(world.ended(1), 0, "not long enough");
        assert_eq!(world.ask(2, 100, 501, STALL_MS), Growth::Wait);
        assert_eq!((world.ended(0), world.ended(1), world.ended(2)), (0, 1, 0), "the largest");
    }

    #[test]
    fn who_was_made_to_wait_is_not_taken_for_stalled() {
        let world = world(3);
        assert_eq!(world.ask(0, 1000, 400, 0), Growth::Granted);
        assert_eq!(world.ask(1, 100, 200, 0), Growth::Wait, "the first goes on above the bound");
        world.memory.release(0);
        assert_eq!(world.ask(1, 100, 200, 2 * STALL_MS), Growth::Granted, "a while later there is room");
        assert_eq!(world.ask(2, 950, 600, 2 * STALL_MS), Growth::Wait);
        assert_eq!(world.ended(1), 0);
        assert_eq!(world.ask(2, 950, 600, 3 * STALL_MS), Growth::Wait);
        assert_eq!(world.ended(1), 1);
    }

    #[test]
    fn a_whole_frame_that_waits_for_those_before_it_is_counted_but_not_taken_for_stalled() {
        let world = world(3);
        assert_eq!(world.ask(0, 1000, 500, 0), Growth::Granted, "above the bound");
        world.memory.set_whole(0, true, at(10));
        assert_eq!(world.ask(1, 100, 501, 2 * STALL_MS), Growth::Wait);
        assert_eq!((world.memory.used_bytes(), world.ended(0)), (1100, 0));
        assert_eq!(world.ask(1, 100, 500, 2 * STALL_MS), Growth::Granted, "the first misses nothing any more");
        world.memory.set_whole(0, false, at(2 * STALL_MS));
        assert_eq!(world.ask(2, 100, 500, 3 * STALL_MS - 1), Growth::Wait);
        assert_eq!(world.ended(0), 0, "its client has the usual time for what comes next");
        assert_eq!(world.ask(2, 100, 500, 3 * STALL_MS), Growth::Wait);
        assert_eq!(world.ended(0), 1);
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let memory = RequestMemory::new(-1, 500);
        let connection: Arc<dyn Claimant> = Arc::new(Connection::default());
        assert_eq!(memory.ask(1, &connection, usize::MAX / 2, 500, at(0)), Growth::Granted);
    }
}
