//! Small things that the handlers of group requests share.

use std::sync::Arc;

use protocol::api::{ErrorCode, StrBytes};

/// A protocol string as the coordinator keeps it: on its own, not as part of the request's frame.
pub(crate) fn own(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// As [`own`], for a nullable string.
pub(crate) fn own_nullable(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(own)
}

/// The coordinator's string as the protocol's.
pub(crate) fn wire(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The number of what went wrong; 0 for nothing.
pub(crate) fn code_of(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).code()
}

/// `AclOperation`s on a group as the bit field of DescribeGroups: read, delete, describe, describe and alter configs.
/// Without authorisation everybody may do everything.
pub(crate) const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
