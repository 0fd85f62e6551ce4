//! The log of one partition: its four offsets, its segments and who may change them.
//!
//! Appending is in `append`, reading in `read`, opening in `recovery`, deleting in `retention`, compaction in `cleaner`.
//!
//! Invariant: `log_start <= last_stable <= high_watermark <= log_end`, checked by [`LogOffsets::update`]; the high
//! watermark passes only what the directory's durability holds.
//! Threads: the appender (and whoever truncates, deletes or cleans) holds `writer`; it changes `view` in short sections
//! without I/O, so readers, who only take `view`, never wait for the disk. Lock order: writer, view, unsynced.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use base::{Clock, LeaderEpoch, Offset, ProducerId, TopicPartition};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::checkpoint;
use super::config::LogConfig;
use super::deferred::DeferredDeletes;
use super::file_cache::{FileCache, OpenFile};
use super::flusher::Flusher;
use super::leader_epochs::LeaderEpochs;
use super::producer_state::Producers;
use super::segment::{Segment, file_name};
use super::tail::{Tail, TailBudget};
use super::transactions::Transactions;
use super::types::{Durability, EpochEndOffset, LogError, LogOffsets, ProducerInfo};
use crate::error::{ErrorKind, StorageError};
use crate::files::{FileHandle, OpenMode};

/// Called, outside all locks of the log, when the high watermark, the last stable offset or the log start has moved,
/// and when the log has failed.
pub type Listener = Arc<dyn Fn() + Send + Sync>;

/// What all partitions of a directory share.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) durability: Durability,
    pub(super) cache: Arc<FileCache>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Mutex<base::Rng>,
    pub(super) budget: Arc<TailBudget>,
    pub(super) flusher: Arc<Flusher>,
    pub(super) deferred: DeferredDeletes,
    pub(super) failure: DirectoryFailure,
}

/// The first failure of any log of a data directory, and who is told of it.
#[derive(Default)]
pub(super) struct DirectoryFailure {
    first: OnceLock<LogError>,
    listener: Mutex<Option<Listener>>,
}

impl DirectoryFailure {
    pub(super) fn get(&self) -> Option<&LogError> {
        self.first.get()
    }

    pub(super) fn on_failure(&self, listener: Listener) {
        *self.listener.lock() = Some(Arc::clone(&listener));
        // It may have come before.
        if self.first.get().is_some() {
            listener();
        }
    }

    pub(super) fn note(&self, error: &LogError) {
        if self.first.set(error.clone()).is_ok() {
            let listener = self.listener.lock().clone();
            if let Some(listener) = listener {
                listener();
            }
        }
    }
}

/// What only the holder of the writer lock may change.
pub(super) struct Writer {
    /// Whether the folder is there.
    pub(super) created: bool,
    pub(super) closed: bool,
    /// Whether anything changed since the log was opened, so that closing must write.
    pub(super) dirty: bool,
    pub(super) producers: Producers,
}

/// What readers see.
pub(super) struct View {
    pub(super) offsets: LogOffsets,
    /// In the order of base offsets; empty before the first append.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Segment (by base offset) and byte where the high watermark lies, if known.
    pub(super) watermark_at: Option<(Offset, u64)>,
    /// Everything below is synced.
    pub(super) durable_end: Offset,
    /// Segment and byte of `durable_end`, if known.
    pub(super) durable_at: Option<(Offset, u64)>,
    pub(super) transactions: Transactions,
}

impl View {
    pub(super) fn active(&self) -> Option<&Arc<Segment>> {
        self.segments.last()
    }

    /// Index of the segment that holds `offset`.
    pub(super) fn segment_index(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base_offset <= offset).checked_sub(1)
    }
}

/// What a sync must still make durable.
#[derive(Default)]
pub(super) struct Unsynced {
    files: Vec<Arc<OpenFile>>,
    folder: bool,
    parent: bool,
}

/// One partition's share of a group commit.
pub(super) struct SyncJob {
    end: Offset,
    end_at: Option<(Offset, u64)>,
    pub(super) files: Vec<Arc<dyn FileHandle>>,
    pub(super) folders: Vec<PathBuf>,
}

