//! The way between clients and broker: directly, as in one process, or with requests and responses that wait until the network is
//! stepped. Either way it hears every acknowledgement and tells it to the ledger.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use base::{Offset, Rng, TopicPartition};
use broker::Broker;
use bytes::Bytes;
use parking_lot::Mutex;
use protocol::api::{ErrorCode, Pieces, Request, Response};
use protocol::record::batches;
use protocol::transport::{Completer, Completion, Reply, RequestEnvelope, Transport, completion};

use crate::ledger::{Ledger, Stored};
use crate::settings::NetworkKind;
use crate::topology::APPLICATION;

/// All connections to one broker.
pub struct Network {
    kind: NetworkKind,
    broker: Broker,
    ledger: Arc<Mutex<Ledger>>,
    wires: Mutex<Vec<Weak<Wire>>>,
}

/// One connection.
struct Wire {
    network: Weak<Network>,
    inner: Arc<dyn Transport>,
    /// Requests without response, in order.
    exchanges: Mutex<VecDeque<Exchange>>,
}

struct Exchange {
    /// Until the broker has it.
    request: Option<RequestEnvelope>,
    /// From then on.
    reply: Option<Completion>,
    completer: Completer,
    watch: Watch,
}

/// What of a request must be remembered to understand the response.
enum Watch {
    Nothing,
    Produce(Vec<(TopicPartition, Vec<Stored>)>),
    Commit(Vec<(TopicPartition, Offset)>),
}

impl Network {
    /// A network before `broker`.
    pub fn new(kind: NetworkKind, broker: Broker, ledger: Arc<Mutex<Ledger>>) -> Arc<Self> {
        Arc::new(Self { kind, broker, ledger, wires: Mutex::default() })
    }

    /// One more connection.
    pub fn connect(self: &Arc<Self>) -> Arc<dyn Transport> {
        let wire = Arc::new(Wire {
            network: Arc::downgrade(self),
            inner: self.broker.transport(),
            exchanges: Mutex::default(),
        });
        self.wires.lock().push(Arc::downgrade(&wire));
        wire
    }

    /// Moves something on one connection; whether there was anything to move.
    pub fn step(&self, rng: &mut Rng) -> bool {
        let wires: Vec<Arc<Wire>> = {
            let mut wires = self.wires.lock();
            wires.retain(|wire| wire.strong_count() > 0);
            wires.iter().filter_map(Weak::upgrade).collect()
        };
        let first = rng.below(wires.len() as u64) as usize;
        let prefers_requests = rng.chance(1, 2);
        // From the drawn one on, the first that has something to do.
        (0..wires.len()).any(|index| wires[(first + index) % wires.len()].step(self, prefers_requests))
    }

    fn watch(&self, request: &Request) -> Watch {
        match request {
            Request::Produce(produce) => {
                let image = self.broker.state().metadata.current();
                let name_of = |topic: &protocol::api::ProduceTopic| match image.topic_by_id(&topic.topic_id) {
                    Some(found) => found.name.to_string(),
                    None => topic.name.to_string(),
                };
                let batches = produce.topics.iter().flat_map(|topic| {
                    let name = name_of(topic);
                    topic.partitions.iter().map(move |partition| {
                        let records = partition.records.as_ref().map(records_of).unwrap_or_default();
                        (TopicPartition::new(name.as_str(), partition.index), records)
                    })
                });
                Watch::Produce(batches.collect())
            }
            Request::OffsetCommit(commit) if *commit.group_id.0 == *APPLICATION => {
                let offsets = commit.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|partition| {
                        let name = topic.name.as_str();
                        (TopicPartition::new(name, partition.partition_index), partition.committed_offset)
                    })
                });
                Watch::Commit(offsets.collect())
            }
            _ => Watch::Nothing,
        }
    }
}

fn records_of(pieces: &Pieces) -> Vec<Stored> {
    let bytes = pieces.to_bytes().unwrap_or_default();
    read_records(&bytes).into_iter().map(|(_, record)| record).collect()
}

/// Offset, key and value of all records in whole batches.
pub fn read_records(bytes: &Bytes) -> Vec<(Offset, Stored)> {
    let mut found = Vec::new();
    for batch in batches(bytes).flatten() {
        let Ok(mut records) = batch.records() else { continue };
        while let Some(Ok(record)) = records.next() {
            let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
            found.push((record.offset, Stored { key: owned(record.key), value: owned(record.value) }));
        }
    }
    found
}

impl Watch {
    /// Tells the ledger what the client is about to be told.
    fn tell(self, reply: &Reply, ledger: &Mutex<Ledger>) {
        match (self, reply) {
            (Self::Produce(sent), Ok(Response::Produce(response))) => {
                // Answered in the order of the request.
                let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
                for ((partition, records), answer) in sent.into_iter().zip(answers) {
                    if answer.error_code == ErrorCode::None && answer.base_offset >= 0 {
                        ledger.lock().acknowledged(&partition, answer.base_offset, records);
                    }
                }
            }
            (Self::Commit(sent), Ok(Response::OffsetCommit(response))) => {
                let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
                for ((partition, offset), answer) in sent.into_iter().zip(answers) {
                    if answer.error_code == 0 {
                        ledger.lock().committed(&partition, offset);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Wire {
    /// Moves the front request to the broker, or the front response to the client; whether either could be.
    fn step(&self, network: &Network, prefers_requests: bool) -> bool {
        (prefers_requests && self.pass_request()) || self.pass_response(network) || self.pass_request()
    }

    fn pass_request(&self) -> bool {
        let mut exchanges = self.exchanges.lock();
        let waiting = exchanges.iter_mut().find_map(|exchange| Some((exchange.request.take()?, &mut exchange.reply)));
        let Some((request, reply)) = waiting else { return false };
        *reply = Some(self.inner.send(request));
        true
    }

    fn pass_response(&self, network: &Network) -> bool {
        let (exchange, reply) = {
            let mut exchanges = self.exchanges.lock();
            let answered = exchanges.front_mut().and_then(|front| front.reply.as_mut()?.try_take());
            let Some(reply) = answered else { return false };
            let Some(exchange) = exchanges.pop_front() else { return false };
            (exchange, reply)
        };
        exchange.watch.tell(&reply, &network.ledger);
        exchange.completer.complete(reply);
        true
    }
}

impl Transport for Wire {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        let Some(network) = self.network.upgrade() else { return self.inner.send(envelope) };
        let watch = network.watch(&envelope.request);
        let mut exchanges = self.exchanges.lock();
        let (request, reply) = match network.kind {
            NetworkKind::Delayed => (Some(envelope), None),
            NetworkKind::Direct => {
                let mut reply = self.inner.send(envelope);
                if exchanges.is_empty()
                    && let Some(reply) = reply.try_take()
                {
                    drop(exchanges);
                    watch.tell(&reply, &network.ledger);
                    return Completion::ready(reply);
                }
                (None, Some(reply))
            }
        };
        let (completer, completion) = completion();
        exchanges.push_back(Exchange { request, reply, completer, watch });
        completion
    }

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn close(&self) {
        self.inner.close();
        // Dropping the completers tells the client.
        let dropped = std::mem::take(&mut *self.exchanges.lock());
        drop(dropped);
    }
}
