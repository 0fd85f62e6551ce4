//! What a data directory does by the clock: checkpoints, retention, removal of deleted files, expiry of producers.

use base::Now;

use super::directory::{CleanerTurn, DirectoryStep, LogDirectory};

/// Kafka's delay before the first retention check.
const INITIAL_TASK_DELAY_MS: i64 = 30_000;

impl LogDirectory {
    /// Does what is due: [`LogDirectory::step_duties`], then [`LogDirectory::step_cleaner`].
    pub fn step(&self, now: Now) -> DirectoryStep {
        let duties = self.step_duties(now);
        let cleaner = self.step_cleaner(now);
        DirectoryStep {
            did_work: duties.did_work || cleaner.did_work,
            next_wake_ticks_ms: duties.next_wake_ticks_ms.min(cleaner.next_wake_ticks_ms),
        }
    }

    /// Cleans at most one partition, if it is time to look. Takes as long as reading and writing that partition does:
    /// for a thread of its own where others wait for the clock.
    pub fn step_cleaner(&self, now: Now) -> DirectoryStep {
        if !self.options.cleaner_enable {
            return DirectoryStep { did_work: false, next_wake_ticks_ms: i64::MAX };
        }
        let mut turn = self.cleaner_turn.lock();
        let turn = turn.get_or_insert(CleanerTurn { looked_ticks_ms: now.ticks_ms, found_some: false });
        // The settings may have changed since: when the next turn is depends on those of now.
        let due = |turn: &CleanerTurn| {
            let backoff_ms = if turn.found_some { 0 } else { self.settings.lock().cleaner_backoff_ms.max(1) };
            turn.looked_ticks_ms.saturating_add(backoff_ms)
        };
        let did_work = now.ticks_ms >= due(turn);
        if did_work {
            // More may be dirty: look again at once.
            *turn = CleanerTurn { looked_ticks_ms: now.ticks_ms, found_some: self.clean_dirtiest(now) };
        }
        DirectoryStep { did_work, next_wake_ticks_ms: due(turn) }
    }

    /// Does what is due and quick: checkpoints, retention, deferred deletes, expiry of producers.
    ///
    /// What fails is logged and tried again when it is due next.
    pub fn step_duties(&self, now: Now) -> DirectoryStep {
        let mut schedule = self.schedule.lock();
        let options = &self.options;
        let ticks = now.ticks_ms;
        if !schedule.started {
            schedule.started = true;
            schedule.retention_ticks_ms = ticks + INITIAL_TASK_DELAY_MS.min(options.retention_check_interval_ms);
            schedule.checkpoint_ticks_ms = ticks + options.offset_checkpoint_interval_ms;
            schedule.watermark_ticks_ms = ticks + options.high_watermark_checkpoint_interval_ms;
            schedule.expiry_ticks_ms = ticks + options.producer_id_expiration_check_interval_ms;
        }
        let mut did_work = false;
        let mut due = |at: &mut i64, interval_ms: i64| {
            let due = ticks >= *at;
            if due {
                *at = ticks.saturating_add(interval_ms.max(1));
                did_work = true;
            }
            due
        };
        if due(&mut schedule.retention_ticks_ms, options.retention_check_interval_ms) {
            self.apply_retention(now);
        }
        if due(&mut schedule.watermark_ticks_ms, options.high_watermark_checkpoint_interval_ms)
            && let Err(error) = self.write_watermark_checkpoint()
        {
            tracing::error!(%error, "cannot write the high watermarks");
        }
        if due(&mut schedule.checkpoint_ticks_ms, options.offset_checkpoint_interval_ms)
            && let Err(error) = self.write_offset_checkpoints()
        {
            tracing::error!(%error, "cannot write recovery points and log starts");
        }
        if due(&mut schedule.expiry_ticks_ms, options.producer_id_expiration_check_interval_ms) {
            let before = now.wall_ms.saturating_sub(self.settings.lock().producer_id_expiration_ms);
            for log in self.open_partitions() {
                log.writer.lock().producers.expire(before);
            }
        }
        did_work |= self.shared.deferred.step(self.shared.cache.files().as_ref(), ticks);
        let next = [
            schedule.retention_ticks_ms,
            schedule.checkpoint_ticks_ms,
            schedule.watermark_ticks_ms,
            schedule.expiry_ticks_ms,
            self.shared.deferred.next_ticks_ms().unwrap_or(i64::MAX),
        ];
        DirectoryStep { did_work, next_wake_ticks_ms: next.into_iter().min().unwrap_or(i64::MAX) }
    }

    fn apply_retention(&self, now: Now) {
        for log in self.open_partitions().into_iter().filter(|log| log.is_configured()) {
            if let Err(error) = log.apply_retention(now) {
                tracing::error!(partition = %log.topic_partition(), %error, "cannot apply retention");
            }
        }
    }
}
