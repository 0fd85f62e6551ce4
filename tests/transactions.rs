//! The transactional producer against the broker in this process, with both transaction protocols: what is committed is seen
//! once and as a whole, what is aborted never.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerConfig, RunningBroker};
use client::admin::{NewTopic, TransactionFilter};
use client::consumer::{Consumer, ConsumerConfig, GroupMetadata, OffsetAndMetadata};
use client::{Admin, Client, ClientError, Producer, ProducerConfig, ProducerRecord, TransactionErrorClass, block_on};
use millstream::base::TopicPartition;
use protocol::api::{ErrorCode, Response};
use protocol::transport::{Completion, RequestEnvelope, Transport};

/// A connection to a broker that does not have KIP-890: clients take the older protocol.
struct Older(Arc<dyn Transport>);

impl Transport for Older {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let mut completion = self.0.send(envelope);
        match completion.try_take() {
            Some(Ok(Response::ApiVersions(mut response))) => {
                response.finalized_features.retain(|feature| feature.name.as_str() != "transaction.version");
                Completion::ready(Ok(Response::ApiVersions(response)))
            }
            Some(reply) => Completion::ready(reply),
            None => completion,
        }
    }

    fn address(&self) -> &str {
        self.0.address()
    }

    fn close(&self) {
        self.0.close();
    }
}

struct World {
    broker: Arc<RunningBroker>,
    older: bool,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(older: bool, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::embedded(folder.path()).with("durability", "process").unwrap();
        for (key, value) in settings {
            config = config.with(key, value).unwrap();
        }
        Self { broker: Arc::new(broker::Broker::start(config).unwrap()), older, _folder: folder }
    }

    fn client(&self) -> Client {
        let (broker, older) = (Arc::clone(&self.broker), self.older);
        Client::embedded(move || match older {
            true => Arc::new(Older(broker.transport())) as Arc<dyn Transport>,
            false => broker.transport(),
        })
    }

    fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic =
            settings.iter().fold(NewTopic::new(name, partitions), |topic, (key, value)| topic.config(*key, *value));
        let results = block_on(Admin::new(self.client()).create_topics(&[topic])).unwrap();
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
    }

    fn producer(&self, id: &str) -> Producer {
        self.producer_with(id, 60_000)
    }

    fn producer_with(&self, id: &str, timeout_ms: i32) -> Producer {
        let config = ProducerConfig::default().transactional_id(Some(id.to_owned())).transaction_timeout_ms(timeout_ms);
        let producer = Producer::new(self.client(), config.linger_ms(1)).unwrap();
        block_on(producer.init_transactions()).unwrap();
        producer
    }

    fn consumer(&self, group: Option<&str>, isolation: &str) -> Consumer {
        let mut settings = vec![("auto.offset.reset", "earliest"), ("isolation.level", isolation)];
        settings.extend(group.map(|group| ("group.id", group)));
        settings.push(("enable.auto.commit", "false"));
        Consumer::new(self.client(), ConsumerConfig::from_properties(settings).unwrap()).unwrap()
    }

    /// Sorted values of all partitions of a topic, as far as the isolation lets them be read.
    fn values(&self, topic: &str, partitions: i32, isolation: &str) -> Vec<String> {
        let mut consumer = self.consumer(None, isolation);
        let places: Vec<TopicPartition> = (0..partitions).map(|index| TopicPartition::new(topic, index)).collect();
        consumer.assign(places.clone()).unwrap();
        let ends = block_on(consumer.end_offsets(places)).unwrap();
        let mut values = Vec::new();
        while ends.iter().any(|(place, end)| consumer.position(place).unwrap_or(0) < *end) {
            for record in consumer.poll_blocking(Duration::from_millis(200)).unwrap() {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
        values.sort();
        values
    }
}

fn send(producer: &Producer, topic: &str, partition: i32, value: &str) {
    // What becomes of it, the commit says.
    drop(producer.send(ProducerRecord::to(topic).partition(partition).value(value.to_owned())));
}

fn on_each_protocol(settings: &[(&str, &str)], test: impl Fn(&World)) {
    for older in [false, true] {
        test(&World::new(older, settings));
    }
}

#[test]
fn committed_records_are_seen_and_aborted_ones_are_not() {
    on_each_protocol(&[], |world| {
        world.topic("t", 2, &[]);
        let producer = world.producer("id");
        let mut expected = Vec::new();
        for round in 0..10 {
            producer.begin_transaction().unwrap();
            for partition in 0..2 {
                send(&producer, "t", partition, &format!("{round}-{partition}"));
            }
            if round % 3 == 2 {
                producer.flush_blocking();
                block_on(producer.abort_transaction()).unwrap();
            } else {
                block_on(producer.commit_transaction()).unwrap();
                expected.extend((0..2).map(|partition| format!("{round}-{partition}")));
            }
        }
        producer.begin_transaction().unwrap();
        block_on(producer.commit_transaction()).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, "t", 0, "open");
        producer.flush_blocking();
        assert_eq!(world.values("t", 2, "read_committed"), expected);
        assert_eq!(world.values("t", 2, "read_uncommitted").len(), 21);
        producer.close_blocking().unwrap();
        assert_eq!(world.values("t", 2, "read_committed"), expected, "closing aborts");
    });
}

