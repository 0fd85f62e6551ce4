//! One data directory: its lock, its identity, its checkpoints and its partitions.
//!
//! After a clean shutdown a partition is opened when it is first asked for; after a crash all are, at once, since what
//! was cut must be known before anything is served.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base::{Clock, Rng, TopicPartition};
use parking_lot::Mutex;
use uuid::Uuid;

use super::checkpoint::{self, Offsets};
use super::claim::{ClaimedDirectory, read_text};
use super::config::LogConfig;
use super::deferred::DeferredDeletes;
use super::file_cache::FileCache;
use super::flusher::{Flusher, SYNC_DIRECTORY_FROM};
use super::partition::{DirectoryFailure, Listener, Shared};
use super::partitions::{Checkpointed, Slot, parse_folder_name};
use super::tail::TailBudget;
use super::types::{Durability, LogError, RecoveryReport};
use crate::error::{ErrorKind, StorageError};
use crate::files::{FileLock, Files, Volume};

pub(super) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(super) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
pub(super) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(super) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// How a [`LogDirectory`] opens and runs. Intervals carry Kafka's defaults.
#[derive(Clone)]
pub struct LogDirectoryOptions {
    /// What an acknowledged append survives.
    pub durability: Durability,
    /// Source of time for file times; everything else takes `now` as an argument.
    pub clock: Arc<dyn Clock>,
    /// Source of segment jitter and ids.
    pub rng: Rng,
    /// Of partitions that are there and were not given one yet.
    pub default_config: LogConfig,
    /// How many files may be open.
    pub open_files_max: usize,
    /// Appended batches of one partition kept in memory, at most.
    pub tail_partition_bytes: usize,
    /// Appended batches of all partitions kept in memory, at most.
    pub tail_total_bytes: usize,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms` and `log.flush.start.offset.checkpoint.interval.ms`
    pub offset_checkpoint_interval_ms: i64,
    /// `replica.high.watermark.checkpoint.interval.ms`
    pub high_watermark_checkpoint_interval_ms: i64,
    /// `log.cleaner.enable`
    pub cleaner_enable: bool,
    /// What may change later.
    pub settings: DirectorySettings,
    /// `producer.id.expiration.check.interval.ms`
    pub producer_id_expiration_check_interval_ms: i64,
}

impl LogDirectoryOptions {
    /// Kafka's defaults, with durability `Power`.
    pub fn new(clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self {
            durability: Durability::Power,
            clock,
            rng,
            default_config: LogConfig::default(),
            open_files_max: 512,
            tail_partition_bytes: 1 << 20,
            tail_total_bytes: 16 << 20,
            retention_check_interval_ms: 300_000,
            offset_checkpoint_interval_ms: 60_000,
            high_watermark_checkpoint_interval_ms: 5_000,
            cleaner_enable: true,
            settings: DirectorySettings::default(),
            producer_id_expiration_check_interval_ms: 600_000,
        }
    }
}

/// What may change while a directory is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// `log.cleaner.backoff.ms`
    pub cleaner_backoff_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`: memory of the cleaner's offset map.
    pub cleaner_dedupe_buffer_bytes: usize,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
}

impl Default for DirectorySettings {
    /// Kafka's defaults, but for the cleaner's memory: 16 MiB.
    fn default() -> Self {
        Self {
            cleaner_backoff_ms: 15_000,
            cleaner_dedupe_buffer_bytes: 16 << 20,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}

/// When the cleaner looked last.
#[derive(Clone, Copy)]
pub(super) struct CleanerTurn {
    /// In ticks.
    pub(super) looked_ticks_ms: i64,
    /// There was something to clean, and may be more.
    pub(super) found_some: bool,
}

/// Identity of a data directory: `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// `directory.id`
    pub directory_id: String,
}

/// What one step of the directory did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStep {
    /// Whether anything was done.
    pub did_work: bool,
    /// When to call again, in ticks.
    pub next_wake_ticks_ms: i64,
}

/// When what is due next, in ticks.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) started: bool,
    pub(super) retention_ticks_ms: i64,
    pub(super) checkpoint_ticks_ms: i64,
    pub(super) watermark_ticks_ms: i64,
    pub(super) expiry_ticks_ms: i64,
}

