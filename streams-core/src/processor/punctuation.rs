//! Schedules: when [`Processor::punctuate`](crate::Processor::punctuate) is called.
//!
//! A schedule fires once when it is due, however many intervals have passed, and is then due at the first multiple of
//! its interval after the present time. Stream-time schedules are aligned to the epoch (or their start), wall-clock
//! schedules to the moment they were made (or their start).

use base::Timestamp;

/// Which clock drives a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunctuationType {
    /// The task's stream time: fires only while records arrive.
    StreamTime,
    /// The wall clock.
    WallClockTime,
}

/// One schedule of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleId(pub u32);

#[derive(Debug)]
struct Schedule {
    id: ScheduleId,
    node: u32,
    next: Timestamp,
    interval_ms: i64,
}

/// All schedules of one task, in the order in which they are due (ties: as a `java.util.PriorityQueue` keeps them does
/// not matter, each fires once).
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    stream: Vec<Schedule>,
    wall_clock: Vec<Schedule>,
    last_id: u32,
}

impl Schedules {
    /// Adds a schedule for node number `node`.
    ///
    /// Without `start`, stream time is first due at 0, wall clock at `wall_clock + interval`.
    pub(crate) fn add(
        &mut self,
        node: u32,
        interval_ms: i64,
        kind: PunctuationType,
        start: Option<Timestamp>,
        wall_clock: Timestamp,
    ) -> ScheduleId {
        self.last_id += 1;
        let id = ScheduleId(self.last_id);
        let (list, first) = match kind {
            PunctuationType::StreamTime => (&mut self.stream, 0),
            PunctuationType::WallClockTime => (&mut self.wall_clock, wall_clock.saturating_add(interval_ms)),
        };
        list.push(Schedule { id, node, next: start.unwrap_or(first), interval_ms });
        id
    }

    /// Removes a schedule; one that is gone already is no error.
    pub(crate) fn cancel(&mut self, id: ScheduleId) {
        self.stream.retain(|schedule| schedule.id != id);
        self.wall_clock.retain(|schedule| schedule.id != id);
    }

    /// Forgets all schedules.
    pub(crate) fn clear(&mut self) {
        self.stream.clear();
        self.wall_clock.clear();
    }

    /// The schedule that has been due longest at `now` and its node, moved on to its next time.
    pub(crate) fn take_due(&mut self, kind: PunctuationType, now: Timestamp) -> Option<(ScheduleId, u32)> {
        let list = match kind {
            PunctuationType::StreamTime => &mut self.stream,
            PunctuationType::WallClockTime => &mut self.wall_clock,
        };
        let due = list.iter_mut().filter(|schedule| schedule.next <= now).min_by_key(|schedule| schedule.next)?;
        // The smallest `previous + k * interval` after `now`.
        let missed = (now - due.next) / due.interval_ms;
        due.next = due.next.saturating_add((missed + 1).saturating_mul(due.interval_ms));
        Some((due.id, due.node))
    }

    /// When the next wall-clock schedule is due.
    pub(crate) fn next_wall_clock(&self) -> Option<Timestamp> {
        self.wall_clock.iter().map(|schedule| schedule.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_time_is_first_due_at_zero_and_aligned_to_the_epoch() {
        let mut schedules = Schedules::default();
        let id = schedules.add(0, 10, PunctuationType::StreamTime, None, 777);
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, -1), None);
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 3), Some((id, 0)));
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 9), None);
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 10), Some((id, 0)));
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 57), Some((id, 0)));
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 57), None, "missed intervals fire once");
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 59), None);
        assert_eq!(schedules.take_due(PunctuationType::StreamTime, 60), Some((id, 0)));
    }

    #[test]
    fn wall_clock_is_first_due_one_interval_after_scheduling() {
        let mut schedules = Schedules::default();
        let id = schedules.add(4, 10, PunctuationType::WallClockTime, None, 1_003);
        assert_eq!(schedules.next_wall_clock(), Some(1_013));
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 1_012), None);
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 1_013), Some((id, 4)));
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 1_022), None);
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 1_023), Some((id, 4)));
    }

    #[test]
    fn a_start_sets_first_time_and_alignment_and_cancel_ends_it() {
        let mut schedules = Schedules::default();
        let id = schedules.add(0, 10, PunctuationType::WallClockTime, Some(5), 1_000);
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 1_000), Some((id, 0)));
        assert_eq!(schedules.next_wall_clock(), Some(1_005));
        schedules.cancel(id);
        assert_eq!(schedules.take_due(PunctuationType::WallClockTime, 9_000), None);
    }
}
