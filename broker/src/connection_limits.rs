//! How many connections are open, in all and from each address, over all listeners; and how many there may be
//! (`max.connections`, `max.connections.per.ip`, `max.connections.per.ip.overrides`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::BrokerError;

/// Connections that are open, and the limits, which may change meanwhile; those that are open stay open.
pub(crate) struct OpenConnections {
    limits: RwLock<ConnectionLimits>,
    counts: Mutex<Counts>,
    /// When the next connection would be due if all came at the rate that is allowed, in microseconds of ticks.
    next_turn_us: Mutex<i64>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`.
    pub total: usize,
    /// `max.connections.per.ip`.
    pub per_address: usize,
    /// `max.connections.per.ip.overrides`.
    pub overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate`: connections a second; those above it wait.
    pub creation_rate: u32,
}

const SECOND_US: i64 = 1_000_000;

/// One open connection; dropped with it.
pub(crate) struct OpenConnection {
    open: Arc<OpenConnections>,
    address: IpAddr,
}

/// The properties they come from.
pub(crate) const LIMITS: [&str; 4] =
    ["max.connections", "max.connections.per.ip", "max.connections.per.ip.overrides", "max.connection.creation.rate"];

impl ConnectionLimits {
    /// From properties; what is not there has Kafka's default.
    ///
    /// # Errors
    /// As [`ConnectionLimits::new`].
    pub fn from_properties(explicit: &BTreeMap<String, String>) -> Result<Self, BrokerError> {
        let text = |name: &str| explicit.get(name).map(|value| value.trim());
        let count = |name: &str| text(name).and_then(|value| value.parse().ok()).unwrap_or(i32::MAX);
        let limits = Self::new(count(LIMITS[0]), count(LIMITS[1]), text(LIMITS[2]).unwrap_or_default())?;
        let creation_rate = u32::try_from(count(LIMITS[3])).unwrap_or(1).max(1);
        Ok(Self { creation_rate, ..limits })
    }

    /// From the values of the three properties.
    ///
    /// # Errors
    /// An entry of the overrides is not `ADDRESS:COUNT`.
    pub fn new(total: i32, per_address: i32, overrides: &str) -> Result<Self, BrokerError> {
        let count = |count: i32| usize::try_from(count).unwrap_or(0);
        let mut limits = Self {
            total: count(total),
            per_address: count(per_address),
            overrides: BTreeMap::new(),
            creation_rate: i32::MAX as u32,
        };
        for entry in overrides.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let parsed = entry.rsplit_once(':').and_then(|(address, count)| {
                let address = address.trim().trim_start_matches('[').trim_end_matches(']');
                Some((address.parse::<IpAddr>().ok()?, count.trim().parse::<usize>().ok()?))
            });
            let Some((address, count)) = parsed else {
                return Err(BrokerError::Config(format!(
                    "max.connections.per.ip.overrides: `{entry}` is not an IP address and a count, as 127.0.0.1:200"
                )));
            };
            limits.overrides.insert(address.to_canonical(), count);
        }
        Ok(limits)
    }

    fn of(&self, address: &IpAddr) -> usize {
        self.overrides.get(address).copied().unwrap_or(self.per_address)
    }
}

impl OpenConnections {
    /// None are open.
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { limits: RwLock::new(limits), counts: Mutex::default(), next_turn_us: Mutex::new(i64::MIN) }
    }

    /// From now on these hold.
    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        *self.limits.write() = limits;
    }

    /// How long a connection that comes at `now_ticks_ms` has to wait, in ms, so that no more come than a second allows. As many as that may
    /// come at once after a second without any.
    pub(crate) fn wait_ms(&self, now_ticks_ms: i64) -> u64 {
        let interval_us = SECOND_US / i64::from(self.limits.read().creation_rate.max(1));
        let now_us = now_ticks_ms.saturating_mul(1000);
        let mut next_us = self.next_turn_us.lock();
        let turn_us = (*next_us).max(now_us.saturating_sub(SECOND_US - interval_us));
        *next_us = turn_us.saturating_add(interval_us);
        u64::try_from((turn_us - now_us).max(0)).unwrap_or(0).div_ceil(1000)
    }

    /// Counts a connection from `address` in.
    ///
    /// # Errors
    /// A limit is reached; the text names it.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<OpenConnection, String> {
        let limits = self.limits.read();
        let address = address.to_canonical();
        let mut counts = self.counts.lock();
        if counts.total >= limits.total {
            return Err(format!("max.connections={} are open", limits.total));
        }
        let from_there = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_there >= limits.of(&address) {
            return Err(format!("max.connections.per.ip={} are open from there", limits.of(&address)));
        }
        counts.total += 1;
        counts.by_address.insert(address, from_there + 1);
        Ok(OpenConnection { open: Arc::clone(self), address })
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut counts = self.open.counts.lock();
        counts.total -= 1;
        match counts.by_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_above_the_rate_wait_for_their_turn() {
        let rate = |creation_rate| ConnectionLimits { creation_rate, ..ConnectionLimits::new(9, 9, "").unwrap() };
        let open = OpenConnections::new(rate(10));
        let waits: Vec<u64> = (0..13).map(|_| open.wait_ms(50_000)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(open.wait_ms(50_350), 50, "the next turn");
        assert_eq!(open.wait_ms(90_000), 0);
        open.set_limits(rate(1));
        assert_eq!([open.wait_ms(200_000), open.wait_ms(200_000), open.wait_ms(200_500)], [0, 1000, 1500]);
        open.set_limits(rate(i32::MAX as u32));
        assert_eq!((0..100_000).map(|_| open.wait_ms(300_000)).max(), Some(0), "no bound");
    }

    #[test]
    fn limits_hold_in_all_and_for_each_address_and_a_closed_connection_makes_room() {
        let limits = ConnectionLimits::new(4, 2, "10.0.0.9:1, [::1]:3").unwrap();
        let open = Arc::new(OpenConnections::new(limits));
        let (near, far, last): (IpAddr, IpAddr, IpAddr) =
            ("127.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap(), "::1".parse().unwrap());
        let first = open.admit(near).unwrap();
        let _second = open.admit("::ffff:127.0.0.1".parse().unwrap()).unwrap();
        assert!(open.admit(near).is_err(), "two from one address");
        let _third = open.admit(far).unwrap();
        assert!(open.admit(far).is_err(), "its own limit is one");
        let _fourth = open.admit(last).unwrap();
        assert!(open.admit(last).is_err(), "four in all");
        drop(first);
        assert!(open.admit(near).is_ok());
        open.set_limits(ConnectionLimits::new(1, 1, "").unwrap());
        assert!(open.admit(near).is_err());
        assert!(ConnectionLimits::new(1, 1, "example.org:3").is_err());
    }
}