/// One data directory: `.lock`, `meta.properties`, checkpoints, the clean-shutdown mark and the partitions.
///
/// Dropped without [`LogDirectory::close`], it is recovered at the next open, as after a crash.
pub struct LogDirectory {
    pub(super) shared: Arc<Shared>,
    pub(super) options: LogDirectoryOptions,
    pub(super) partitions: Mutex<BTreeMap<TopicPartition, Slot>>,
    pub(super) schedule: Mutex<Schedule>,
    pub(super) settings: Mutex<DirectorySettings>,
    /// Held while the cleaner works.
    pub(super) cleaner_turn: Mutex<Option<CleanerTurn>>,
    /// Wakes whoever runs the cleaner.
    pub(super) on_settings: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(super) cleaner_offsets: Mutex<Offsets>,
    /// Partitions whose cleaning failed: left alone until the directory is opened again.
    pub(super) uncleanable: Mutex<BTreeSet<TopicPartition>>,
    pub(super) report: RecoveryReport,
    meta: Mutex<Option<MetaProperties>>,
    /// What each checkpoint file holds now.
    written: Mutex<BTreeMap<&'static str, String>>,
    closed: Mutex<bool>,
    /// Held until the directory is closed or dropped, whichever comes first.
    lock: Mutex<Option<Box<dyn FileLock>>>,
}

impl LogDirectory {
    /// Opens the directory at `path`, made if it is not there, and recovers what a crash left.
    ///
    /// # Errors
    /// `InUse` if another process holds it, `Corrupt` for a malformed checkpoint or `meta.properties`. A partition that
    /// cannot be opened is no error: see [`RecoveryReport::offline`].
    pub fn open(
        files: Arc<dyn Files>,
        path: impl Into<PathBuf>,
        options: LogDirectoryOptions,
    ) -> Result<Self, LogError> {
        ClaimedDirectory::claim(files, path)?.open(options)
    }

