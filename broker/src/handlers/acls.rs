//! DescribeAcls, CreateAcls, DeleteAcls: access control entries, kept in the metadata log when an authorizer is configured;
//! without one the answer is Kafka's, SECURITY_DISABLED.
//!
//! There is no authentication: every client is `User:ANONYMOUS`. The authorizer is taken only with that user among
//! `super.users` (see `effects`), to whom everything is allowed whatever the entries say, as on Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::api::messages::create_acls_request::AclCreation;
use protocol::api::messages::create_acls_response::AclCreationResult;
use protocol::api::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use protocol::api::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use protocol::api::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use protocol::api::{ErrorCode, Response, StrBytes};
use uuid::Uuid;

use crate::dispatch::{Outcome, RequestContext};
use crate::metadata::MetadataRecord;
use crate::metadata::access_control::{AccessControlEntry, AccessFilter, AccessRule};
use crate::state::BrokerState;

use super::text;

const DISABLED: &str = "No Authorizer is configured.";

pub(crate) fn describe(state: &Arc<BrokerState>, request: &DescribeAclsRequest) -> Outcome {
    let mut response = DescribeAclsResponse::default();
    let filter = access_filter(
        (request.resource_type_filter, &request.resource_name_filter, request.pattern_type_filter),
        (&request.principal_filter, &request.host_filter, request.operation, request.permission_type),
    );
    if let Some((code, message)) = refusal(state, &filter) {
        response.error_code = code.code();
        response.error_message = Some(text(message));
        return Response::DescribeAcls(response).into();
    }
    let image = state.metadata.current();
    let mut resources: BTreeMap<(i8, &str, i8), Vec<AclDescription>> = BTreeMap::new();
    for rule in image.access_rules().values().filter(|rule| filter.matches(rule)) {
        let description = AclDescription::default()
            .with_principal(text(&*rule.principal))
            .with_host(text(&*rule.host))
            .with_operation(rule.operation)
            .with_permission_type(rule.permission);
        resources.entry((rule.resource_type, &rule.resource_name, rule.pattern_type)).or_default().push(description);
    }
    let resources = resources.into_iter().map(|((resource_type, name, pattern_type), acls)| {
        DescribeAclsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_pattern_type(pattern_type)
            .with_acls(acls)
    });
    response.resources = resources.collect();
    Response::DescribeAcls(response).into()
}

pub(crate) fn create(state: &Arc<BrokerState>, context: &RequestContext, request: &CreateAclsRequest) -> Outcome {
    let rules: Vec<Result<AccessRule, (ErrorCode, String)>> = request
        .creations
        .iter()
        .map(|creation| {
            if !state.config.has_authorizer {
                return Err((ErrorCode::SecurityDisabled, DISABLED.to_owned()));
            }
            let rule = rule(creation);
            rule.check().map_err(|message| (ErrorCode::InvalidRequest, message))?;
            Ok(rule)
        })
        .collect();
    let mut ids: Vec<Uuid> = rules.iter().map(|_| Uuid::from_bytes(state.rng.lock().uuid_bytes())).collect();
    let responder = context.defer();
    let results: Vec<AclCreationResult> = rules
        .iter()
        .map(|rule| match rule {
            Ok(_) => AclCreationResult::default(),
            Err((code, message)) => AclCreationResult::default()
                .with_error_code(code.code())
                .with_error_message(Some(text(message.clone()))),
        })
        .collect();
    state.change_metadata(
        |image| {
            let mut records: Vec<MetadataRecord> = Vec::new();
            let mut new: Vec<&AccessRule> = Vec::new();
            for rule in rules.iter().flatten() {
                if new.contains(&rule) || image.access_rules().values().any(|present| present == rule) {
                    continue; // it is there already, which is success
                }
                new.push(rule);
                if let Some(id) = ids.pop() {
                    let entry = AccessControlEntry { id, rule: rule.clone() };
                    records.push(MetadataRecord::AccessControlEntry(entry));
                }
            }
            (records, ())
        },
        move |committed| {
            let mut results = results;
            if let Err(code) = committed {
                for result in results.iter_mut().filter(|result| result.error_code == 0) {
                    result.error_code = code.code();
                    result.error_message = Some(text(code.message()));
                }
            }
            responder.send(Response::CreateAcls(CreateAclsResponse::default().with_results(results)));
        },
    );
    Outcome::Deferred
}

