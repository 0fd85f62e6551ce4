//! Which broker properties do something here. Kafka has many more; those are known by name, so that a file written for
//! Kafka can be used, but said at the start to have no effect. Those that promise protection are refused.

use std::collections::BTreeMap;

use crate::config::TOPIC_DEFAULTS;
use crate::error::BrokerError;
use crate::properties::PROPERTIES;

/// Properties that are read, besides those that give topics their defaults ([`TOPIC_DEFAULTS`]). Sorted.
pub const WITH_EFFECT: &[&str] = &[
    "advertised.listeners",
    "authorizer.class.name",
    "auto.create.topics.enable",
    "broker.id",
    "cluster.id",
    "connections.max.idle.ms",
    "delete.topic.enable",
    "durability",
    "fetch.max.bytes",
    "group.consumer.assignment.interval.ms",
    "group.consumer.assignors",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.assignment.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.min.assignment.interval.ms",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.regex.refresh.interval.ms",
    "group.consumer.session.timeout.ms",
    "group.coordinator.rebalance.protocols",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "group.share.assignment.interval.ms",
    "group.share.delivery.count.limit",
    "group.share.heartbeat.interval.ms",
    "group.share.max.assignment.interval.ms",
    "group.share.max.delivery.count.limit",
    "group.share.max.heartbeat.interval.ms",
    "group.share.max.partition.max.record.locks",
    "group.share.max.record.lock.duration.ms",
    "group.share.max.session.timeout.ms",
    "group.share.max.share.sessions",
    "group.share.max.size",
    "group.share.min.assignment.interval.ms",
    "group.share.min.delivery.count.limit",
    "group.share.min.heartbeat.interval.ms",
    "group.share.min.partition.max.record.locks",
    "group.share.min.record.lock.duration.ms",
    "group.share.min.session.timeout.ms",
    "group.share.partition.max.record.locks",
    "group.share.record.lock.duration.ms",
    "group.share.session.timeout.ms",
    "group.streams.assignment.interval.ms",
    "group.streams.heartbeat.interval.ms",
    "group.streams.initial.rebalance.delay.ms",
    "group.streams.max.assignment.interval.ms",
    "group.streams.max.heartbeat.interval.ms",
    "group.streams.max.session.timeout.ms",
    "group.streams.max.size",
    "group.streams.max.standby.replicas",
    "group.streams.min.assignment.interval.ms",
    "group.streams.min.heartbeat.interval.ms",
    "group.streams.min.session.timeout.ms",
    "group.streams.num.standby.replicas",
    "group.streams.session.timeout.ms",
    "listeners",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.enable",
    "log.dir",
    "log.dirs",
    "log.flush.offset.checkpoint.interval.ms",
    "log.retention.check.interval.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "max.incremental.fetch.session.cache.slots",
    "max.request.partition.size.limit",
    "node.id",
    "num.network.threads",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.commit.timeout.ms",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.segment.bytes",
    "producer.id.expiration.check.interval.ms",
    "producer.id.expiration.ms",
    "queued.max.request.bytes",
    "replica.high.watermark.checkpoint.interval.ms",
    "share.coordinator.cold.partition.snapshot.interval.ms",
    "share.coordinator.snapshot.update.records.per.snapshot",
    "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.prune.interval.ms",
    "share.coordinator.state.topic.segment.bytes",
    "socket.request.max.bytes",
    "super.users",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    "transaction.max.timeout.ms",
    "transaction.partition.verification.enable",
    "transaction.remove.expired.transaction.cleanup.interval.ms",
    "transaction.state.log.num.partitions",
    "transaction.state.log.segment.bytes",
    "transactional.id.expiration.ms",
];

/// Properties that may only keep their default (those of the quorum may also name one voter): whoever sets them counts on
/// something that is not there. Sorted.
pub const REFUSED: &[&str] = &[
    "alter.config.policy.class.name",
    "client.quota.callback.class",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "create.topic.policy.class.name",
    "sasl.enabled.mechanisms",
    "security.inter.broker.protocol",
];

/// Properties that Kafka lets be changed while it runs and that do nothing here, so that tools which set them go on. They are
/// kept and shown, and a warning says that they have no effect. Sorted.
pub const DYNAMIC_WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "follower.fetch.last.tiered.offset.enable",
    "group.coordinator.cached.buffer.max.bytes",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "metric.reporters",
    "num.io.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal.to.local.rules",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "share.coordinator.cached.buffer.max.bytes",
];

