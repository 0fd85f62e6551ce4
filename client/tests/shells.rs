//! Producer and admin for users, over the scripted cluster and over a TCP server in this process.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use base::{Rng, TopicPartition};
use bytes::BytesMut;
use client::admin::{NewTopic, OffsetSpec};
use client::{
    Admin, Client, ClientConfig, ClientError, ClientSeams, Producer, ProducerConfig, ProducerRecord, block_on,
};
use common::{Cluster, Fate};
use protocol::api::{ErrorCode, Request};
use protocol::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn client(cluster: &Arc<Cluster>) -> Client {
    let seams = ClientSeams { rng: Rng::from_seed(3), ..ClientSeams::default() };
    let config = ClientConfig::default().bootstrap_servers("node0:9090");
    Client::with_connector(cluster.connector(), config, seams).unwrap()
}

fn record(i: usize) -> ProducerRecord {
    ProducerRecord::to("t").key(i.to_string()).value(i.to_string()).header("h", "x")
}

#[test]
fn a_producer_writes_from_many_threads_and_closes() {
    let cluster = Cluster::new(&[("t", 4)]);
    let producer = Producer::new(client(&cluster), ProducerConfig::default().linger_ms(1)).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                let sent: Vec<_> = (0..250).map(|i| producer.send(record(thread * 250 + i))).collect();
                block_on(async {
                    for future in sent {
                        future.await.unwrap();
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let written: usize = (0..4).map(|partition| cluster.records("t", partition).len()).sum();
    assert_eq!(written, 1_000);
    producer.close_blocking().unwrap();
    let refused = producer.send_blocking(record(0)).unwrap_err();
    assert!(matches!(refused, ClientError::Closed(_)), "{refused}");
}

#[test]
fn flush_sends_at_once_and_dropping_the_producer_loses_nothing() {
    let cluster = Cluster::new(&[("t", 1)]);
    let producer = Producer::new(client(&cluster), ProducerConfig::default().linger_ms(60_000)).unwrap();
    let future = producer.send(record(0));
    producer.flush_blocking();
    assert_eq!(block_on(future).unwrap().offset, 0);
    drop(producer.send(record(1)));
    drop(producer);
    assert_eq!(cluster.records("t", 0).len(), 2);
}

#[test]
fn a_full_buffer_holds_the_sender_back_until_there_is_room() {
    let cluster = Cluster::new(&[("t", 1)]);
    let config = ProducerConfig::default().linger_ms(2).buffer_memory(2_000_usize).batch_size(500_usize);
    let producer = Producer::new(client(&cluster), config).unwrap();
    let futures: Vec<_> = (0..500).map(|i| producer.send(record(i))).collect();
    block_on(async {
        for future in futures {
            future.await.unwrap();
        }
    });
    assert_eq!(cluster.records("t", 0).len(), 500);
}

#[test]
fn records_of_a_topic_not_known_yet_are_sent_in_order_without_being_polled() {
    let cluster = Cluster::new(&[("known", 1)]);
    let producer = Producer::new(client(&cluster), ProducerConfig::default().linger_ms(0)).unwrap();
    let early: Vec<_> = (0..3).map(|i| producer.send(record(i))).collect();
    producer.send_blocking(ProducerRecord::to("known").value("not held back")).unwrap();
    cluster.add_topic("t", 1);
    // Waits for the metadata; the earlier ones were never polled.
    assert_eq!(producer.send_blocking(record(3)).unwrap().offset, 3);
    let offsets: Vec<_> = early.into_iter().map(|future| block_on(future).unwrap().offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
}

#[test]
fn flush_waits_for_records_of_a_topic_not_known_yet() {
    let cluster = Cluster::new(&[]);
    let producer = Producer::new(client(&cluster), ProducerConfig::default().linger_ms(60_000)).unwrap();
    drop(producer.send(record(0)));
    cluster.add_topic("t", 1);
    producer.flush_blocking();
    assert_eq!(cluster.records("t", 0).len(), 1);
    drop(producer.send(record(1)));
    producer.close_blocking().unwrap();
    assert_eq!(cluster.records("t", 0), [b"0", b"1"]);
}

#[test]
fn records_that_wait_for_their_topic_are_bounded() {
    let cluster = Cluster::new(&[]);
    let config = ProducerConfig::default().buffer_memory(1_000_usize).max_block_ms(300);
    let producer = Producer::new(client(&cluster), config).unwrap();
    let clock = base::SystemClock::shared();
    let start_ms = clock.now().ticks_ms;
    // Some 70 records fit; the sender is held back until those have waited long enough.
    let futures: Vec<_> = (0..100).map(|i| producer.send(record(i))).collect();
    assert!(clock.now().ticks_ms - start_ms >= 250);
    for future in futures {
        assert_eq!(block_on(future).unwrap_err().code(), Some(ErrorCode::UnknownTopicOrPartition));
    }
}

#[test]
fn an_unknown_topic_ends_in_an_error_that_names_it() {
    let cluster = Cluster::new(&[]);
    let producer = Producer::new(client(&cluster), ProducerConfig::default().max_block_ms(300)).unwrap();
    let error = producer.send_blocking(record(0)).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(error.to_string().starts_with("topic t, after"), "{error}");
}

#[test]
fn admin_calls_answer_per_thing_in_the_order_asked() {
    let cluster = Cluster::new(&[("t", 2)]);
    let admin = Admin::new(client(&cluster));
    block_on(async {
        let created = admin.create_topics(&[NewTopic::new("new", 3), NewTopic::new("t", 1)]).await.unwrap();
        assert_eq!(created[0].1.as_ref().unwrap().partitions, 3);
        assert_eq!(created[1].1.as_ref().unwrap_err().to_string(), "creating topic t: TOPIC_ALREADY_EXISTS");
        let topics: Vec<_> = admin.list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
        assert_eq!(topics, [Arc::from("new"), Arc::from("t")]);
        let described = admin.describe_topics(&["nix", "t"]).await.unwrap();
        assert_eq!(described[0].1.as_ref().unwrap_err().code(), Some(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(described[1].1.as_ref().unwrap().partitions.len(), 2);

        let parts = [TopicPartition::new("t", 1), TopicPartition::new("t", 0)];
        let asked = [(parts[0].clone(), OffsetSpec::Latest), (parts[1].clone(), OffsetSpec::Earliest)];
        let offsets = admin.list_offsets(&asked).await.unwrap();
        assert_eq!(offsets[0].0, parts[0]);
        assert_eq!(offsets[0].1.as_ref().unwrap().offset, 0);
        let deleted = admin.delete_records(&[(parts[0].clone(), 7)]).await.unwrap();
        assert_eq!(*deleted[0].1.as_ref().unwrap(), 7);

        let groups = admin.delete_groups(&["idle", "busy"]).await.unwrap();
        assert!(groups[0].1.is_ok());
        assert_eq!(groups[1].1.as_ref().unwrap_err().code(), Some(ErrorCode::NonEmptyGroup));
        let committed = admin.list_group_offsets("idle").await.unwrap();
        assert_eq!((committed[0].1.offset, committed[0].1.leader_epoch), (42, 3));
    });
}

/// Serves the cluster's node 0 on a loopback socket; every node of the cluster answers there.
fn tcp_server(cluster: &Arc<Cluster>) -> u16 {
    let (sender, receiver) = std::sync::mpsc::channel();
    let cluster = Arc::clone(cluster);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            sender.send(port).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                let cluster = Arc::clone(&cluster);
                tokio::spawn(async move {
                    let mut buffer = BytesMut::new();
                    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                        while let Some(request) = frame::next_frame(&mut buffer, 100 << 20).unwrap() {
                            let (header, request) = frame::decode_request(request).unwrap();
                            let no_answer = matches!(&request, Request::Produce(produce) if produce.acks == 0);
                            let metadata = matches!(&request, Request::Metadata(_));
                            let Some((reply, _)) = cluster.serve(0, header.api_version, request) else { return };
                            let mut response = reply.unwrap();
                            if let (true, protocol::api::Response::Metadata(metadata)) = (metadata, &mut response) {
                                for broker in &mut metadata.brokers {
                                    broker.host = protocol::api::StrBytes::from_static_str("127.0.0.1");
                                    broker.port = i32::from(port);
                                }
                            }
                            if no_answer {
                                continue;
                            }
                            let answer =
                                frame::encode_response(header.api_version, header.correlation_id, &response).unwrap();
                            if stream.write_all(&answer.to_bytes().unwrap()).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[test]
fn records_go_over_tcp_and_a_lost_connection_is_made_again() {
    let cluster = Cluster::new(&[("t", 1)]);
    let port = tcp_server(&cluster);
    let client = Client::connect(&format!("127.0.0.1:{port}"), ClientConfig::default()).unwrap();
    block_on(client.ready()).unwrap();
    let producer = Producer::new(client.clone(), ProducerConfig::default()).unwrap();
    cluster.script([Fate::Serve, Fate::WriteAndDrop, Fate::Drop]);
    let big = vec![7u8; 900_000];
    for i in 0..5 {
        let written = producer.send_blocking(ProducerRecord::to("t").value(big.clone())).unwrap();
        assert_eq!(written.offset, i);
    }
    producer.close_blocking().unwrap();
    assert!(cluster.records("t", 0).iter().all(|record| *record == big));
    let topics = block_on(Admin::new(client).list_topics()).unwrap();
    assert_eq!(&*topics[0].name, "t");
}

#[test]
fn no_broker_is_an_error_that_names_the_address() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let config = ClientConfig::default().socket_connection_setup_timeout_ms(300);
    let client = Client::connect(&format!("127.0.0.1:{port}"), config).unwrap();
    let error = block_on(client.ready()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("no broker at 127.0.0.1:{port}: ")), "{error}");
    assert!(error.contains("refused") && error.ends_with("is it running, and is the address right?"), "{error}");
    let error = Client::connect("localhost", ClientConfig::default()).err().unwrap();
    assert_eq!(error.to_string(), "configuration: bootstrap.servers=localhost: must be host:port");
}