/// The log of one partition. One appender at a time (a lock inside); readers never wait for it.
pub struct PartitionLog {
    this: Weak<PartitionLog>,
    pub(super) shared: Arc<Shared>,
    pub(super) partition: TopicPartition,
    topic_id: RwLock<Uuid>,
    pub(super) folder: PathBuf,
    config: RwLock<Arc<LogConfig>>,
    /// Whether the configuration is the topic's own: no retention and no cleaning before.
    configured: AtomicBool,
    pub(super) writer: Mutex<Writer>,
    pub(super) view: RwLock<View>,
    pub(super) unsynced: Mutex<Unsynced>,
    pub(super) epochs: Mutex<LeaderEpochs>,
    pub(super) tail: Arc<Tail>,
    listeners: RwLock<Vec<Listener>>,
    pub(super) queued: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<LogError>>,
    /// Deleted, or reopened as another log: see [`PartitionLog::abandon`].
    abandoned: AtomicBool,
    replicated_end: AtomicI64,
}

/// What is known of a partition when its log is opened.
pub(super) struct Opened {
    pub(super) created: bool,
    /// Whether opening changed anything.
    pub(super) dirty: bool,
    pub(super) topic_id: Uuid,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    /// Everything below is synced.
    pub(super) durable_end: Offset,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) producers: Producers,
    pub(super) epochs: LeaderEpochs,
}

