//! Small conversions between the client's types and those of the requests.

use protocol::api::StrBytes;
use protocol::api::messages::TopicName;

/// A string as requests hold it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as requests hold it.
pub(crate) fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The one kind of response that answers the request; anything else is a malformed answer.
macro_rules! expect_response {
    ($response:expr, $kind:ident, $address:expr) => {
        match $response {
            protocol::api::Response::$kind(response) => Ok(response),
            other => Err($crate::error::ClientError::malformed(
                $address,
                format!("expected a response of kind {}, got {other:?}", stringify!($kind)),
            )),
        }
    };
}
pub(crate) use expect_response;