#[test]
fn input_is_processed_once_although_every_second_attempt_is_given_up() {
    on_each_protocol(&[], |world| {
        world.topic("in", 2, &[]);
        world.topic("out", 1, &[]);
        let plain = Producer::new(world.client(), ProducerConfig::default()).unwrap();
        for number in 0..200 {
            send(&plain, "in", number % 2, &number.to_string());
        }
        plain.close_blocking().unwrap();
        let mut attempt = 0;
        loop {
            // A new instance each time: it takes over id and offsets of the one before.
            let producer = world.producer("worker");
            let mut consumer = world.consumer(Some("g"), "read_committed");
            consumer.assign([TopicPartition::new("in", 0), TopicPartition::new("in", 1)]).unwrap();
            let mut processed = 0;
            while processed < 30 {
                let records = consumer.poll_blocking(Duration::from_millis(500)).unwrap();
                if records.is_empty() {
                    break;
                }
                producer.begin_transaction().unwrap();
                let mut offsets = std::collections::BTreeMap::new();
                for record in records {
                    let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
                    send(&producer, "out", 0, &value);
                    let place = TopicPartition::new(Arc::clone(&record.topic), record.partition);
                    offsets.insert(place, OffsetAndMetadata::new(record.offset + 1));
                    processed += 1;
                }
                let offsets: Vec<_> = offsets.into_iter().collect();
                let group = consumer.group_metadata();
                block_on(producer.send_offsets_to_transaction(&offsets, &group)).unwrap();
                attempt += 1;
                if attempt % 2 == 0 {
                    producer.flush_blocking();
                    break;
                }
                block_on(producer.commit_transaction()).unwrap();
            }
            if processed == 0 {
                break;
            }
        }
        let mut expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        expected.sort();
        assert_eq!(world.values("out", 1, "read_committed"), expected);
    });
}

#[test]
fn a_newer_producer_fences_the_older_one() {
    on_each_protocol(&[], |world| {
        world.topic("t", 1, &[]);
        let first = world.producer("id");
        first.begin_transaction().unwrap();
        send(&first, "t", 0, "lost");
        first.flush_blocking();
        let second = world.producer("id");
        let error = block_on(first.commit_transaction()).unwrap_err();
        assert!(matches!(error, ClientError::Fenced(_)), "{error}");
        assert_eq!(error.transaction_class(), TransactionErrorClass::ApplicationRecoverable);
        assert!(first.begin_transaction().is_err());
        second.begin_transaction().unwrap();
        send(&second, "t", 0, "kept");
        block_on(second.commit_transaction()).unwrap();
        assert_eq!(world.values("t", 1, "read_committed"), ["kept"]);
    });
}

#[test]
fn a_transaction_that_lost_a_record_can_only_be_aborted_and_the_next_one_succeeds() {
    on_each_protocol(&[], |world| {
        world.topic("t", 1, &[]);
        world.topic("small", 1, &[("max.message.bytes", "300")]);
        let producer = world.producer("id");
        for round in 0..2 {
            producer.begin_transaction().unwrap();
            send(&producer, "t", 0, &format!("lost-{round}"));
            send(&producer, "small", 0, &"x".repeat(1_000));
            let error = block_on(producer.commit_transaction()).unwrap_err();
            assert_eq!(error.transaction_class(), TransactionErrorClass::Abortable, "{error}");
            let refused = producer.send_blocking(ProducerRecord::to("t").value("more")).unwrap_err();
            assert!(matches!(refused, ClientError::Abortable { .. }), "{refused}");
            block_on(producer.abort_transaction()).unwrap();
            producer.begin_transaction().unwrap();
            send(&producer, "t", 0, &format!("kept-{round}"));
            send(&producer, "small", 0, "short");
            block_on(producer.commit_transaction()).unwrap();
        }
        assert_eq!(world.values("t", 1, "read_committed"), ["kept-0", "kept-1"]);
        assert_eq!(world.values("small", 1, "read_committed"), ["short", "short"]);
    });
}

