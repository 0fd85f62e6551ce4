//! Cluster metadata: an immutable image of topics and settings, and the log of records it is made from.
