//! The partitions of a data directory: opened on first use, made, reopened after a failure, deleted.

use std::io;
use std::sync::Arc;

use base::{Now, Offset, TopicPartition};
use uuid::Uuid;

use super::config::LogConfig;
use super::directory::LogDirectory;
use super::flusher::{SYNC_DIRECTORY_FROM, sync_folder};
use super::leader_epochs::LeaderEpochs;
use super::partition::{Opened, PartitionLog};
use super::producer_state::Producers;
use super::recovery::{Found, Recovered, open_partition, sync_recovered};
use super::types::{Durability, LogError, RecoveryReport};
use crate::error::{ErrorKind, StorageError};

/// What the checkpoints say of a partition that is not open.
#[derive(Clone, Copy, Default)]
pub(super) struct Checkpointed {
    pub(super) recovery_point: Offset,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
}

/// A partition that was recovered and not synced yet.
struct Unsettled {
    partition: TopicPartition,
    known: Checkpointed,
    log: Arc<PartitionLog>,
    recovered: Recovered,
}

/// A partition of the directory.
pub(super) enum Slot {
    /// Its folder is there, nothing of it was read.
    Closed(Checkpointed),
    /// Open.
    Open(Arc<PartitionLog>),
    /// It could not be opened. The checkpoints go on saying of it what they said.
    Offline(LogError, Checkpointed),
}

/// The partition that a folder of that name holds: split at the last dash.
pub(super) fn parse_folder_name(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok().filter(|partition| *partition >= 0)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!topic.is_empty() && topic.len() <= 249 && topic.bytes().all(legal)).then(|| TopicPartition::new(topic, partition))
}

impl LogDirectory {
    /// Opens every partition, after a crash.
    pub(super) fn open_all(&mut self) {
        let mut report = std::mem::take(&mut self.report);
        let names: Vec<TopicPartition> = self.partitions.get_mut().keys().cloned().collect();
        let mut unsettled = Vec::new();
        for partition in names {
            let Some(Slot::Closed(known)) = self.partitions.get_mut().get(&partition) else { continue };
            let known = *known;
            match self.recover_log(&partition, known, false, &mut report) {
                Ok((log, Some(recovered))) => unsettled.push(Unsettled { partition, known, log, recovered }),
                Ok((log, None)) => drop(self.partitions.get_mut().insert(partition, Slot::Open(log))),
                Err(error) => self.take_offline(partition, known, error, &mut report),
            }
        }
        self.settle(unsettled, &mut report);
        self.report = report;
    }

