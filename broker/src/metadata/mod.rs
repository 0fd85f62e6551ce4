//! Cluster metadata: an immutable image of topics and settings, and the log of records it is made from.

pub mod access_control;
pub mod changes;
mod fields;
pub mod image;
pub mod log;
pub mod quotas;
pub mod records;
mod replay;

pub use image::{
    AllSettings, MetadataImage, PartitionImage, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS,
    RESOURCE_GROUP, RESOURCE_TOPIC, Settings, TopicImage,
};
pub use log::MetadataLog;
pub use records::MetadataRecord;