/// Settings of topics that are taken, kept and shown, and do nothing here. Sorted.
pub const TOPIC_WITHOUT_EFFECT: &[&str] = &[
    "compression.lz4.level",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "unclean.leader.election.enable",
];

/// Refuses settings that count on what is not there.
pub(crate) fn refuse_unkept_promises(explicit: &BTreeMap<String, String>) -> Result<(), BrokerError> {
    for (key, value) in explicit {
        if REFUSED.binary_search(&key.as_str()).is_err() {
            continue;
        }
        let default =
            PROPERTIES.binary_search_by(|(name, ..)| (*name).cmp(key)).map_or("", |index| PROPERTIES[index].2);
        // A quorum of one is what there is; who it is follows from `node.id`.
        let is_single = key.starts_with("controller.quorum.") && !value.contains(',');
        if value.trim() != default && !is_single {
            return Err(BrokerError::Config(format!(
                "{key}={value}: this broker does not have what that asks for\nleave the property out, or use a broker \
                 that has it"
            )));
        }
    }
    Ok(())
}

/// Kafka's own authorizer, which keeps access control entries.
const STANDARD_AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
/// Every client's name, where there is no authentication.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// Without authentication every client has the same name, so an authorizer could only let all in or none. It is taken where
/// its entries decide nothing, as on a Kafka with the same settings: everybody is a super user.
pub(crate) fn check_authorizer(explicit: &BTreeMap<String, String>) -> Result<(), BrokerError> {
    let text = |name: &str| explicit.get(name).map(|value| value.trim()).unwrap_or_default();
    match text("authorizer.class.name") {
        "" => Ok(()),
        STANDARD_AUTHORIZER if text("super.users").split(';').any(|user| user.trim() == ANONYMOUS) => Ok(()),
        STANDARD_AUTHORIZER => Err(BrokerError::Config(format!(
            "authorizer.class.name: this broker has no authentication, so every client is {ANONYMOUS}\nset \
             super.users={ANONYMOUS} to keep access control entries without enforcing them, or leave the authorizer out"
        ))),
        other => Err(BrokerError::Config(format!(
            "authorizer.class.name={other}: only {STANDARD_AUTHORIZER} is known here\nleave the property out, or use a \
             broker that has it"
        ))),
    }
}

/// What was set and does nothing.
pub(crate) fn without_effect(explicit: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let gives_default = |key: &str| TOPIC_DEFAULTS.iter().any(|(_, names)| names.iter().any(|(name, _)| *name == key));
    explicit.keys().map(String::as_str).filter(move |key| {
        WITH_EFFECT.binary_search(key).is_err() && REFUSED.binary_search(key).is_err() && !gives_default(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lists_are_sorted_and_name_known_properties() {
        for list in [WITH_EFFECT, REFUSED, DYNAMIC_WITHOUT_EFFECT] {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
            for name in list {
                assert!(PROPERTIES.iter().any(|(known, ..)| known == name), "{name}");
            }
        }
    }

    #[test]
    fn protection_that_is_not_there_is_refused_and_idle_settings_are_found() {
        assert!(refuse_unkept_promises(&set(&[("controller.quorum.voters", "1@localhost:9093")])).is_ok());
        assert!(refuse_unkept_promises(&set(&[("controller.quorum.voters", "1@a:9093,2@b:9093")])).is_err());
        assert!(check_authorizer(&set(&[("authorizer.class.name", "Acl")])).is_err());
        let standard = ("authorizer.class.name", STANDARD_AUTHORIZER);
        assert!(check_authorizer(&set(&[standard])).is_err());
        assert!(check_authorizer(&set(&[standard, ("super.users", "User:ops; User:ANONYMOUS")])).is_ok());
        assert!(refuse_unkept_promises(&set(&[("security.inter.broker.protocol", "PLAINTEXT")])).is_ok());
        let settings = set(&[("num.io.threads", "8"), ("num.partitions", "3"), ("log.retention.hours", "1")]);
        assert_eq!(without_effect(&settings).collect::<Vec<_>>(), ["num.io.threads"]);
    }
}
