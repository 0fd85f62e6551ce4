//! Authentication, credentials and delegation tokens, as a broker answers whose listeners are all plain text: there are none,
//! and none are made, since nothing would ask for them.

use protocol::api::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use protocol::api::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use protocol::api::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, CreateDelegationTokenResponse,
    DescribeDelegationTokenResponse, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    ExpireDelegationTokenResponse, RenewDelegationTokenResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use protocol::api::{ErrorCode, Request, Response};

use crate::dispatch::Outcome;

use super::text;

/// Answers a request of this kind; gives back what is none.
pub(crate) fn dispatch(request: Request) -> Result<Outcome, Box<Request>> {
    let no_tokens = ErrorCode::DelegationTokenRequestNotAllowed.code();
    let no_sasl = ErrorCode::IllegalSaslState;
    let response: Response = match request {
        Request::SaslHandshake(_) => SaslHandshakeResponse::default().with_error_code(no_sasl.code()).into(),
        Request::SaslAuthenticate(_) => SaslAuthenticateResponse::default()
            .with_error_code(no_sasl.code())
            .with_error_message(Some(text("SaslAuthenticate request received on a listener without authentication")))
            .into(),
        Request::CreateDelegationToken(_) => CreateDelegationTokenResponse::default().with_error_code(no_tokens).into(),
        Request::RenewDelegationToken(_) => RenewDelegationTokenResponse::default().with_error_code(no_tokens).into(),
        Request::ExpireDelegationToken(_) => ExpireDelegationTokenResponse::default().with_error_code(no_tokens).into(),
        Request::DescribeDelegationToken(_) => {
            DescribeDelegationTokenResponse::default().with_error_code(no_tokens).into()
        }
        Request::DescribeUserScramCredentials(body) => describe_credentials(&body).into(),
        Request::AlterUserScramCredentials(body) => alter_credentials(&body).into(),
        other => return Err(Box::new(other)),
    };
    Ok(response.into())
}

fn describe_credentials(request: &DescribeUserScramCredentialsRequest) -> DescribeUserScramCredentialsResponse {
    let users = request.users.iter().flatten().map(|user| {
        let message = format!("Attempt to describe a user credential that does not exist: {}", &*user.name);
        DescribeUserScramCredentialsResult::default()
            .with_user(user.name.clone())
            .with_error_code(ErrorCode::ResourceNotFound.code())
            .with_error_message(Some(text(message)))
    });
    DescribeUserScramCredentialsResponse::default().with_results(users.collect())
}

fn alter_credentials(request: &AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    let refused = |user: &protocol::api::StrBytes, code: ErrorCode, message: &'static str| {
        AlterUserScramCredentialsResult::default()
            .with_user(user.clone())
            .with_error_code(code.code())
            .with_error_message(Some(text(message)))
    };
    let deletions = request.deletions.iter().map(|deletion| {
        let message = "Attempt to delete a user credential that does not exist";
        refused(&deletion.name, ErrorCode::ResourceNotFound, message)
    });
    let upsertions = request.upsertions.iter().map(|upsertion| {
        let message = "This broker has no authentication: a credential would protect nothing";
        refused(&upsertion.name, ErrorCode::SecurityDisabled, message)
    });
    AlterUserScramCredentialsResponse::default().with_results(deletions.chain(upsertions).collect())
}
