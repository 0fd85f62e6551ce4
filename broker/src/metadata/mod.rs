//! Cluster metadata: an immutable image of topics and settings, and the log of records it is made from.

pub mod changes;
pub mod image;
pub mod log;
pub mod records;

pub use image::{MetadataImage, PartitionImage, RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC, Settings, TopicImage};
pub use log::MetadataLog;
pub use records::MetadataRecord;