pub(crate) fn delete(state: &Arc<BrokerState>, context: &RequestContext, request: &DeleteAclsRequest) -> Outcome {
    let responder = context.defer();
    let shared: Arc<Mutex<Vec<DeleteAclsFilterResult>>> = Arc::default();
    let results = Arc::clone(&shared);
    state.change_metadata(
        |image| {
            let mut gone: Vec<Uuid> = Vec::new();
            for filter in &request.filters {
                let filter = access_filter(
                    (filter.resource_type_filter, &filter.resource_name_filter, filter.pattern_type_filter),
                    (&filter.principal_filter, &filter.host_filter, filter.operation, filter.permission_type),
                );
                let mut result = DeleteAclsFilterResult::default().with_error_message(None);
                if let Some((code, message)) = refusal(state, &filter) {
                    result.error_code = code.code();
                    result.error_message = Some(text(message));
                } else {
                    for (id, rule) in image.access_rules().iter().filter(|(_, rule)| filter.matches(rule)) {
                        result.matching_acls.push(matching(rule));
                        if !gone.contains(id) {
                            gone.push(*id);
                        }
                    }
                }
                shared.lock().push(result);
            }
            (gone.into_iter().map(MetadataRecord::RemoveAccessControlEntry).collect(), ())
        },
        move |committed| {
            let mut results = std::mem::take(&mut *results.lock());
            if let Err(code) = committed {
                for acl in results.iter_mut().flat_map(|result| &mut result.matching_acls) {
                    acl.error_code = code.code();
                    acl.error_message = Some(text(code.message()));
                }
            }
            responder.send(Response::DeleteAcls(DeleteAclsResponse::default().with_filter_results(results)));
        },
    );
    Outcome::Deferred
}

/// What a request asks for: resources (type, name, type of the pattern) and entries (principal, host, operation, permission).
fn access_filter(
    (resource_type, resource_name, pattern_type): (i8, &Option<StrBytes>, i8),
    (principal, host, operation, permission): (&Option<StrBytes>, &Option<StrBytes>, i8, i8),
) -> AccessFilter {
    let owned = |given: &Option<StrBytes>| given.as_ref().map(ToString::to_string);
    AccessFilter {
        resource_type,
        resource_name: owned(resource_name),
        pattern_type,
        principal: owned(principal),
        host: owned(host),
        operation,
        permission,
    }
}

/// Why nothing is looked for by `filter`, if so: there is no authorizer, or the filter is not valid.
fn refusal(state: &BrokerState, filter: &AccessFilter) -> Option<(ErrorCode, String)> {
    if !state.config.has_authorizer {
        return Some((ErrorCode::SecurityDisabled, DISABLED.to_owned()));
    }
    filter.check().err().map(|message| (ErrorCode::InvalidRequest, message))
}

fn rule(creation: &AclCreation) -> AccessRule {
    AccessRule {
        resource_type: creation.resource_type,
        resource_name: creation.resource_name.to_string(),
        pattern_type: creation.resource_pattern_type,
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation: creation.operation,
        permission: creation.permission_type,
    }
}

fn matching(rule: &AccessRule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(rule.resource_type)
        .with_resource_name(text(&*rule.resource_name))
        .with_pattern_type(rule.pattern_type)
        .with_principal(text(&*rule.principal))
        .with_host(text(&*rule.host))
        .with_operation(rule.operation)
        .with_permission_type(rule.permission)
}
