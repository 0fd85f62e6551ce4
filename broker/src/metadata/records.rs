//! The records of the metadata log, in KRaft's schemas: a frame version, the record's type and version, then its fields
//! in the flexible encoding (compact lengths, tagged fields at the end).
//!
//! Every record type of Apache Kafka 4.3 is known. What one broker needs is read into [`MetadataRecord`]; records about
//! brokers, fencing, controllers, eligible replicas, delegation tokens and SCRAM credentials are passed over: this broker's
//! own registration follows from its configuration, and it has no authentication. They stay in the log, which is only ever
//! appended to. A type or version that is not known is refused by name, so that nothing that matters is dropped silently.

use uuid::Uuid;

use super::access_control::AccessControlEntry;
use super::fields::{Reader, Writer};
use super::quotas::QuotaChange;

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataRecord {
    /// `TopicRecord`: a topic comes to be.
    Topic {
        /// Name.
        name: String,
        /// Identity.
        id: Uuid,
    },
    /// `PartitionRecord`: a partition of a topic made before.
    Partition(PartitionRecord),
    /// `PartitionChangeRecord`: another leader or other replicas.
    PartitionChange(PartitionChange),
    /// `ConfigRecord`: a setting of a resource; no value removes it.
    Config {
        /// 2 topic, 4 broker, 32 group.
        resource_type: i8,
        /// Name of the topic, broker or group.
        resource_name: String,
        /// Name of the setting.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// `RemoveTopicRecord`: a topic is deleted.
    RemoveTopic(Uuid),
    /// `FeatureLevelRecord`: a feature is switched to a level.
    FeatureLevel {
        /// Name.
        name: String,
        /// Level.
        level: i16,
    },
    /// `ProducerIdsRecord`: producer ids below `next` are given out.
    ProducerIds {
        /// Who took the block.
        broker_id: i32,
        /// Its registration.
        broker_epoch: i64,
        /// First id not given out.
        next: i64,
    },
    /// `RegisterBrokerRecord`: a broker process started. Only the id is kept.
    RegisterBroker {
        /// Node id.
        broker_id: i32,
    },
    /// `ClientQuotaRecord`: a quota is set or removed.
    ClientQuota(QuotaChange),
    /// `AccessControlEntryRecord`: an access control entry is made.
    AccessControlEntry(AccessControlEntry),
    /// `RemoveAccessControlEntryRecord`: the entry with that identity is removed.
    RemoveAccessControlEntry(Uuid),
    /// `BeginTransactionRecord`: what follows takes effect together, or not at all.
    BeginTransaction,
    /// `EndTransactionRecord`: what came since the begin takes effect.
    EndTransaction,
    /// `AbortTransactionRecord`: what came since the begin is void.
    AbortTransaction,
    /// A known record that means nothing here.
    Ignored,
}

/// Fields of `PartitionRecord` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Index within the topic.
    pub partition: i32,
    /// The topic.
    pub topic_id: Uuid,
    /// Assigned brokers, the preferred leader first.
    pub replicas: Vec<i32>,
    /// In-sync replicas.
    pub isr: Vec<i32>,
    /// Leader; -1 for none.
    pub leader: i32,
    /// Term of the leader.
    pub leader_epoch: i32,
    /// Counts all changes.
    pub partition_epoch: i32,
}

/// Fields of `PartitionChangeRecord` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// Index within the topic.
    pub partition: i32,
    /// The topic.
    pub topic_id: Uuid,
    /// New in-sync replicas.
    pub isr: Option<Vec<i32>>,
    /// New leader; -1 for none. A new leader raises the leader epoch.
    pub leader: Option<i32>,
    /// New assignment.
    pub replicas: Option<Vec<i32>>,
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefused {
    /// The bytes do not hold the fields.
    #[error("metadata record {name} is malformed")]
    Malformed {
        /// Name of the record type.
        name: &'static str,
    },
    /// A record whose meaning this broker does not implement.
    #[error("metadata record {name} (type {kind}, version {version}) is not supported")]
    Unsupported {
        /// Name of the record type.
        name: &'static str,
        /// Its number.
        kind: u32,
        /// Its version.
        version: u32,
    },
}