impl PartitionLog {
    pub(super) fn new(shared: Arc<Shared>, partition: TopicPartition, config: LogConfig, opened: Opened) -> Arc<Self> {
        let folder = shared.folder.join(partition.to_string());
        let tail = Tail::new(Arc::clone(&shared.budget));
        let start = opened.log_start;
        let mut view = View {
            offsets: LogOffsets {
                log_start: start,
                last_stable: start,
                high_watermark: start,
                log_end: opened.log_end,
            },
            segments: opened.segments,
            watermark_at: None,
            durable_end: opened.durable_end,
            durable_at: None,
            transactions: Transactions::new(opened.producers.open_transactions()),
        };
        if let Some(active) = view.active()
            && view.durable_end == view.offsets.log_end
        {
            view.durable_at = Some((active.base_offset, active.size()));
        }
        let log = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared,
            partition,
            topic_id: RwLock::new(opened.topic_id),
            folder,
            config: RwLock::new(Arc::new(config)),
            configured: AtomicBool::new(false),
            writer: Mutex::new(Writer {
                created: opened.created,
                closed: false,
                dirty: opened.dirty,
                producers: opened.producers,
            }),
            view: RwLock::new(view),
            unsynced: Mutex::default(),
            epochs: Mutex::new(opened.epochs),
            tail,
            listeners: RwLock::default(),
            queued: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            abandoned: AtomicBool::new(false),
            replicated_end: AtomicI64::new(i64::MAX),
        });
        log.advance(&mut log.view.write());
        log
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Id of the topic; nil for a directory from before topic ids.
    pub fn topic_id(&self) -> Uuid {
        *self.topic_id.read()
    }

    pub(super) fn set_topic_id(&self, topic_id: Uuid) {
        *self.topic_id.write() = topic_id;
    }

    /// The four offsets; a few nanoseconds.
    pub fn offsets(&self) -> LogOffsets {
        self.view.read().offsets
    }

    /// Where `epoch`, or the largest known one below it, ends.
    pub fn leader_epoch_end_offset(&self, epoch: LeaderEpoch) -> EpochEndOffset {
        let log_end = self.offsets().log_end;
        self.epochs.lock().end_offset(epoch, log_end)
    }

    /// The newest leader epoch; -1 if none is known.
    pub fn latest_leader_epoch(&self) -> LeaderEpoch {
        self.epochs.lock().latest()
    }

    /// Takes note that this node leads with `epoch` from the log end on.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub fn start_leader_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        let writer = self.writer.lock();
        let log_end = self.offsets().log_end;
        if self.epochs.lock().assign(epoch, log_end) && writer.created {
            self.write_epochs().map_err(|error| self.fail(error))?;
            self.queue_sync();
        }
        Ok(())
    }

    /// Writes the leader epoch checkpoint; it is durable with the next sync.
    pub(super) fn write_epochs(&self) -> Result<(), LogError> {
        let text = checkpoint::format_epochs(self.epochs.lock().entries());
        self.write_file("leader-epoch-checkpoint", text.as_bytes())
    }

    /// Replaces a small file of the partition's folder in one step; it is durable with the next sync.
    pub(super) fn write_file(&self, name: &str, content: &[u8]) -> Result<(), LogError> {
        let path = self.folder.join(name);
        let temporary = self.folder.join(format!("{name}.tmp"));
        let files = self.shared.cache.files();
        let write = || {
            let file = files.open(&temporary, OpenMode::Truncate)?;
            file.write_at(content, 0)?;
            files.rename(&temporary, &path)?;
            Ok(file)
        };
        let file = write().map_err(|error| StorageError::io("write", &path, &error))?;
        let mut unsynced = self.unsynced.lock();
        unsynced.files.push(Arc::new(OpenFile(file)));
        unsynced.folder = true;
        Ok(())
    }

    /// Bounds the high watermark by what the replicas have; `i64::MAX`, the initial value, leaves it to durability.
    pub fn set_replicated_end(&self, offset: Offset) {
        self.replicated_end.store(offset, Ordering::SeqCst);
        let advanced = self.advance(&mut self.view.write());
        self.notify(advanced);
    }

    /// Takes another configuration, from the next append on.
    pub fn update_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
        self.configured.store(true, Ordering::SeqCst);
    }

    /// The configuration.
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    pub(super) fn is_configured(&self) -> bool {
        self.configured.load(Ordering::SeqCst)
    }

    /// Sum of the sizes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.view.read().segments.iter().map(|segment| segment.size()).sum()
    }

    /// What is known of one producer. Waits for an append that is under way.
    pub fn producer(&self, producer_id: ProducerId) -> Option<ProducerInfo> {
        self.writer.lock().producers.info(producer_id)
    }

    /// What is known of all producers, by id. Waits for an append that is under way.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        self.writer.lock().producers.infos()
    }

    /// Adds a listener; see [`Listener`].
    pub fn on_advance(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    /// Why appends are refused since a write or a sync failed; `None` while all is well.
    pub fn failure(&self) -> Option<LogError> {
        self.failure.lock().clone()
    }

    /// Refuses all changes from now on; gives back the error. What an abandoned log meets is no failure: its folder may be renamed or gone
    /// while the flusher still has it in a queue or under way.
    pub(super) fn fail(&self, error: LogError) -> LogError {
        if self.is_abandoned() {
            return error;
        }
        let mut failure = self.failure.lock();
        if failure.is_none() {
            tracing::error!(partition = %self.partition, %error, "log failed; it refuses appends until it is reopened");
            *failure = Some(error.clone());
        }
        drop(failure);
        self.failed.store(true, Ordering::SeqCst);
        self.shared.failure.note(&error);
        error
    }

    /// The error of a log that has failed or was closed.
    pub(super) fn check_writable(&self, writer: &Writer) -> Result<(), LogError> {
        if self.failed.load(Ordering::SeqCst)
            && let Some(failure) = self.failure()
        {
            let message = format!("{} failed earlier and must be reopened: {}", self.partition, failure.message());
            return Err(StorageError::new(ErrorKind::Poisoned, message));
        }
        if writer.closed {
            return Err(StorageError::new(ErrorKind::Closed, format!("{} is closed", self.partition)));
        }
        Ok(())
    }

    pub(super) fn durable_end(&self) -> Offset {
        self.view.read().durable_end
    }

    /// Moves high watermark and last stable offset as far as they may go; whether one of them moved.
    pub(super) fn advance(&self, view: &mut View) -> bool {
        let before = view.offsets;
        let (safe, safe_at) = match self.shared.durability {
            Durability::Power => (view.durable_end, view.durable_at),
            Durability::Process => (before.log_end, view.active().map(|active| (active.base_offset, active.size()))),
        };
        let replicated = self.replicated_end.load(Ordering::SeqCst);
        let target = safe.min(replicated).min(before.log_end);
        if target > before.high_watermark {
            view.watermark_at = if target == safe { safe_at } else { None };
        }
        let high_watermark = target.max(before.high_watermark);
        let first_unstable = view.transactions.first_unstable(high_watermark);
        view.offsets.update(|offsets| {
            offsets.high_watermark = high_watermark;
            let stable = first_unstable.map_or(high_watermark, |first| first.min(high_watermark));
            offsets.last_stable = stable.max(offsets.log_start);
        });
        view.offsets != before
    }

    /// Calls the listeners if `advanced`; never while a lock is held.
    pub(super) fn notify(&self, advanced: bool) {
        if advanced {
            let listeners = self.listeners.read();
            match listeners.as_slice() {
                [] => {}
                [one] => {
                    let one = Arc::clone(one);
                    drop(listeners);
                    one();
                }
                several => {
                    let several = several.to_vec();
                    drop(listeners);
                    several.iter().for_each(|listener| listener());
                }
            }
        }
    }

    /// Adds a file to what the next sync makes durable.
    pub(super) fn mark_unsynced(&self, file: Arc<OpenFile>) {
        let mut unsynced = self.unsynced.lock();
        if !unsynced.files.iter().any(|known| Arc::ptr_eq(known, &file)) {
            unsynced.files.push(file);
        }
    }

    /// Makes the next sync cover the names in the partition's folder, and with `parent` the folder itself.
    pub(super) fn mark_names_unsynced(&self, parent: bool) {
        let mut unsynced = self.unsynced.lock();
        unsynced.folder = true;
        unsynced.parent |= parent;
    }

    /// Puts the partition into the flusher's queue.
    pub(super) fn queue_sync(&self) {
        if !self.queued.swap(true, Ordering::SeqCst)
            && let Some(this) = self.this.upgrade()
        {
            self.shared.flusher.queue(this);
        }
    }

    /// What a sync that starts now must do. The end is taken before the files: what is below it was marked before it
    /// was published.
    pub(super) fn begin_sync(&self) -> SyncJob {
        let (end, end_at) = {
            let view = self.view.read();
            match (self.shared.durability, view.active()) {
                (Durability::Power, Some(active)) => (view.offsets.log_end, Some((active.base_offset, active.size()))),
                // Only rolled segments are synced: everything before the active one.
                (Durability::Process, Some(active)) => (active.base_offset, Some((active.base_offset, 0))),
                (_, None) => (view.offsets.log_end, None),
            }
        };
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        let mut folders = Vec::new();
        if unsynced.folder {
            folders.push(self.folder.clone());
        }
        if unsynced.parent {
            folders.push(self.shared.folder.clone());
        }
        let files = unsynced.files.iter().map(|file| Arc::clone(&file.0)).collect();
        SyncJob { end, end_at, files, folders }
    }

    /// Ends a sync: moves the offsets, or poisons the log; whether it did that.
    pub(super) fn complete_sync(&self, job: &SyncJob, result: Result<(), LogError>) -> bool {
        match result {
            Ok(()) => {
                if self.failed.load(Ordering::SeqCst) {
                    // What the failed sync was to cover is in no later job: nothing can vouch for it any more, and who
                    // waits for it must learn that.
                    self.notify(true);
                    return false;
                }
                let advanced = {
                    let mut view = self.view.write();
                    // A truncation meanwhile took the end back.
                    if job.end > view.durable_end && job.end <= view.offsets.log_end {
                        view.durable_end = job.end;
                        view.durable_at = job.end_at;
                    }
                    self.advance(&mut view)
                };
                self.notify(advanced);
                false
            }
            Err(error) => {
                self.fail(error.at(&self.partition));
                self.notify(true);
                !self.is_abandoned()
            }
        }
    }

    /// Makes folder and metadata of a new partition.
    pub(super) fn create_folder(&self, writer: &mut Writer) -> Result<(), LogError> {
        let files = self.shared.cache.files();
        files.create_dir_all(&self.folder).map_err(|error| StorageError::io("make", &self.folder, &error))?;
        self.mark_names_unsynced(true);
        let topic_id = self.topic_id();
        if !topic_id.is_nil() {
            self.write_file("partition.metadata", checkpoint::format_partition_metadata(topic_id).as_bytes())?;
        }
        if self.epochs.lock().latest() >= 0 {
            self.write_epochs()?;
        }
        writer.created = true;
        // Also where no append asks for a sync: until theirs these files stay open.
        self.queue_sync();
        Ok(())
    }

    /// Makes a new, empty active segment at `base_offset`.
    pub(super) fn add_segment(&self, base_offset: Offset, config: &LogConfig) -> Result<Arc<Segment>, LogError> {
        let jitter_ms = match config.segment_jitter_ms.min(config.segment_ms) {
            0 => 0,
            bound => self.shared.rng.lock().below(bound as u64) as i64,
        };
        let now_ms = self.shared.clock.wall_ms();
        let segment = Segment::create(&self.shared.cache, &self.folder, base_offset, now_ms, jitter_ms)
            .map_err(|error| StorageError::io("make", &self.folder.join(file_name(base_offset, ".log")), &error))?;
        let segment = Arc::new(segment);
        self.mark_names_unsynced(false);
        self.view.write().segments.push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Seals the active segment and starts one at `base_offset`; its snapshot and indexes are durable with the next
    /// sync, and only then counts as recovered what lies before.
    pub(super) fn roll(
        &self,
        writer: &Writer,
        base_offset: Offset,
        config: &LogConfig,
    ) -> Result<Arc<Segment>, LogError> {
        let active = self.view.read().active().cloned();
        if let Some(active) = active {
            self.write_snapshot(writer, base_offset)?;
            self.seal(&active)?;
            if self.shared.durability == Durability::Power {
                // Once per segment the appender waits for the disk: nothing of the new segment may survive a power cut
                // that takes something of this one, or the log would come back with a hole.
                let sync = || active.open_log()?.0.sync_data();
                sync().map_err(|error| active.io("sync", &error))?;
            }
        }
        let segment = self.add_segment(base_offset, config)?;
        self.queue_sync();
        Ok(segment)
    }

    /// Writes a segment's indexes to their end and marks its files for the next sync.
    pub(super) fn seal(&self, segment: &Segment) -> Result<(), LogError> {
        let seal = || {
            segment.write_out_indexes()?;
            segment.files()?.iter().map(|file| file.open(OpenMode::Write)).collect::<Result<Vec<_>, _>>()
        };
        let files = seal().map_err(|error| segment.io("seal", &error))?;
        files.into_iter().for_each(|file| self.mark_unsynced(file));
        Ok(())
    }

    /// Writes the producers' snapshot for `offset`; durable with the next sync.
    pub(super) fn write_snapshot(&self, writer: &Writer, offset: Offset) -> Result<(), LogError> {
        let path = self.folder.join(file_name(offset, ".snapshot"));
        let content = writer.producers.to_snapshot();
        let write = || {
            let file = self.shared.cache.files().open(&path, OpenMode::Create)?;
            // A log that is closed as it was opened has it already: to write it again costs more than to look.
            let mut found = vec![0; content.len()];
            if file.len()? != content.len() as u64 || file.read_exact_at(&mut found, 0).is_err() || found != content {
                file.set_len(0)?;
                file.write_at(&content, 0)?;
            }
            Ok(file)
        };
        let file = write().map_err(|error| StorageError::io("write", &path, &error))?;
        self.mark_unsynced(Arc::new(OpenFile(file)));
        self.mark_names_unsynced(false);
        Ok(())
    }

    /// Refuses appends from now on and writes what a clean shutdown leaves, to be synced by the flusher's next step.
    pub(super) fn begin_close(&self) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Ok(());
        }
        self.check_writable(&writer)?;
        writer.closed = true;
        if !writer.dirty {
            return Ok(());
        }
        let (active, log_end) = {
            let view = self.view.read();
            (view.active().cloned(), view.offsets.log_end)
        };
        let mut superseded = self.superseded_snapshots(log_end)?;
        if let Some(active) = active {
            self.reuse_snapshot(&writer, log_end, &mut superseded)?;
            self.write_snapshot(&writer, log_end)?;
            self.seal(&active)?;
        }
        self.remove_snapshots(&superseded)?;
        self.queue_sync();
        Ok(())
    }

    /// Whether closing must write something.
    pub(super) fn is_dirty(&self) -> bool {
        self.writer.lock().dirty
    }

    /// Lets go of the files that wait for a sync: the caller syncs the whole directory before the flusher's next step.
    pub(super) fn leave_to_directory_sync(&self) {
        *self.unsynced.lock() = Unsynced::default();
    }

    /// Ends what [`PartitionLog::begin_close`] began, after the flusher's step.
    pub(super) fn finish_close(&self) -> Result<(), LogError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let advanced = {
            let mut view = self.view.write();
            view.durable_end = view.offsets.log_end;
            view.durable_at = None;
            self.advance(&mut view)
        };
        self.tail.clear();
        self.notify(advanced);
        Ok(())
    }

    /// Refuses appends from now on, without writing anything: the partition is deleted.
    pub(super) fn abandon(&self) {
        self.writer.lock().closed = true;
        self.abandoned.store(true, Ordering::SeqCst);
        self.tail.clear();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Folder of the partition.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
