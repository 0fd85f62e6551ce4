//! What the settings of groups are for.

/// By name, sorted.
#[rustfmt::skip]
pub(super) const GROUP: &[(&str, &str)] = &[
    ("consumer.assignment.interval.ms", "How many ms lie at least between two assignments that the coordinator computes in this consumer group; kept between the broker's group.consumer.min.assignment.interval.ms and group.consumer.max.assignment.interval.ms."),
    ("consumer.heartbeat.interval.ms", "How often, in ms, members are told to send heartbeats in this consumer group; kept between the broker's group.consumer.min.heartbeat.interval.ms and group.consumer.max.heartbeat.interval.ms."),
    ("consumer.session.timeout.ms", "How many ms a member may be silent before it is removed in this consumer group; kept between the broker's group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms."),
    ("share.assignment.interval.ms", "How many ms lie at least between two assignments that the coordinator computes in this share group; kept between the broker's group.share.min.assignment.interval.ms and group.share.max.assignment.interval.ms."),
    ("share.auto.offset.reset", "Where a share group begins in a partition that it has not read from: `earliest`, `latest`, or `by_duration:` with an ISO 8601 duration back from now."),
    ("share.delivery.count.limit", "How often a record is handed out before it is given up in this share group; kept between the broker's group.share.min.delivery.count.limit and group.share.max.delivery.count.limit."),
    ("share.heartbeat.interval.ms", "How often, in ms, members are told to send heartbeats in this share group; kept between the broker's group.share.min.heartbeat.interval.ms and group.share.max.heartbeat.interval.ms."),
    ("share.isolation.level", "Whether a share group is handed records of open and aborted transactions: `read_uncommitted`, or `read_committed` to be handed committed ones only."),
    ("share.partition.max.record.locks", "How many records of one partition may be in flight in this share group; kept between the broker's group.share.min.partition.max.record.locks and group.share.max.partition.max.record.locks."),
    ("share.record.lock.duration.ms", "How many ms a member has acquired records for itself in this share group; kept between the broker's group.share.min.record.lock.duration.ms and group.share.max.record.lock.duration.ms."),
    ("share.renew.acknowledge.enable", "Whether members of a share group may renew the locks of records that they have acquired."),
    ("share.session.timeout.ms", "How many ms a member may be silent before it is removed in this share group; kept between the broker's group.share.min.session.timeout.ms and group.share.max.session.timeout.ms."),
    ("streams.assignment.interval.ms", "How many ms lie at least between two assignments that the coordinator computes in this streams group; kept between the broker's group.streams.min.assignment.interval.ms and group.streams.max.assignment.interval.ms."),
    ("streams.heartbeat.interval.ms", "How often, in ms, members are told to send heartbeats in this streams group; kept between the broker's group.streams.min.heartbeat.interval.ms and group.streams.max.heartbeat.interval.ms."),
    ("streams.initial.rebalance.delay.ms", "How many ms a streams group that was empty waits for more members before it hands out tasks."),
    ("streams.num.standby.replicas", "How many standby copies of each stateful task a streams group keeps; bounded by the broker's group.streams.max.standby.replicas."),
    ("streams.session.timeout.ms", "How many ms a member may be silent before it is removed in this streams group; kept between the broker's group.streams.min.session.timeout.ms and group.streams.max.session.timeout.ms."),
];