#[test]
fn a_transaction_that_lasts_too_long_fails_and_its_producer_learns_of_it() {
    let settings = [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10")];
    on_each_protocol(&settings, |world| {
        world.topic("t", 1, &[]);
        let producer = world.producer_with("id", 50);
        producer.begin_transaction().unwrap();
        send(&producer, "t", 0, "lost");
        producer.flush_blocking();
        // Records of others pass once the brokers have ended it.
        let plain = Producer::new(world.client(), ProducerConfig::default()).unwrap();
        plain.send_blocking(ProducerRecord::to("t").value("other")).unwrap();
        let mut consumer = world.consumer(None, "read_committed");
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        while consumer.poll_blocking(Duration::from_millis(100)).unwrap().is_empty() {}
        assert!(block_on(producer.commit_transaction()).is_err());
        assert_eq!(world.values("t", 1, "read_committed"), ["other"]);
    });
}

#[test]
fn several_producers_end_their_transactions_side_by_side() {
    on_each_protocol(&[], |world| {
        world.topic("t", 3, &[]);
        let counts: Vec<usize> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    scope.spawn(move || {
                        let producer = world.producer(&format!("id-{worker}"));
                        let mut committed = 0;
                        for round in 0..40 {
                            producer.begin_transaction().unwrap();
                            for record in 0..5 {
                                send(&producer, "t", (worker + record) % 3, &format!("{worker}-{round}-{record}"));
                            }
                            if (round + worker) % 4 == 0 {
                                block_on(producer.abort_transaction()).unwrap();
                            } else {
                                block_on(producer.commit_transaction()).unwrap();
                                committed += 5;
                            }
                        }
                        committed
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let values = world.values("t", 3, "read_committed");
        assert_eq!(values.len(), counts.iter().sum::<usize>());
        assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "each once");
    });
}

#[test]
fn calls_out_of_order_are_refused_by_name() {
    let world = World::new(false, &[]);
    world.topic("t", 1, &[]);
    let plain = Producer::new(world.client(), ProducerConfig::default()).unwrap();
    let error = plain.begin_transaction().unwrap_err();
    assert_eq!(error.to_string(), "configuration: transactions need the setting transactional.id");
    let config = ProducerConfig::default().transactional_id(Some("id".to_owned()));
    let producer = Producer::new(world.client(), config).unwrap();
    assert_eq!(producer.begin_transaction().unwrap_err().to_string(), "call init_transactions first");
    block_on(producer.init_transactions()).unwrap();
    let unopened = producer.send_blocking(ProducerRecord::to("t").value("x")).unwrap_err();
    assert_eq!(unopened.to_string(), "no transaction is open: begin one");
    assert!(block_on(producer.abort_transaction()).is_err());
    producer.begin_transaction().unwrap();
    let group =
        GroupMetadata { group_id: "g".into(), generation: 7, member_id: "nobody".into(), group_instance_id: None };
    let offsets = [(TopicPartition::new("t", 0), OffsetAndMetadata::new(1))];
    let error = block_on(producer.send_offsets_to_transaction(&offsets, &group)).unwrap_err();
    assert_eq!(error.transaction_class(), TransactionErrorClass::Abortable, "{error}");
    block_on(producer.abort_transaction()).unwrap();
    producer.begin_transaction().unwrap();
}

#[test]
fn admins_see_transactions_fence_producers_and_end_what_hangs() {
    let world = World::new(false, &[]);
    world.topic("t", 1, &[]);
    let place = TopicPartition::new("t", 0);
    let admin = Admin::new(world.client());
    let producer = world.producer("open");
    world.producer("idle").close_blocking().unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, "x");
    producer.flush_blocking();
    let listed = block_on(admin.list_transactions(&TransactionFilter::default())).unwrap();
    let listed: Vec<_> = listed.iter().map(|one| (one.transactional_id.as_str(), one.state.as_str())).collect();
    assert_eq!(listed, [("idle", "Empty"), ("open", "Ongoing")]);
    let ongoing = TransactionFilter { pattern: Some("o.*".to_owned()), ..TransactionFilter::default() };
    assert_eq!(block_on(admin.list_transactions(&ongoing)).unwrap().len(), 1);
    let described = block_on(admin.describe_transactions(&["open", "unknown"])).unwrap();
    let open = described[0].1.as_ref().unwrap();
    assert_eq!(
        (open.state.as_str(), open.timeout_ms, open.partitions.as_slice()),
        ("Ongoing", 60_000, &[place.clone()][..])
    );
    assert_eq!(described[1].1.as_ref().unwrap_err().code(), Some(ErrorCode::TransactionalIdNotFound));
    let writers = block_on(admin.describe_producers(&place)).unwrap();
    assert_eq!((writers.len(), writers[0].producer_id, writers[0].transaction_start), (1, open.producer_id, 0));
    block_on(admin.abort_transaction(&place, &writers[0])).unwrap();
    assert_eq!(block_on(admin.describe_producers(&place)).unwrap()[0].transaction_start, -1);
    block_on(admin.fence_producer("open")).unwrap();
    let error = block_on(producer.commit_transaction()).unwrap_err();
    assert!(matches!(error, ClientError::Fenced(_)), "{error}");
    assert_eq!(world.values("t", 1, "read_committed"), Vec::<String>::new());
}