const NAMES: [&str; 29] = [
    "RegisterBrokerRecord",
    "UnregisterBrokerRecord",
    "TopicRecord",
    "PartitionRecord",
    "ConfigRecord",
    "PartitionChangeRecord",
    "AccessControlRecord",
    "FenceBrokerRecord",
    "UnfenceBrokerRecord",
    "RemoveTopicRecord",
    "DelegationTokenRecord",
    "UserScramCredentialRecord",
    "FeatureLevelRecord",
    "record type 13",
    "ClientQuotaRecord",
    "ProducerIdsRecord",
    "record type 16",
    "BrokerRegistrationChangeRecord",
    "AccessControlEntryRecord",
    "RemoveAccessControlEntryRecord",
    "NoOpRecord",
    "ZkMigrationStateRecord",
    "RemoveUserScramCredentialRecord",
    "BeginTransactionRecord",
    "EndTransactionRecord",
    "AbortTransactionRecord",
    "RemoveDelegationTokenRecord",
    "RegisterControllerRecord",
    "ClearElrRecord",
];

fn name_of(kind: u32) -> &'static str {
    NAMES.get(kind as usize).copied().unwrap_or("of an unknown type")
}

const FRAME_VERSION: u32 = 1;

impl MetadataRecord {
    /// The value of the log record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Topic { name, id } => {
                out.head(2, 0);
                out.string(name);
                out.uuid(*id);
                out.unsigned(0);
            }
            Self::Partition(record) => {
                out.head(3, 0);
                out.i32(record.partition);
                out.uuid(record.topic_id);
                out.i32s(&record.replicas);
                out.i32s(&record.isr);
                out.i32s(&[]);
                out.i32s(&[]);
                out.i32(record.leader);
                out.i32(record.leader_epoch);
                out.i32(record.partition_epoch);
                out.unsigned(0);
            }
            Self::PartitionChange(change) => out.partition_change(change),
            Self::Config { resource_type, resource_name, name, value } => {
                out.head(4, 0);
                out.0.push(*resource_type as u8);
                out.string(resource_name);
                out.string(name);
                out.nullable_string(value.as_deref());
                out.unsigned(0);
            }
            Self::RemoveTopic(id) => {
                out.head(9, 0);
                out.uuid(*id);
                out.unsigned(0);
            }
            Self::FeatureLevel { name, level } => {
                out.head(12, 0);
                out.string(name);
                out.0.extend_from_slice(&level.to_be_bytes());
                out.unsigned(0);
            }
            Self::ProducerIds { broker_id, broker_epoch, next } => {
                out.head(15, 0);
                out.i32(*broker_id);
                out.0.extend_from_slice(&broker_epoch.to_be_bytes());
                out.0.extend_from_slice(&next.to_be_bytes());
                out.unsigned(0);
            }
            Self::RegisterBroker { broker_id } => {
                out.head(0, 0);
                out.i32(*broker_id);
                out.uuid(Uuid::nil());
                out.0.extend_from_slice(&0i64.to_be_bytes());
                out.unsigned(1); // no end points
                out.unsigned(1); // no features
                out.unsigned(0); // no rack
                out.0.push(0); // not fenced
                out.unsigned(0);
            }
            Self::ClientQuota(change) => {
                out.head(14, 0);
                out.quota_change(change);
            }
            Self::AccessControlEntry(entry) => {
                out.head(18, 0);
                out.access_control_entry(entry);
            }
            Self::RemoveAccessControlEntry(id) => {
                out.head(19, 0);
                out.uuid(*id);
                out.unsigned(0);
            }
            Self::BeginTransaction => out.empty(23),
            Self::EndTransaction => out.empty(24),
            Self::AbortTransaction => out.empty(25),
            Self::Ignored => out.empty(20),
        }
        out.0
    }

    /// Reads the value of a log record.
    ///
    /// # Errors
    /// Malformed bytes, or a record this broker does not implement; both name the record type.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordRefused> {
        let mut input = Reader(bytes);
        let head = || RecordRefused::Malformed { name: "frame" };
        let frame = input.unsigned().ok_or_else(head)?;
        let kind = input.unsigned().ok_or_else(head)?;
        let version = input.unsigned().ok_or_else(head)?;
        let name = name_of(kind);
        let malformed = || RecordRefused::Malformed { name };
        let newest = match kind {
            3 | 5 => 2,
            2 | 4 | 9 | 12 | 14 | 15 | 18 | 19 | 23 | 24 | 25 => 0,
            // Brokers, fencing, controllers, eligible replicas, no-ops, credentials: known and of no consequence here.
            0 | 1 | 7 | 8 | 10 | 11 | 17 | 20 | 21 | 22 | 26 | 27 | 28 => u32::MAX,
            _ => return Err(RecordRefused::Unsupported { name, kind, version }),
        };
        if frame != FRAME_VERSION || version > newest {
            return Err(RecordRefused::Unsupported { name, kind, version });
        }
        let record = match kind {
            0 => input.i32().map(|broker_id| Self::RegisterBroker { broker_id }),
            2 => input.topic(),
            3 => input.partition(),
            4 => input.config(),
            5 => input.partition_change(),
            9 => input.uuid().map(Self::RemoveTopic),
            12 => input.feature(),
            14 => input.quota_change().map(Self::ClientQuota),
            15 => input.producer_ids(),
            18 => input.access_control_entry().map(Self::AccessControlEntry),
            19 => input.uuid().map(Self::RemoveAccessControlEntry),
            23 => Some(Self::BeginTransaction),
            24 => Some(Self::EndTransaction),
            25 => Some(Self::AbortTransaction),
            _ => Some(Self::Ignored),
        };
        record.ok_or_else(malformed)
    }
}

