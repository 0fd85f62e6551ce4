//! What an answer to a heartbeat means for the member, and in what words a refusal reaches the program.

use std::collections::BTreeSet;

use protocol::api::ErrorCode;
use protocol::api::messages::ConsumerGroupHeartbeatResponse;

use super::request::{Assigned, Identity, JOIN_EPOCH};
use super::session::Sign;
use crate::consumer::commits::coordinator_is_gone;
use crate::error::ClientError;

/// What an answer means.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted {
        epoch: i32,
        interval_ms: i64,
        assignment: Option<Assigned>,
    },
    /// To be said again; `elsewhere`: to another coordinator.
    Again {
        elsewhere: bool,
    },
    /// To be said again although it will hardly help.
    Refused(ClientError),
    Out(Sign),
}

/// Reads the answer to a heartbeat that was said in `epoch`.
pub(super) fn read(identity: &Identity, epoch: i32, response: ConsumerGroupHeartbeatResponse) -> Answer {
    let group = &identity.group_id;
    let code = ErrorCode::from_code(response.error_code);
    let said = response.error_message.map(|text| text.to_string());
    let refused = |advice: &str| {
        let about = if advice.is_empty() { format!("group {group}") } else { format!("group {group}: {advice}") };
        ClientError::broker(about, code, said.clone())
    };
    match code {
        ErrorCode::None => Answer::Accepted {
            epoch: response.member_epoch,
            interval_ms: i64::from(response.heartbeat_interval_ms.max(1)),
            assignment: response.assignment.map(|assignment| {
                let topics = assignment.topic_partitions.into_iter();
                topics.map(|topic| (topic.topic_id, topic.partitions.into_iter().collect::<BTreeSet<i32>>())).collect()
            }),
        },
        ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => Answer::Out(Sign::Fenced(code)),
        // The group went while the member was away.
        ErrorCode::GroupIdNotFound if epoch > JOIN_EPOCH => Answer::Out(Sign::Fenced(code)),
        ErrorCode::TopicAuthorizationFailed => Answer::Refused(refused("the member may not see a topic it subscribes")),
        code if code.is_retriable() => Answer::Again { elsewhere: coordinator_is_gone(code) },
        ErrorCode::UnsupportedVersion => {
            let reason = said.unwrap_or_else(|| code.to_string());
            Answer::Out(Sign::Fatal(not_served(identity, &ClientError::Unsupported(reason))))
        }
        ErrorCode::FencedInstanceId => Answer::Out(Sign::Fatal(ClientError::Fenced(format!(
            "group.instance.id {} of group {group}: another instance has it",
            identity.instance_id()
        )))),
        code => Answer::Out(Sign::Fatal(refused(&advice(identity, code)))),
    }
}

/// What to do about a refusal that no repetition will mend.
fn advice(identity: &Identity, code: ErrorCode) -> String {
    match code {
        ErrorCode::UnreleasedInstanceId => format!(
            "another member that has not left holds group.instance.id {}: close it, wait until its session is over, or take \
             another group.instance.id",
            identity.instance_id()
        ),
        ErrorCode::GroupMaxSizeReached => {
            "no room for another member: close one, or raise group.consumer.max.size of the broker".into()
        }
        ErrorCode::UnsupportedAssignor => "correct group.remote.assignor".into(),
        ErrorCode::InvalidRegularExpression => "correct the pattern of the subscription (RE2 syntax)".into(),
        ErrorCode::GroupAuthorizationFailed => "the member may not read from the group".into(),
        _ => String::new(),
    }
}

/// The error of a broker without the protocol.
pub(super) fn not_served(identity: &Identity, error: &ClientError) -> ClientError {
    let reason = match error {
        ClientError::Unsupported(reason) => reason.clone(),
        error => error.to_string(),
    };
    ClientError::Unsupported(format!(
        "group {} with group.protocol=consumer: {reason}; set group.protocol=classic until the brokers have it (Kafka 4.0 with \
         feature group.version 1)",
        identity.group_id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::config::ConsumerConfig;

    fn answer(epoch: i32, code: ErrorCode, message: &str) -> Answer {
        let config = ConsumerConfig::default().group_id("g".to_owned()).group_instance_id("i".to_owned());
        let mut response = ConsumerGroupHeartbeatResponse::default();
        response.error_code = code.code();
        response.error_message = (!message.is_empty()).then(|| crate::wire::text(message));
        read(&Identity::new(&config, "m".into()), epoch, response)
    }

    fn fatal(code: ErrorCode, message: &str) -> String {
        match answer(1, code, message) {
            Answer::Out(Sign::Fatal(error)) => error.to_string(),
            other => panic!("{code}: {other:?}"),
        }
    }

    #[test]
    fn a_member_that_is_not_known_may_join_again() {
        for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId, ErrorCode::GroupIdNotFound] {
            assert!(matches!(answer(1, code, ""), Answer::Out(Sign::Fenced(same)) if same == code), "{code}");
        }
        assert!(matches!(answer(0, ErrorCode::GroupIdNotFound, ""), Answer::Out(Sign::Fatal(_))));
    }

    #[test]
    fn a_coordinator_that_moved_or_loads_is_asked_again() {
        assert!(matches!(answer(1, ErrorCode::NotCoordinator, ""), Answer::Again { elsewhere: true }));
        assert!(matches!(answer(1, ErrorCode::CoordinatorNotAvailable, ""), Answer::Again { elsewhere: true }));
        assert!(matches!(answer(1, ErrorCode::CoordinatorLoadInProgress, ""), Answer::Again { elsewhere: false }));
    }

    #[test]
    fn what_repeating_does_not_mend_says_what_to_do() {
        let text = fatal(ErrorCode::UnreleasedInstanceId, "taken");
        assert!(text.contains("group.instance.id i") && text.contains("taken"), "{text}");
        assert!(fatal(ErrorCode::GroupMaxSizeReached, "").contains("group.consumer.max.size"));
        assert!(fatal(ErrorCode::UnsupportedAssignor, "").contains("group.remote.assignor"));
        assert!(fatal(ErrorCode::InvalidRegularExpression, "").contains("pattern"));
        assert!(fatal(ErrorCode::UnsupportedVersion, "").contains("set group.protocol=classic"));
        assert!(fatal(ErrorCode::FencedInstanceId, "").contains("another instance has it"));
        assert!(fatal(ErrorCode::InvalidRequest, "why").contains("why"));
    }
}
