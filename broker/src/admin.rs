//! What a cluster of one node answers to those who administer it: log directories, elections, reassignments, the quorum,
//! quotas, access control, features, metrics of clients. Which requests are served, and by which handler.

use std::sync::Arc;

use protocol::api::{ApiKey, Request};

use crate::dispatch::{Outcome, RequestContext};
use crate::handlers;
use crate::state::BrokerState;

/// APIs that are served.
pub const SERVED: &[ApiKey] = &[
    ApiKey::SaslHandshake,
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::SaslAuthenticate,
    ApiKey::CreateDelegationToken,
    ApiKey::RenewDelegationToken,
    ApiKey::ExpireDelegationToken,
    ApiKey::DescribeDelegationToken,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::UnregisterBroker,
    ApiKey::ListConfigResources,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

/// APIs that are answered though ApiVersions does not list them, as on a Kafka broker that collects no metrics of clients.
pub const UNLISTED: &[ApiKey] = &[ApiKey::GetTelemetrySubscriptions, ApiKey::PushTelemetry];

/// Hands a request to its handler; gives back what is none of these.
pub fn dispatch(state: &Arc<BrokerState>, context: &RequestContext, request: Request) -> Result<Outcome, Box<Request>> {
    Ok(match request {
        Request::DescribeAcls(body) => handlers::acls::describe(state, &body),
        Request::CreateAcls(body) => handlers::acls::create(state, context, &body),
        Request::DeleteAcls(body) => handlers::acls::delete(state, context, &body),
        Request::AlterReplicaLogDirs(body) => handlers::log_dirs::alter(state, &body),
        Request::DescribeLogDirs(body) => handlers::log_dirs::describe(state, body),
        Request::ElectLeaders(body) => handlers::elect_leaders::handle(state, &body),
        Request::AlterPartitionReassignments(body) => handlers::reassignments::alter(state, &body),
        Request::ListPartitionReassignments(_) => handlers::reassignments::list(),
        Request::DescribeClientQuotas(body) => handlers::client_quotas::describe(state, &body),
        Request::AlterClientQuotas(body) => handlers::client_quotas::alter(state, context, &body),
        Request::DescribeQuorum(body) => handlers::describe_quorum::handle(state, context, &body),
        Request::UpdateFeatures(body) => handlers::update_features::handle(state, context, &body),
        Request::UnregisterBroker(body) => handlers::membership::unregister(state, &body),
        Request::AddRaftVoter(_) => handlers::membership::add_voter(),
        Request::RemoveRaftVoter(_) => handlers::membership::remove_voter(),
        Request::ListConfigResources(body) => handlers::list_config_resources::handle(state, context, &body),
        Request::GetTelemetrySubscriptions(body) => handlers::telemetry::subscriptions(state, &body),
        Request::PushTelemetry(body) => handlers::telemetry::push(&body),
        other => return handlers::without_security::dispatch(other),
    })
}