impl Writer {
    fn head(&mut self, kind: u32, version: u32) {
        self.unsigned(FRAME_VERSION);
        self.unsigned(kind);
        self.unsigned(version);
    }

    fn empty(&mut self, kind: u32) {
        self.head(kind, 0);
        self.unsigned(0);
    }

    fn partition_change(&mut self, change: &PartitionChange) {
        self.head(5, 0);
        self.i32(change.partition);
        self.uuid(change.topic_id);
        let mut fields: Vec<(u32, Vec<u8>)> = Vec::new();
        let list = |values: &[i32]| {
            let mut field = Writer::default();
            field.i32s(values);
            field.0
        };
        if let Some(isr) = &change.isr {
            fields.push((0, list(isr)));
        }
        if let Some(leader) = change.leader {
            fields.push((1, leader.to_be_bytes().to_vec()));
        }
        if let Some(replicas) = &change.replicas {
            fields.push((2, list(replicas)));
        }
        self.unsigned(fields.len() as u32);
        for (tag, bytes) in fields {
            self.unsigned(tag);
            self.unsigned(bytes.len() as u32);
            self.0.extend_from_slice(&bytes);
        }
    }
}

impl Reader<'_> {
    fn topic(&mut self) -> Option<MetadataRecord> {
        Some(MetadataRecord::Topic { name: self.string()?, id: self.uuid()? })
    }

    fn partition(&mut self) -> Option<MetadataRecord> {
        let partition = self.i32()?;
        let topic_id = self.uuid()?;
        let (replicas, isr) = (self.i32s()?, self.i32s()?);
        let (_removing, _adding) = (self.i32s()?, self.i32s()?);
        let (leader, leader_epoch, partition_epoch) = (self.i32()?, self.i32()?, self.i32()?);
        Some(MetadataRecord::Partition(PartitionRecord {
            partition,
            topic_id,
            replicas,
            isr,
            leader,
            leader_epoch,
            partition_epoch,
        }))
    }

    fn config(&mut self) -> Option<MetadataRecord> {
        Some(MetadataRecord::Config {
            resource_type: self.take(1)?[0] as i8,
            resource_name: self.string()?,
            name: self.string()?,
            value: self.nullable_string()?,
        })
    }

    fn partition_change(&mut self) -> Option<MetadataRecord> {
        let mut change =
            PartitionChange { partition: self.i32()?, topic_id: self.uuid()?, isr: None, leader: None, replicas: None };
        self.tagged(|tag, field| {
            match tag {
                0 => change.isr = Some(field.i32s()?),
                1 => change.leader = Some(field.i32()?).filter(|leader| *leader != -2),
                2 => change.replicas = Some(field.i32s()?),
                _ => {}
            }
            Some(())
        })?;
        Some(MetadataRecord::PartitionChange(change))
    }

    fn feature(&mut self) -> Option<MetadataRecord> {
        Some(MetadataRecord::FeatureLevel { name: self.string()?, level: self.i16()? })
    }

    fn producer_ids(&mut self) -> Option<MetadataRecord> {
        Some(MetadataRecord::ProducerIds { broker_id: self.i32()?, broker_epoch: self.i64()?, next: self.i64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_control::AccessRule;
    use super::super::quotas::QuotaEntity;
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_record_reads_as_it_was_written() {
        let id = Uuid::from_u128(7);
        let records = [
            MetadataRecord::Topic { name: "orders".into(), id },
            MetadataRecord::Partition(PartitionRecord {
                partition: 3,
                topic_id: id,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                leader_epoch: 4,
                partition_epoch: 5,
            }),
            MetadataRecord::PartitionChange(PartitionChange {
                partition: 1,
                topic_id: id,
                isr: Some(vec![1]),
                leader: Some(-1),
                replicas: None,
            }),
            MetadataRecord::Config {
                resource_type: 2,
                resource_name: "orders".into(),
                name: "retention.ms".into(),
                value: None,
            },
            MetadataRecord::RemoveTopic(id),
            MetadataRecord::FeatureLevel { name: "group.version".into(), level: 1 },
            MetadataRecord::ProducerIds { broker_id: 1, broker_epoch: 9, next: 1000 },
            MetadataRecord::RegisterBroker { broker_id: 1 },
            MetadataRecord::ClientQuota(QuotaChange {
                entity: QuotaEntity::from([("client-id".into(), None), ("user".into(), Some("ann".into()))]),
                key: "producer_byte_rate".into(),
                value: Some(1024.0),
            }),
            MetadataRecord::AccessControlEntry(AccessControlEntry {
                id,
                rule: AccessRule {
                    resource_type: 2,
                    resource_name: "orders".into(),
                    pattern_type: 3,
                    principal: "User:ann".into(),
                    host: "*".into(),
                    operation: 3,
                    permission: 3,
                },
            }),
            MetadataRecord::RemoveAccessControlEntry(id),
            MetadataRecord::BeginTransaction,
            MetadataRecord::EndTransaction,
            MetadataRecord::AbortTransaction,
        ];
        for record in records {
            let bytes = record.encode();
            assert_eq!(MetadataRecord::decode(&bytes), Ok(record.clone()));
            for end in 0..bytes.len() {
                // A cut record is refused or (cut within its tags) reads the same; it never panics.
                let _ = MetadataRecord::decode(&bytes[..end]);
            }
        }
    }

    #[test]
    fn a_feature_record_that_kafka_wrote_is_read() {
        let record = unhex("010c00116d657461646174612e76657273696f6e001e00");
        let expected = MetadataRecord::FeatureLevel { name: "metadata.version".into(), level: 30 };
        assert_eq!(MetadataRecord::decode(&record), Ok(expected.clone()));
        assert_eq!(expected.encode(), record);
    }

    #[test]
    fn an_unsupported_record_is_refused_by_name() {
        let error = MetadataRecord::decode(&[1, 18, 1, 0]).unwrap_err();
        assert_eq!(error.to_string(), "metadata record AccessControlEntryRecord (type 18, version 1) is not supported");
        let error = MetadataRecord::decode(&[1, 29, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "metadata record of an unknown type (type 29, version 0) is not supported");
        assert_eq!(MetadataRecord::decode(&[1, 28, 0, 0]), Ok(MetadataRecord::Ignored), "ClearElrRecord");
    }
}