    /// Syncs what was recovered; from then on it is open.
    fn settle(&mut self, unsettled: Vec<Unsettled>, report: &mut RecoveryReport) {
        let recovered: Vec<&Recovered> = unsettled.iter().map(|unsettled| &unsettled.recovered).collect();
        let outcomes = if recovered.len() < SYNC_DIRECTORY_FROM {
            sync_recovered(self.shared.cache.files().as_ref(), &recovered)
        } else {
            vec![self.sync_everything(); recovered.len()]
        };
        for (Unsettled { partition, known, log, .. }, outcome) in unsettled.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => drop(self.partitions.get_mut().insert(partition, Slot::Open(log))),
                Err(error) => {
                    self.shared.failure.note(&error);
                    self.take_offline(partition, known, error, report);
                }
            }
        }
    }

    /// Makes all that the directory holds durable.
    pub(super) fn sync_everything(&self) -> Result<(), LogError> {
        let synced = self.shared.cache.files().sync_below(&self.shared.folder);
        synced.map_err(|error| StorageError::io("sync", &self.shared.folder, &error))
    }

    fn take_offline(
        &mut self,
        partition: TopicPartition,
        known: Checkpointed,
        error: LogError,
        report: &mut RecoveryReport,
    ) {
        tracing::error!(%partition, %error, "cannot open a partition; it is offline");
        report.offline.push((partition.clone(), error.clone()));
        self.partitions.get_mut().insert(partition, Slot::Offline(error, known));
    }

    /// The log of a partition, and what must be synced before it is used.
    fn recover_log(
        &self,
        partition: &TopicPartition,
        known: Checkpointed,
        clean: bool,
        report: &mut RecoveryReport,
    ) -> Result<(Arc<PartitionLog>, Option<Recovered>), LogError> {
        let found = Found {
            cache: &self.shared.cache,
            partition,
            folder: &self.shared.folder.join(partition.to_string()),
            config: &self.options.default_config,
            clean,
            recovery_point: known.recovery_point,
            log_start: known.log_start,
            now_ms: self.options.clock.wall_ms(),
        };
        let (opened, recovered) = open_partition(&found, report).inspect_err(|error| {
            // Recovery mends what is damaged: files that cannot be read or written are not this partition's matter alone.
            self.shared.failure.note(error);
        })?;
        let config = self.options.default_config.clone();
        Ok((PartitionLog::new(Arc::clone(&self.shared), partition.clone(), config, opened), recovered))
    }

    fn open_log(
        &self,
        partition: &TopicPartition,
        known: Checkpointed,
        clean: bool,
        report: &mut RecoveryReport,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let (log, recovered) = self.recover_log(partition, known, clean, report)?;
        if let Some(recovered) = recovered {
            let outcomes = sync_recovered(self.shared.cache.files().as_ref(), &[&recovered]);
            outcomes
                .into_iter()
                .collect::<Result<(), LogError>>()
                .inspect_err(|error| self.shared.failure.note(error))?;
        }
        Ok(log)
    }

    /// The log of a partition, opened on first use; `None` if there is none.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn partition(&self, partition: &TopicPartition) -> Result<Option<Arc<PartitionLog>>, LogError> {
        let mut partitions = self.partitions.lock();
        match partitions.get(partition) {
            None => Ok(None),
            Some(Slot::Open(log)) => Ok(Some(Arc::clone(log))),
            Some(Slot::Offline(error, _)) => Err(error.clone()),
            Some(Slot::Closed(known)) => {
                let mut report = RecoveryReport::default();
                let log = self.open_log(partition, *known, true, &mut report)?;
                partitions.insert(partition.clone(), Slot::Open(Arc::clone(&log)));
                Ok(Some(log))
            }
        }
    }

    /// The log of a partition, made if it is not there (its folder comes with the first append), with that
    /// configuration from now on. Retention and compaction begin with it.
    ///
    /// # Errors
    /// `Invalid` if the partition is there with another topic id.
    pub fn create_partition(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        config: LogConfig,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let log = match self.partition(partition)? {
            Some(log) => {
                let known = log.topic_id();
                if !known.is_nil() && !topic_id.is_nil() && known != topic_id {
                    return Err(StorageError::new(
                        ErrorKind::Invalid,
                        format!("{partition} is there with topic id {known}, not {topic_id}"),
                    ));
                }
                if known.is_nil() {
                    log.set_topic_id(topic_id);
                }
                log
            }
            None => {
                if parse_folder_name(&partition.to_string()).as_ref() != Some(partition) {
                    return Err(StorageError::new(
                        ErrorKind::Invalid,
                        format!("{partition} cannot be the name of a partition's folder"),
                    ));
                }
                let opened = Opened {
                    created: false,
                    dirty: false,
                    topic_id,
                    log_start: 0,
                    log_end: 0,
                    durable_end: 0,
                    segments: Vec::new(),
                    producers: Producers::default(),
                    epochs: LeaderEpochs::default(),
                };
                let log = PartitionLog::new(Arc::clone(&self.shared), partition.clone(), config.clone(), opened);
                let mut partitions = self.partitions.lock();
                match partitions.get(partition) {
                    Some(Slot::Open(known)) => Arc::clone(known),
                    _ => {
                        partitions.insert(partition.clone(), Slot::Open(Arc::clone(&log)));
                        log
                    }
                }
            }
        };
        log.update_config(config);
        Ok(log)
    }

    /// Closes and opens a partition anew: how a failed one comes back. What was never synced may be gone.
    ///
    /// # Errors
    /// When its files cannot be read; it is offline then.
    pub fn reopen_partition(&self, partition: &TopicPartition) -> Result<Option<Arc<PartitionLog>>, LogError> {
        let mut partitions = self.partitions.lock();
        let Some(slot) = partitions.get(partition) else { return Ok(None) };
        let (known, config) = match slot {
            Slot::Open(log) => {
                log.abandon();
                let offsets = log.offsets();
                let known = Checkpointed {
                    recovery_point: log.durable_end(),
                    log_start: offsets.log_start,
                    high_watermark: offsets.high_watermark,
                };
                (known, Some(log.config()))
            }
            Slot::Closed(known) | Slot::Offline(_, known) => (*known, None),
        };
        let folder = self.path().join(partition.to_string());
        let exists = self.shared.cache.files().exists(&folder);
        if !exists.map_err(|error| StorageError::io("look at", &folder, &error))? {
            partitions.remove(partition);
            return Ok(None);
        }
        let mut report = RecoveryReport::default();
        match self.open_log(partition, known, false, &mut report) {
            Ok(log) => {
                if let Some(config) = config {
                    log.update_config(LogConfig::clone(&config));
                }
                partitions.insert(partition.clone(), Slot::Open(Arc::clone(&log)));
                Ok(Some(log))
            }
            Err(error) => {
                partitions.insert(partition.clone(), Slot::Offline(error.clone(), known));
                Err(error)
            }
        }
    }

    /// Deletes a partition: its folder is renamed at once and removed after `file.delete.delay.ms`. `false` if there is
    /// none.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub fn delete_partition(&self, partition: &TopicPartition, now: Now) -> Result<bool, LogError> {
        let Some(slot) = self.partitions.lock().remove(partition) else { return Ok(false) };
        let mut delay_ms = self.options.default_config.file_delete_delay_ms;
        if let Slot::Open(log) = &slot {
            log.abandon();
            delay_ms = log.config().file_delete_delay_ms;
        }
        self.cleaner_offsets.lock().remove(partition);
        self.uncleanable.lock().remove(partition);
        let id = Uuid::from_bytes(self.shared.rng.lock().uuid_bytes());
        let suffix = format!("-{}.{}-delete", partition.partition, id.simple());
        let topic = partition.topic.get(..partition.topic.len().min(255 - suffix.len())).unwrap_or("deleted");
        let (from, to) = (self.path().join(partition.to_string()), self.path().join(format!("{topic}{suffix}")));
        let files = self.shared.cache.files();
        match files.rename(&from, &to) {
            // Never appended to.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            renamed => renamed.map_err(|error| StorageError::io("rename", &from, &error))?,
        }
        self.shared.deferred.add(now.ticks_ms.saturating_add(delay_ms), to, true);
        if self.options.durability == Durability::Power {
            sync_folder(files.as_ref(), self.path())?;
        }
        Ok(true)
    }

    /// All partitions, opened or not, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.partitions.lock().keys().cloned().collect()
    }

    /// The open partitions.
    pub(super) fn open_partitions(&self) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.lock();
        partitions
            .values()
            .filter_map(|slot| if let Slot::Open(log) = slot { Some(Arc::clone(log)) } else { None })
            .collect()
    }
}
