//! The connections of a client, by lane and node id: made when first used, their versions negotiated, made anew after
//! a failure once the back-off has passed.
//!
//! ```text
//!   Idle --used--> Negotiating --ApiVersions answered--> Ready
//!    ^                  | failed, or time-out              | failed
//!    +---- back-off ----+----------------------------------+
//! ```
//!
//! Bootstrap addresses have the node ids -1, -2, ... until metadata names their brokers; a connection made to such an
//! address is taken over by the broker that advertises it.

use std::sync::{Arc, Weak};
use std::task::Waker;

use base::hash::HashMap;
use base::{Now, Rng};
use protocol::api::messages::ApiVersionsRequest;
use protocol::api::{ApiKey, ErrorCode, Request, Response, supported_versions};
use protocol::transport::{Completion, Connector, RequestEnvelope, Transport, TransportError};

use crate::client::{Lookup, Shared, Target};
use crate::config::ClientConfig;
use crate::connection::{Connection, Offered};
use crate::error::ClientError;
use crate::metadata::Metadata;
use crate::retry::Backoff;
use crate::wire::{expect_response, text};

pub(crate) type Address = (Arc<str>, u16);

/// A connector whose one transport serves every address; closing it is left to its owner.
pub(crate) struct SingleConnector(pub Arc<dyn Transport>);

struct Unclosable(Arc<dyn Transport>);

impl Transport for Unclosable {
    fn send(&self, envelope: RequestEnvelope) -> Completion {
        self.0.send(envelope)
    }

    fn address(&self) -> &str {
        self.0.address()
    }

    fn close(&self) {}

    fn failure(&self) -> Option<String> {
        self.0.failure()
    }
}

impl Connector for SingleConnector {
    fn connect(&self, _host: &str, _port: u16) -> Arc<dyn Transport> {
        Arc::new(Unclosable(Arc::clone(&self.0)))
    }
}

/// The addresses of `bootstrap.servers`: `host:port`, comma separated; IPv6 hosts in brackets.
pub(crate) fn parse_addresses(text: &str) -> Result<Vec<Address>, ClientError> {
    let mut addresses = Vec::new();
    for address in text.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match parsed {
            Some((host, port)) if !host.is_empty() && port != 0 => {
                addresses.push((Arc::from(host.trim_start_matches('[').trim_end_matches(']')), port));
            }
            _ => return Err(crate::config::refuse("bootstrap.servers", address, "must be host:port")),
        }
    }
    if addresses.is_empty() {
        return Err(ClientError::Config("bootstrap.servers is empty: name at least one broker as host:port".into()));
    }
    Ok(addresses)
}

pub(crate) struct Links {
    connector: Arc<dyn Connector>,
    bootstrap: Vec<Address>,
    /// Addresses learnt from coordinators that metadata does not name.
    learnt: HashMap<i32, Address>,
    links: HashMap<(u32, i32), Link>,
    client: Weak<Shared>,
    client_id: Option<Arc<str>>,
    /// Client ids of lanes that have one of their own.
    lane_names: HashMap<u32, Arc<str>>,
    request_timeout_ms: i64,
    setup_timeout_ms: i64,
    reconnect: Backoff,
    /// Tick since which no connection could be made; cleared by the first that is.
    unreachable_since: Option<i64>,
    last_error: Option<ClientError>,
    rng: Rng,
}

struct Link {
    address: Address,
    backoff: Backoff,
    state: LinkState,
}

enum LinkState {
    /// To be connected when used, from this tick on.
    Idle(i64),
    Negotiating(Box<Negotiation>),
    Ready(Arc<Connection>),
}

struct Negotiation {
    transport: Arc<dyn Transport>,
    completion: Completion,
    version: i16,
    deadline_ticks_ms: i64,
}

impl Links {
    pub(crate) fn new(
        connector: Arc<dyn Connector>,
        bootstrap: Vec<Address>,
        config: &ClientConfig,
        client: Weak<Shared>,
        rng: Rng,
    ) -> Self {
        Self {
            connector,
            bootstrap,
            learnt: HashMap::default(),
            links: HashMap::default(),
            client,
            client_id: (!config.client_id.is_empty()).then(|| Arc::from(config.client_id.as_str())),
            lane_names: HashMap::default(),
            request_timeout_ms: config.request_timeout_ms,
            setup_timeout_ms: config.socket_connection_setup_timeout_ms,
            reconnect: Backoff::new(config.reconnect_backoff_ms, config.reconnect_backoff_max_ms),
            unreachable_since: None,
            last_error: None,
            rng,
        }
    }

