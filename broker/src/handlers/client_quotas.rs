//! DescribeClientQuotas and AlterClientQuotas. The byte rates of producers and consumers are enforced (`client_quotas`);
//! Kafka's other quotas are refused, so that nobody counts on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::alter_client_quotas_request::EntryData;
use protocol::api::messages::describe_client_quotas_request::ComponentData;
use protocol::api::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    alter_client_quotas_response, describe_client_quotas_response,
};
use protocol::api::{ErrorCode, Response};

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::changes::{Refusal, refuse};
use crate::metadata::quotas::{
    CLIENT_ID, CONSUMER_BYTE_RATE, IP, PRODUCER_BYTE_RATE, QuotaChange, QuotaEntity, Quotas, USER,
};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::state::BrokerState;

use super::text;

const ENFORCED: [&str; 2] = [PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE];
const NOT_ENFORCED: [&str; 3] = ["request_percentage", "controller_mutation_rate", "connection_creation_rate"];

/// What a filter says of one entity type.
enum Match {
    Name(Option<String>),
    Any,
}

pub(crate) fn describe(state: &Arc<BrokerState>, request: &DescribeClientQuotasRequest) -> Outcome {
    let mut response = DescribeClientQuotasResponse::default();
    match filter(&request.components) {
        Ok(filter) => response.entries = Some(entries(state.metadata.current().quotas(), &filter, request.strict)),
        Err(refusal) => {
            response.error_code = refusal.code.code();
            response.error_message = Some(text(refusal.message));
            response.entries = None;
        }
    }
    Response::DescribeClientQuotas(response).into()
}

fn filter(components: &[ComponentData]) -> Result<BTreeMap<String, Match>, Refusal> {
    let mut filter = BTreeMap::new();
    for component in components {
        let kind: &str = &component.entity_type;
        if kind.is_empty() {
            return refuse(ErrorCode::InvalidRequest, "Invalid empty entity type.");
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return refuse(ErrorCode::UnsupportedVersion, format!("Unsupported entity type {kind}"));
        }
        let wanted = match (component.match_type, &component._match) {
            (0, Some(name)) => Match::Name(Some(name.to_string())),
            (1, None) => Match::Name(None),
            (2, None) => Match::Any,
            (0..=2, _) => {
                return refuse(ErrorCode::InvalidRequest, "The match string does not go with the match type.");
            }
            (other, _) => return refuse(ErrorCode::InvalidRequest, format!("Unknown match type {other}")),
        };
        if filter.insert(kind.to_owned(), wanted).is_some() {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Entity type {kind} cannot appear more than once in the filter."),
            );
        }
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        return refuse(
            ErrorCode::InvalidRequest,
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component.",
        );
    }
    Ok(filter)
}

fn entries(
    quotas: &Quotas,
    filter: &BTreeMap<String, Match>,
    strict: bool,
) -> Vec<describe_client_quotas_response::EntryData> {
    use describe_client_quotas_response::{EntityData, EntryData, ValueData};
    let is_meant = |entity: &QuotaEntity| {
        (!strict || entity.len() == filter.len())
            && filter.iter().all(|(kind, wanted)| match (entity.get(kind), wanted) {
                (None, _) => false,
                (Some(_), Match::Any) => true,
                (Some(name), Match::Name(wanted)) => name == wanted,
            })
    };
    let meant = quotas.iter().filter(|(entity, _)| is_meant(entity));
    meant
        .map(|(entity, values)| {
            let entity = entity.iter().map(|(kind, name)| {
                EntityData::default().with_entity_type(text(&**kind)).with_entity_name(name.as_deref().map(text))
            });
            let values =
                values.iter().map(|(key, value)| ValueData::default().with_key(text(&**key)).with_value(*value));
            EntryData::default().with_entity(entity.collect()).with_values(values.collect())
        })
        .collect()
}