    /// [`LogDirectory::open`], of a directory that was claimed.
    pub(super) fn open_claimed(claimed: ClaimedDirectory, options: LogDirectoryOptions) -> Result<Self, LogError> {
        let ClaimedDirectory { files, path, lock, meta } = claimed;
        let io = |what: &str, path: &Path, error: &io::Error| StorageError::io(what, path, error);
        let offsets = |name: &'static str| -> Result<Offsets, LogError> {
            match read_text(files.as_ref(), &path.join(name))? {
                None => Ok(Offsets::new()),
                Some(text) => checkpoint::parse_offsets(&text).ok_or_else(|| malformed(&path, name)),
            }
        };
        let (recovery_points, log_starts) = (offsets(RECOVERY_POINTS)?, offsets(LOG_STARTS)?);
        let (high_watermarks, cleaner_offsets) = (offsets(HIGH_WATERMARKS)?, offsets(CLEANER_OFFSETS)?);
        let clean_path = path.join(CLEAN_SHUTDOWN);
        let clean = files.exists(&clean_path).map_err(|error| io("look at", &clean_path, &error))?;
        if clean {
            // Gone before anything changes: a crash from here on must be seen.
            files.remove_file(&clean_path).map_err(|error| io("remove", &clean_path, &error))?;
            files.sync_dir(&path).map_err(|error| io("sync", &path, &error))?;
        }
        let mut rng = options.rng.clone();
        let shared = Arc::new(Shared {
            folder: path.clone(),
            durability: options.durability,
            cache: FileCache::new(Arc::clone(&files), options.open_files_max),
            clock: Arc::clone(&options.clock),
            rng: Mutex::new(rng.fork()),
            budget: TailBudget::new(options.tail_partition_bytes, options.tail_total_bytes),
            flusher: Flusher::new(Arc::clone(&files), path.clone()),
            deferred: DeferredDeletes::default(),
            failure: DirectoryFailure::default(),
        });
        let mut partitions = BTreeMap::new();
        for entry in files.list(&path).map_err(|error| io("list", &path, &error))? {
            if !entry.is_dir {
                continue;
            }
            let folder = path.join(&entry.name);
            if entry.name.ends_with("-delete") || entry.name.ends_with("-future") {
                files.remove_dir_all(&folder).map_err(|error| io("remove", &folder, &error))?;
            } else if let Some(partition) = parse_folder_name(&entry.name) {
                let offset = |offsets: &Offsets| offsets.get(&partition).copied().unwrap_or(0);
                let known = Checkpointed {
                    recovery_point: offset(&recovery_points),
                    log_start: offset(&log_starts),
                    high_watermark: offset(&high_watermarks),
                };
                partitions.insert(partition, Slot::Closed(known));
            }
        }
        let mut directory = Self {
            shared,
            settings: Mutex::new(options.settings),
            options,
            partitions: Mutex::new(partitions),
            schedule: Mutex::default(),
            cleaner_turn: Mutex::default(),
            on_settings: OnceLock::new(),
            cleaner_offsets: Mutex::new(cleaner_offsets),
            uncleanable: Mutex::default(),
            report: RecoveryReport { clean, ..RecoveryReport::default() },
            meta: Mutex::new(meta),
            written: Mutex::default(),
            closed: Mutex::new(false),
            lock: Mutex::new(Some(lock)),
        };
        if !clean {
            directory.open_all();
        }
        Ok(directory)
    }

    /// From now on these hold.
    pub fn set_settings(&self, settings: DirectorySettings) {
        let before = std::mem::replace(&mut *self.settings.lock(), settings);
        if before != settings
            && let Some(wake) = self.on_settings.get()
        {
            wake();
        }
    }

    /// Calls `wake` whenever the settings have changed, so that whoever sleeps until the cleaner's next turn looks again.
    pub fn on_settings(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.on_settings.set(wake); // there is one such driver
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.shared.folder
    }

    /// Size of the volume it lies on; `None` where that is not known.
    pub fn volume_bytes(&self) -> Option<Volume> {
        self.shared.cache.files().volume(&self.shared.folder).ok()
    }

    /// Names of the files in a partition's folder that end in `suffix`, such as a quorum's checkpoints; the log itself does
    /// not know them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files_beside(&self, partition: &TopicPartition, suffix: &str) -> Result<Vec<String>, LogError> {
        let folder = self.shared.folder.join(partition.to_string());
        let listed = self.shared.cache.files().list(&folder);
        let entries = listed.map_err(|error| StorageError::io("list", &folder, &error))?;
        Ok(entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(suffix)).collect())
    }

    /// The content of one of [`LogDirectory::files_beside`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_beside(&self, partition: &TopicPartition, name: &str) -> Result<Vec<u8>, LogError> {
        let path = self.shared.folder.join(partition.to_string()).join(name);
        self.shared.cache.files().read(&path).map_err(|error| StorageError::io("read", &path, &error))
    }

    /// What opening found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Identity; `None` in a new directory until [`LogDirectory::set_meta_properties`].
    pub fn meta_properties(&self) -> Option<MetaProperties> {
        self.meta.lock().clone()
    }

    /// Writes the identity, durably. A directory id is drawn if the given one is empty.
    ///
    /// # Errors
    /// `Invalid` if the directory has another cluster or node id already.
    pub fn set_meta_properties(&self, mut properties: MetaProperties) -> Result<(), LogError> {
        let mut meta = self.meta.lock();
        if let Some(known) = &*meta {
            if known.cluster_id != properties.cluster_id || known.node_id != properties.node_id {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    format!(
                        "{} belongs to cluster {} node {}, not to cluster {} node {}",
                        self.path().display(),
                        known.cluster_id,
                        known.node_id,
                        properties.cluster_id,
                        properties.node_id
                    ),
                ));
            }
            if properties.directory_id.is_empty() {
                properties.directory_id.clone_from(&known.directory_id);
            }
        }
        if properties.directory_id.is_empty() {
            let id = Uuid::from_bytes(self.shared.rng.lock().uuid_bytes());
            properties.directory_id = checkpoint::format_uuid(id);
        }
        self.replace("meta.properties", &checkpoint::format_meta_properties(&properties))?;
        *meta = Some(properties);
        Ok(())
    }

    pub(super) fn replace(&self, name: &str, text: &str) -> Result<(), LogError> {
        let path = self.path().join(name);
        let replaced = self.shared.cache.files().replace(&path, text.as_bytes());
        replaced.map_err(|error| StorageError::io("write", &path, &error))
    }

    /// The first failure to open, write or sync any of its logs; `None` while all is well.
    pub fn failure(&self) -> Option<&LogError> {
        self.shared.failure.get()
    }

    /// Sets what is called at that failure, with locks held: it may wake somebody, and must not call back.
    pub fn on_failure(&self, listener: Listener) {
        self.shared.failure.on_failure(listener);
    }

    /// The flusher of this directory.
    pub fn flusher(&self) -> &Arc<Flusher> {
        &self.shared.flusher
    }

    /// Writes recovery points and log starts.
    pub(super) fn write_offset_checkpoints(&self) -> Result<(), LogError> {
        let (mut recovery_points, mut log_starts) = (Offsets::new(), Offsets::new());
        for (partition, slot) in self.partitions.lock().iter() {
            let (point, start, first_base) = match slot {
                Slot::Open(log) => {
                    let view = log.view.read();
                    let first = view.segments.first().map_or(0, |segment| segment.base_offset);
                    (view.durable_end, view.offsets.log_start, first)
                }
                Slot::Closed(known) | Slot::Offline(_, known) => (known.recovery_point, known.log_start, 0),
            };
            recovery_points.insert(partition.clone(), point);
            if start > first_base {
                log_starts.insert(partition.clone(), start);
            }
        }
        self.write_checkpoint(LOG_STARTS, &log_starts)?;
        self.write_checkpoint(RECOVERY_POINTS, &recovery_points)
    }

    /// Writes high watermarks.
    pub(super) fn write_watermark_checkpoint(&self) -> Result<(), LogError> {
        let mut watermarks = Offsets::new();
        for (partition, slot) in self.partitions.lock().iter() {
            match slot {
                Slot::Open(log) => watermarks.insert(partition.clone(), log.offsets().high_watermark),
                Slot::Closed(known) | Slot::Offline(_, known) => {
                    watermarks.insert(partition.clone(), known.high_watermark)
                }
            };
        }
        self.write_checkpoint(HIGH_WATERMARKS, &watermarks)
    }

    /// Writes a checkpoint if it says something new.
    pub(super) fn write_checkpoint(&self, name: &'static str, offsets: &Offsets) -> Result<(), LogError> {
        let text = checkpoint::format_offsets(offsets);
        let mut written = self.written.lock();
        if written.get(name) != Some(&text) {
            self.replace(name, &text)?;
            written.insert(name, text);
        }
        Ok(())
    }

    /// Shuts down cleanly: everything is synced and marked, so that the next open scans nothing. Appends are refused
    /// afterwards, and the directory may be opened again even while handles of its logs are still held.
    ///
    /// # Errors
    /// When something could not be written; the next open recovers then.
    pub fn close(&self) -> Result<(), LogError> {
        let mut closed = self.closed.lock();
        if *closed {
            return Ok(());
        }
        *closed = true;
        let result = self.close_logs();
        *self.lock.lock() = None;
        result
    }

    fn close_logs(&self) -> Result<(), LogError> {
        let logs = self.open_partitions();
        let mut result = Ok(());
        if logs.iter().filter(|log| log.is_dirty()).count() < SYNC_DIRECTORY_FROM {
            for log in &logs {
                result = result.and(log.begin_close());
            }
        } else {
            // No step of the flusher in between: it would vouch for what only the sync of everything makes durable.
            let _alone = self.shared.flusher.exclusive();
            for log in &logs {
                result = result.and(log.begin_close());
                log.leave_to_directory_sync();
            }
            result = result.and(self.sync_everything().inspect_err(|error| {
                for log in &logs {
                    log.fail(error.clone());
                }
            }));
        }
        while self.shared.flusher.has_work() {
            self.shared.flusher.step();
        }
        for log in &logs {
            result = result.and(log.finish_close());
        }
        result?;
        self.write_offset_checkpoints()?;
        self.write_watermark_checkpoint()?;
        let offline = self.partitions.lock().values().any(|slot| matches!(slot, Slot::Offline(..)));
        if !offline {
            self.replace(CLEAN_SHUTDOWN, "{\"version\":0,\"brokerEpoch\":-1}")?;
        }
        Ok(())
    }
}

pub(super) fn malformed(folder: &Path, name: &str) -> LogError {
    StorageError::new(ErrorKind::Corrupt, format!("{} is malformed", folder.join(name).display()))
}