    /// How and to where connections are made.
    pub(crate) fn origin(&self) -> (Arc<dyn Connector>, Vec<Address>) {
        (Arc::clone(&self.connector), self.bootstrap.clone())
    }

    /// Gives the requests of a lane a client id of its own; before its first connection.
    pub(crate) fn name_lane(&mut self, lane: u32, client_id: &str) {
        self.lane_names.insert(lane, Arc::from(client_id));
    }

    /// The open connection, if there is one: the path of nearly every call.
    pub(crate) fn ready(&self, lane: u32, target: Target, metadata: &Metadata) -> Option<Arc<Connection>> {
        let node = match target {
            Target::Node(node) => node,
            Target::Controller => metadata.controller?,
            Target::Any => return None,
        };
        match &self.links.get(&(lane, node))?.state {
            LinkState::Ready(connection) => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// The open connection to `target`, or the next step towards one. `waker` is called when an attempt has ended.
    pub(crate) fn connection(
        &mut self,
        lane: u32,
        target: Target,
        metadata: &Metadata,
        now: Now,
        waker: &Waker,
    ) -> Lookup<Arc<Connection>> {
        match target {
            Target::Node(node) => match self.address_of(node, metadata) {
                Some(address) => self.advance(lane, node, address, now, waker),
                // The metadata that would name it is on its way, or the node is gone and its user will learn that.
                None => Lookup::Wait { until_ticks_ms: None },
            },
            Target::Controller => match metadata.controller.filter(|node| metadata.brokers.contains_key(node)) {
                Some(node) => self.connection(lane, Target::Node(node), metadata, now, waker),
                None => self.any(lane, metadata, now, waker),
            },
            Target::Any => self.any(lane, metadata, now, waker),
        }
    }

    /// A broker that is connected, else one that is being connected, else the next that may be tried.
    fn any(&mut self, lane: u32, metadata: &Metadata, now: Now, waker: &Waker) -> Lookup<Arc<Connection>> {
        let mut known: Vec<i32> = metadata.brokers.keys().copied().collect();
        known.sort_unstable();
        let nodes: Vec<i32> = known.into_iter().chain((1..=self.bootstrap.len() as i32).map(|i| -i)).collect();
        let connected = nodes
            .iter()
            .copied()
            .find(|node| self.links.get(&(lane, *node)).is_some_and(|link| matches!(link.state, LinkState::Ready(_))));
        let under_way = || {
            nodes.iter().copied().find(|node| {
                self.links.get(&(lane, *node)).is_some_and(|link| matches!(link.state, LinkState::Negotiating(_)))
            })
        };
        if let Some(node) = connected.or_else(under_way)
            && let Some(address) = self.address_of(node, metadata)
        {
            match self.advance(lane, node, address, now, waker) {
                // It has just failed: go on with the others.
                Lookup::Wait { .. } if !self.is_under_way(lane, node) => {}
                other => return other,
            }
        }
        let start = self.rng.below(nodes.len() as u64) as usize;
        let mut earliest: Option<i64> = None;
        for index in 0..nodes.len() {
            let node = nodes[(start + index) % nodes.len()];
            let Some(address) = self.address_of(node, metadata) else { continue };
            match self.advance(lane, node, address, now, waker) {
                Lookup::Wait { until_ticks_ms } if !self.is_under_way(lane, node) => {
                    earliest = match (earliest, until_ticks_ms) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                other => return other,
            }
        }
        Lookup::Wait { until_ticks_ms: earliest }
    }

    fn is_under_way(&self, lane: u32, node: i32) -> bool {
        self.links.get(&(lane, node)).is_some_and(|link| matches!(link.state, LinkState::Negotiating(_)))
    }

    fn address_of(&self, node: i32, metadata: &Metadata) -> Option<Address> {
        if node < 0 {
            return self.bootstrap.get(usize::try_from(-1 - i64::from(node)).ok()?).cloned();
        }
        let broker = metadata.brokers.get(&node).map(|broker| (Arc::clone(&broker.host), broker.port));
        broker.or_else(|| self.learnt.get(&node).cloned())
    }

    /// Moves one link on as far as it goes without waiting.
    fn advance(&mut self, lane: u32, node: i32, address: Address, now: Now, waker: &Waker) -> Lookup<Arc<Connection>> {
        if !self.links.contains_key(&(lane, node)) {
            let link = self.adopt(lane, node, &address).unwrap_or_else(|| Link {
                address: address.clone(),
                backoff: self.reconnect.clone(),
                state: LinkState::Idle(i64::MIN),
            });
            self.links.insert((lane, node), link);
        }
        let client_id = self.lane_names.get(&lane).or(self.client_id.as_ref()).cloned();
        loop {
            let Some(link) = self.links.get_mut(&(lane, node)) else { return Lookup::Wait { until_ticks_ms: None } };
            if link.address != address {
                // The broker moved: what was connected is another one now.
                link.close();
                link.address = address.clone();
                link.backoff.reset();
            }
            match &mut link.state {
                LinkState::Ready(connection) => return connection.checked(),
                LinkState::Idle(from) if now.ticks_ms < *from => return Lookup::Wait { until_ticks_ms: Some(*from) },
                LinkState::Idle(_) => {
                    let transport = self.connector.connect(&link.address.0, link.address.1);
                    let deadline_ticks_ms = now.ticks_ms.saturating_add(self.setup_timeout_ms);
                    // Version 3 is served by every broker since Kafka 2.4, and names the finalized features.
                    let version = supported_versions(ApiKey::ApiVersions).1.min(3);
                    let completion = ask_versions(&*transport, version, client_id.clone());
                    link.state = LinkState::Negotiating(Box::new(Negotiation {
                        transport,
                        completion,
                        version,
                        deadline_ticks_ms,
                    }));
                }
                LinkState::Negotiating(negotiation) => {
                    let address = negotiation.transport.address().to_owned();
                    let outcome = match negotiation.completion.poll_take(waker) {
                        Some(reply) => read_versions(reply, &address),
                        None if now.ticks_ms >= negotiation.deadline_ticks_ms => {
                            Err(ClientError::Transport(TransportError::Disconnected {
                                address: address.clone(),
                                reason: format!("not connected within {} ms", self.setup_timeout_ms),
                            }))
                        }
                        None => return Lookup::Wait { until_ticks_ms: Some(negotiation.deadline_ticks_ms) },
                    };
                    match outcome {
                        Ok(Some(offered)) => {
                            let connection = Arc::new(Connection::new(
                                (lane, node),
                                Arc::clone(&negotiation.transport),
                                offered,
                                client_id.clone(),
                                self.client.clone(),
                                self.request_timeout_ms,
                            ));
                            link.state = LinkState::Ready(connection);
                            link.backoff.reset();
                            self.unreachable_since = None;
                        }
                        Ok(None) if negotiation.version > 0 => {
                            negotiation.version = 0;
                            negotiation.completion = ask_versions(&*negotiation.transport, 0, client_id.clone());
                        }
                        Ok(None) => {
                            return self.give_up(
                                lane,
                                node,
                                ClientError::Unsupported(format!("{address} serves no version of ApiVersions")),
                                now,
                            );
                        }
                        Err(error) => return self.give_up(lane, node, error, now),
                    }
                }
            }
        }
    }

    fn give_up(&mut self, lane: u32, node: i32, error: ClientError, now: Now) -> Lookup<Arc<Connection>> {
        tracing::debug!(node, %error, "no connection");
        self.unreachable_since.get_or_insert(now.ticks_ms);
        self.last_error = Some(error);
        let Some(link) = self.links.get_mut(&(lane, node)) else { return Lookup::Wait { until_ticks_ms: None } };
        link.close();
        let until = now.ticks_ms.saturating_add(link.backoff.next_ms(&mut self.rng).max(1));
        link.state = LinkState::Idle(until);
        Lookup::Wait { until_ticks_ms: Some(until) }
    }

    /// A bootstrap link to the same address becomes the broker's own.
    fn adopt(&mut self, lane: u32, node: i32, address: &Address) -> Option<Link> {
        if node < 0 {
            return None;
        }
        let key = (1..=self.bootstrap.len() as i32)
            .map(|i| (lane, -i))
            .find(|key| self.links.get(key).is_some_and(|link| link.address == *address))?;
        let mut link = self.links.remove(&key)?;
        if let LinkState::Ready(connection) = &mut link.state {
            *connection = Arc::new(connection.renamed(node));
        }
        Some(link)
    }

    /// Takes a connection out of use; whether it was still in use.
    pub(crate) fn failed(&mut self, connection: &Arc<Connection>, error: ClientError, now: Now) -> bool {
        connection.transport.close();
        tracing::debug!(node = connection.node, %error, "connection failed");
        self.last_error = Some(error);
        let key = self.links.iter().find_map(|(key, link)| match &link.state {
            LinkState::Ready(current) if Arc::ptr_eq(&current.transport, &connection.transport) => Some(*key),
            _ => None,
        });
        let Some(link) = key.and_then(|key| self.links.get_mut(&key)) else { return false };
        link.state = LinkState::Idle(now.ticks_ms.saturating_add(link.backoff.next_ms(&mut self.rng).max(1)));
        true
    }

    /// Remembers a failure for the message of whoever gives up waiting.
    pub(crate) fn note(&mut self, error: ClientError) {
        self.last_error = Some(error);
    }

    pub(crate) fn last_error(&self) -> Option<&ClientError> {
        self.last_error.as_ref()
    }

    pub(crate) fn learn_address(&mut self, node: i32, host: &str, port: i32) {
        if let Ok(port) = u16::try_from(port) {
            self.learnt.insert(node, (Arc::from(host), port));
        }
    }

    pub(crate) fn unreachable(&self, now: Now) -> Option<(i64, ClientError)> {
        let since = self.unreachable_since?;
        let reason = match &self.last_error {
            // The address is named beside it.
            Some(ClientError::Transport(TransportError::Disconnected { reason, .. })) => reason.clone(),
            Some(error) => error.to_string(),
            None => String::new(),
        };
        let after_ms = now.ticks_ms - since;
        Some((after_ms, ClientError::Unreachable { address: self.addresses(), reason }))
    }

    /// The bootstrap addresses as given.
    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<String> = self.bootstrap.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        addresses.join(", ")
    }

    pub(crate) fn close_lane(&mut self, lane: u32) {
        self.lane_names.remove(&lane);
        self.links.retain(|(of, _), link| {
            if *of == lane {
                link.close();
            }
            *of != lane
        });
    }

    pub(crate) fn close_all(&mut self) {
        for (_, mut link) in self.links.drain() {
            link.close();
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.close_all();
    }
}

impl Link {
    fn close(&mut self) {
        match std::mem::replace(&mut self.state, LinkState::Idle(i64::MIN)) {
            LinkState::Ready(connection) => connection.transport.close(),
            LinkState::Negotiating(negotiation) => negotiation.transport.close(),
            LinkState::Idle(from) => self.state = LinkState::Idle(from),
        }
    }
}

fn ask_versions(transport: &dyn Transport, version: i16, client_id: Option<Arc<str>>) -> Completion {
    let mut request = ApiVersionsRequest::default();
    request.client_software_name = text("millstream");
    request.client_software_version = text(env!("CARGO_PKG_VERSION"));
    transport.send(RequestEnvelope { version, client_id, request: Request::ApiVersions(request) })
}

/// What the broker offers; `None` if it does not know the version of the question.
fn read_versions(reply: Result<Response, TransportError>, address: &str) -> Result<Option<Offered>, ClientError> {
    let response = expect_response!(reply?, ApiVersions, address)?;
    match ErrorCode::from_code(response.error_code) {
        ErrorCode::None => Ok(Some(Offered {
            versions: response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect(),
            features: response
                .finalized_features
                .iter()
                .map(|feature| (feature.name.to_string(), feature.max_version_level))
                .collect(),
        })),
        ErrorCode::UnsupportedVersion => Ok(None),
        code => Err(ClientError::broker(format!("version handshake with {address}"), code, None)),
    }
}
