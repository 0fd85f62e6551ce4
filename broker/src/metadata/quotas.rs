//! Client quotas as KRaft keeps them: for an entity (a user, a client id, both, or an address; or whoever has no entry of
//! their own) a rate for each of Kafka's keys. Which of them holds for a client is decided here; `client_quotas` enforces it.

use std::collections::BTreeMap;

use super::fields::{Reader, Writer};

/// Entity type: the principal's name.
pub const USER: &str = "user";
/// Entity type: the client id of a request.
pub const CLIENT_ID: &str = "client-id";
/// Entity type: the client's address.
pub const IP: &str = "ip";
/// Bytes of records that may be produced in a second.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
/// Bytes of records that may be fetched in a second.
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";

/// Entity types with their names; no name is the default, for all that are not named.
pub type QuotaEntity = BTreeMap<String, Option<String>>;
/// Quotas of all entities, by key.
pub type Quotas = BTreeMap<QuotaEntity, BTreeMap<String, f64>>;

/// `ClientQuotaRecord`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaChange {
    /// Whose.
    pub entity: QuotaEntity,
    /// Which quota.
    pub key: String,
    /// The new value; `None` removes it.
    pub value: Option<f64>,
}

/// A quota that holds for a client, and which of its names share it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaInForce {
    /// Bytes a second, for the byte rates.
    pub value: f64,
    /// The user, if the quota is his.
    pub user: Option<String>,
    /// The client id, if the quota is its.
    pub client_id: Option<String>,
}

/// The quota `key` that holds for a client: that of the most special entity.
pub fn quota_in_force(quotas: &Quotas, key: &str, user: &str, client_id: &str) -> Option<QuotaInForce> {
    // `None`: not part of the entity; `Some(None)`: the default.
    let entities = [
        (Some(Some(user)), Some(Some(client_id))),
        (Some(Some(user)), Some(None)),
        (Some(Some(user)), None),
        (Some(None), Some(Some(client_id))),
        (Some(None), Some(None)),
        (Some(None), None),
        (None, Some(Some(client_id))),
        (None, Some(None)),
    ];
    entities.into_iter().find_map(|(of_user, of_client)| {
        let parts = [(USER, of_user), (CLIENT_ID, of_client)];
        let parts = parts.into_iter().filter_map(|(kind, name)| Some((kind.to_owned(), name?.map(str::to_owned))));
        let value = *quotas.get(&parts.collect::<QuotaEntity>())?.get(key)?;
        Some(QuotaInForce {
            value,
            user: of_user.map(|_| user.to_owned()),
            client_id: of_client.map(|_| client_id.to_owned()),
        })
    })
}

/// Takes a change up.
pub(super) fn apply(quotas: &mut Quotas, change: &QuotaChange) {
    match change.value {
        Some(value) => {
            quotas.entry(change.entity.clone()).or_default().insert(change.key.clone(), value);
        }
        None => {
            if let Some(keys) = quotas.get_mut(&change.entity) {
                keys.remove(&change.key);
                if keys.is_empty() {
                    quotas.remove(&change.entity);
                }
            }
        }
    }
}

impl Writer {
    pub(super) fn quota_change(&mut self, change: &QuotaChange) {
        self.unsigned(change.entity.len() as u32 + 1);
        for (kind, name) in &change.entity {
            self.string(kind);
            self.nullable_string(name.as_deref());
            self.unsigned(0);
        }
        self.string(&change.key);
        self.f64(change.value.unwrap_or_default());
        self.bool(change.value.is_none());
        self.unsigned(0);
    }
}

impl Reader<'_> {
    pub(super) fn quota_change(&mut self) -> Option<QuotaChange> {
        let entity = self.array(|reader| {
            let part = (reader.string()?, reader.nullable_string()?);
            reader.tagged(|_, _| Some(()))?;
            Some(part)
        })?;
        let (key, value, remove) = (self.string()?, self.f64()?, self.bool()?);
        Some(QuotaChange { entity: entity.into_iter().collect(), key, value: (!remove).then_some(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> QuotaEntity {
        parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
    }

    #[test]
    fn the_most_special_entity_decides() {
        let mut quotas = Quotas::new();
        let mut set = |parts: &[(&str, Option<&str>)], value: f64| {
            let change = QuotaChange { entity: entity(parts), key: PRODUCER_BYTE_RATE.to_owned(), value: Some(value) };
            apply(&mut quotas, &change);
            quota_in_force(&quotas, PRODUCER_BYTE_RATE, "ann", "app").map(|quota| quota.value)
        };
        assert_eq!(set(&[(USER, Some("bob"))], 9.0), None);
        assert_eq!(set(&[(CLIENT_ID, None)], 8.0), Some(8.0));
        assert_eq!(set(&[(CLIENT_ID, Some("app"))], 7.0), Some(7.0));
        assert_eq!(set(&[(USER, None)], 6.0), Some(6.0));
        assert_eq!(set(&[(USER, None), (CLIENT_ID, None)], 5.0), Some(5.0));
        assert_eq!(set(&[(USER, None), (CLIENT_ID, Some("app"))], 4.0), Some(4.0));
        assert_eq!(set(&[(USER, Some("ann"))], 3.0), Some(3.0));
        assert_eq!(set(&[(USER, Some("ann")), (CLIENT_ID, None)], 2.0), Some(2.0));
        assert_eq!(set(&[(USER, Some("ann")), (CLIENT_ID, Some("app"))], 1.0), Some(1.0));
        let shared = quota_in_force(&quotas, PRODUCER_BYTE_RATE, "eve", "app").unwrap();
        assert_eq!((shared.user.as_deref(), shared.client_id.as_deref()), (Some("eve"), Some("app")));
    }

    #[test]
    fn a_removed_quota_is_gone_with_its_entity() {
        let mut quotas = Quotas::new();
        let mut change =
            QuotaChange { entity: entity(&[(USER, None)]), key: CONSUMER_BYTE_RATE.to_owned(), value: Some(1.0) };
        apply(&mut quotas, &change);
        change.value = None;
        apply(&mut quotas, &change);
        assert!(quotas.is_empty());
    }
}