pub(crate) fn alter(state: &Arc<BrokerState>, context: &RequestContext, request: &AlterClientQuotasRequest) -> Outcome {
    let responder = context.defer();
    let shared: Arc<Mutex<Vec<Option<Refusal>>>> = Arc::default();
    let refusals = Arc::clone(&shared);
    let entities: Vec<Vec<alter_client_quotas_response::EntityData>> = request.entries.iter().map(named).collect();
    state.change_metadata(
        |image| {
            let mut records = Vec::new();
            let mut seen: Vec<QuotaEntity> = Vec::new();
            for entry in &request.entries {
                let planned = plan(image, entry, &mut seen);
                shared.lock().push(planned.as_ref().err().cloned());
                records.extend(planned.unwrap_or_default());
            }
            if request.validate_only {
                records.clear();
            }
            (records, ())
        },
        move |committed| {
            let refusals = std::mem::take(&mut *refusals.lock());
            let entries = entities.into_iter().zip(refusals).map(|(entity, refusal)| {
                let entry =
                    alter_client_quotas_response::EntryData::default().with_entity(entity).with_error_message(None);
                match (refusal, committed) {
                    (Some(refusal), _) => {
                        entry.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
                    }
                    (None, Err(code)) => {
                        entry.with_error_code(code.code()).with_error_message(Some(text(code.message())))
                    }
                    (None, Ok(())) => entry,
                }
            });
            let response = AlterClientQuotasResponse::default().with_entries(entries.collect());
            responder.send(Response::AlterClientQuotas(response));
        },
    );
    Outcome::Deferred
}

fn named(entry: &EntryData) -> Vec<alter_client_quotas_response::EntityData> {
    let parts = entry.entity.iter().map(|part| {
        alter_client_quotas_response::EntityData::default()
            .with_entity_type(part.entity_type.clone())
            .with_entity_name(part.entity_name.clone())
    });
    parts.collect()
}

/// The records that make the change, unless it is refused.
fn plan(image: &MetadataImage, entry: &EntryData, seen: &mut Vec<QuotaEntity>) -> Result<Vec<MetadataRecord>, Refusal> {
    let invalid = |message: String| refuse(ErrorCode::InvalidRequest, message);
    let mut entity = QuotaEntity::new();
    for part in &entry.entity {
        let kind: &str = &part.entity_type;
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return invalid(format!("Unhandled client quota entity type: {kind}"));
        }
        if part.entity_name.as_deref() == Some("") {
            return invalid(format!("Empty {kind} not supported"));
        }
        if entity.insert(kind.to_owned(), part.entity_name.as_ref().map(ToString::to_string)).is_some() {
            return invalid(format!("Invalid client quota entity, duplicate entity entry {kind}"));
        }
    }
    if entity.is_empty() {
        return invalid("Invalid empty client quota entity".to_owned());
    }
    if entity.contains_key(IP) && entity.len() > 1 {
        return invalid(
            "Invalid quota entity combination, IP entity should not be combined with User or ClientId".to_owned(),
        );
    }
    if seen.contains(&entity) {
        return invalid("Ignoring duplicate entity".to_owned());
    }
    seen.push(entity.clone());
    let none = BTreeMap::new();
    let present = image.quotas().get(&entity).unwrap_or(&none);
    let mut records = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    for change in &entry.ops {
        let key: &str = &change.key;
        if keys.contains(&key) {
            return invalid(format!("Duplicate quota key {key} not updating quota for this entity"));
        }
        keys.push(key);
        let value = (!change.remove).then_some(change.value);
        if let Some(value) = value {
            check(&entity, key, value)?;
        }
        if present.get(key).copied() != value {
            let change = QuotaChange { entity: entity.clone(), key: key.to_owned(), value };
            records.push(MetadataRecord::ClientQuota(change));
        }
    }
    Ok(records)
}

fn check(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), Refusal> {
    if NOT_ENFORCED.contains(&key) {
        return refuse(
            ErrorCode::InvalidRequest,
            format!("{key} is not enforced by this broker: only {PRODUCER_BYTE_RATE} and {CONSUMER_BYTE_RATE} are"),
        );
    }
    if !ENFORCED.contains(&key) || entity.contains_key(IP) {
        return refuse(ErrorCode::InvalidRequest, format!("Invalid configuration key {key}"));
    }
    if value.is_nan() || value <= 0.0 {
        return refuse(ErrorCode::InvalidRequest, format!("Quota {key} must be greater than 0"));
    }
    if value > i64::MAX as f64 {
        return refuse(ErrorCode::InvalidRequest, format!("Proposed value for {key} is too large for a LONG."));
    }
    if value.fract() > 1e-6 {
        return refuse(ErrorCode::InvalidRequest, format!("{key} cannot be a fractional value."));
    }
    Ok(())
}
