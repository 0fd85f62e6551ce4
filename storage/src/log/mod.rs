//! The segmented log: Kafka's files to the byte.
