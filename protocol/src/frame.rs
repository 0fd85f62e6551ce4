//! Frames: a 4-byte length, a header with the correlation id, a body.
//!
//! The functions here work on one frame without its length where they decode (whoever reads the socket has consumed
//! it) and with it where they encode. Malformed input is an error value; the caller closes the connection.
//!
//! ```
//! use protocol::api::messages::MetadataRequest;
//! use protocol::frame::{decode_request, encode_request, next_frame};
//! use protocol::transport::RequestEnvelope;
//!
//! let request = MetadataRequest::default().with_topics(None).into();
//! let envelope = RequestEnvelope { version: 12, client_id: Some("docs".into()), request };
//! let written = encode_request(&envelope, 7)?.to_bytes().expect("in memory");
//!
//! let mut socket = bytes::BytesMut::from(&written[..]);
//! let frame = next_frame(&mut socket, 1 << 20)?.expect("a whole frame");
//! let (header, request) = decode_request(frame)?;
//! assert_eq!((header.correlation_id, request), (7, envelope.request));
//! # Ok::<(), protocol::api::CodecError>(())
//! ```

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::api::{ApiKey, CodecError, PieceWriter, Pieces, Reader, Request, Response, supported_versions};
use crate::transport::{Reply, RequestEnvelope, TransportError};

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// What stands in front of a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// Who asks.
    pub client_id: Option<Arc<str>>,
}

/// The length of a frame from its first four bytes.
///
/// # Errors
/// If it is not in `1..=max_bytes`; the stream cannot be read any further then.
pub fn frame_length(prefix: [u8; LENGTH_BYTES], max_bytes: usize) -> Result<usize, CodecError> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(size) if size > 0 && size <= max_bytes => Ok(size),
        _ => Err(CodecError::Invalid {
            field: "frame length",
            reason: format!("{length} is not within 1 to {max_bytes}"),
        }),
    }
}

/// Takes the next whole frame from the front of `buffer`, without its length; `None` if it has not all arrived.
///
/// # Errors
/// As [`frame_length`].
pub fn next_frame(buffer: &mut bytes::BytesMut, max_bytes: usize) -> Result<Option<Bytes>, CodecError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = frame_length(*prefix, max_bytes)?;
    if buffer.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn finish(mut head: Vec<u8>, body: Pieces) -> Result<Pieces, CodecError> {
    let size = head.len() - LENGTH_BYTES + body.len_bytes();
    let length = i32::try_from(size)
        .map_err(|_| CodecError::Unencodable { message: "frame", reason: format!("{size} bytes do not fit") })?;
    head[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    let mut frame = Pieces::from(head);
    for piece in body {
        frame.push(piece);
    }
    Ok(frame)
}

fn check_version(key: ApiKey, version: i16) -> Result<(), CodecError> {
    let (min, max) = supported_versions(key);
    if (min..=max).contains(&version) {
        Ok(())
    } else {
        Err(CodecError::UnsupportedVersion { api: key.name(), version })
    }
}

/// A whole request frame, length included; record batches are pieces of their own, not copied.
///
/// # Errors
/// If the version is unknown, or the request has something set that it cannot carry.
pub fn encode_request(envelope: &RequestEnvelope, correlation_id: i32) -> Result<Pieces, CodecError> {
    let key = envelope.request.api_key();
    check_version(key, envelope.version)?;
    let mut head = Vec::with_capacity(64);
    head.put_i32(0);
    head.put_i16(key as i16);
    head.put_i16(envelope.version);
    head.put_i32(correlation_id);
    match &envelope.client_id {
        None => head.put_i16(-1),
        Some(id) => {
            let length = i16::try_from(id.len()).map_err(|_| CodecError::Unencodable {
                message: "request header",
                reason: format!("client id of {} bytes is too long", id.len()),
            })?;
            head.put_i16(length);
            head.put_slice(id.as_bytes());
        }
    }
    if key.request_header_version(envelope.version) >= 2 {
        head.put_u8(0); // no tagged fields
    }
    let mut body = PieceWriter::default();
    envelope.request.encode_body(&mut body, envelope.version)?;
    finish(head, body.finish())
}

/// Reads a request header; returns it with the bytes of the body.
///
/// An API version that this codec does not have is not an error yet, because ApiVersions must be answered whatever
/// its version; [`decode_request`] refuses it.
///
/// # Errors
/// Unknown API key, or malformed.
pub fn decode_request_header(frame: Bytes) -> Result<(RequestHeader, Bytes), CodecError> {
    let mut reader = Reader::new(frame, false);
    let code = reader.i16("api key")?;
    let api_version = reader.i16("api version")?;
    let correlation_id = reader.i32("correlation id")?;
    let api_key = ApiKey::from_code(code).ok_or(CodecError::UnknownApiKey(code))?;
    let client_id = reader.nullable_str("client id", |text| Arc::from(text))?;
    let mut rest = reader.into_rest();
    if api_key.request_header_version(api_version) >= 2 {
        let mut reader = Reader::new(rest, true);
        reader.skip_tagged_fields()?;
        rest = reader.into_rest();
    }
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, rest))
}

/// Reads a whole request frame (without its length).
///
/// # Errors
/// Unknown API key or version, or malformed.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), CodecError> {
    let (header, body) = decode_request_header(frame)?;
    let request = decode_request_body(&header, body)?;
    Ok((header, request))
}

/// Reads a request's body, once its header has been read.
///
/// # Errors
/// Unknown version, or malformed.
pub fn decode_request_body(header: &RequestHeader, body: Bytes) -> Result<Request, CodecError> {
    check_version(header.api_key, header.api_version)?;
    Request::decode_body(header.api_key, header.api_version, body)
}

/// A whole response frame, length included, as pieces for a vectored write or `sendfile`.
///
/// # Errors
/// If the version is unknown, or the response has something set that it cannot carry.
pub fn encode_response(version: i16, correlation_id: i32, response: &Response) -> Result<Pieces, CodecError> {
    let key = response.api_key();
    check_version(key, version)?;
    let mut head = Vec::with_capacity(16);
    head.put_i32(0);
    head.put_i32(correlation_id);
    if key.response_header_version(version) >= 1 {
        head.put_u8(0); // no tagged fields
    }
    let mut body = PieceWriter::default();
    response.encode_body(&mut body, version)?;
    finish(head, body.finish())
}

/// The correlation id of a response frame (without its length), to find out which request it answers.
///
/// # Errors
/// If the frame is too short.
pub fn correlation_id(frame: &[u8]) -> Result<i32, CodecError> {
    match frame.first_chunk() {
        Some(bytes) => Ok(i32::from_be_bytes(*bytes)),
        None => Err(CodecError::Truncated { field: "correlation id", missing: 4 - frame.len() }),
    }
}

/// Reads a whole response frame (without its length): the correlation id and what the broker said to a request with
/// this key and version.
///
/// # Errors
/// Unknown version, or malformed.
pub fn decode_response(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response), CodecError> {
    check_version(key, version)?;
    let mut reader = Reader::new(frame, key.response_header_version(version) >= 1);
    let correlation_id = reader.i32("correlation id")?;
    reader.skip_tagged_fields()?;
    Ok((correlation_id, Response::decode_body(key, version, reader.into_rest())?))
}

/// One run of bytes, for checks and tests; files are read.
fn to_frame(pieces: &Pieces) -> Result<Bytes, CodecError> {
    let mut bytes =
        pieces.to_bytes().map_err(|error| CodecError::Unencodable { message: "frame", reason: error.to_string() })?;
    bytes.advance(LENGTH_BYTES);
    Ok(bytes)
}

/// Encodes a request and decodes it again: what the broker would have got over TCP. A debug transport does this to
/// every in-process request, so that the two ways cannot drift.
///
/// # Errors
/// Whatever the codec refuses.
pub fn reencode(envelope: &RequestEnvelope) -> Result<RequestEnvelope, CodecError> {
    let (header, request) = decode_request(to_frame(&encode_request(envelope, 0)?)?)?;
    Ok(RequestEnvelope { version: header.api_version, client_id: header.client_id, request })
}

/// As [`reencode`], for the answer to a request of `version`.
///
/// # Errors
/// Whatever the codec refuses.
pub fn reencode_response(version: i16, response: &Response) -> Result<Response, CodecError> {
    let frame = to_frame(&encode_response(version, 0, response)?)?;
    Ok(decode_response(response.api_key(), version, frame)?.1)
}

/// As [`reencode_response`] for a whole reply; what the codec refuses becomes [`TransportError::Malformed`].
pub fn reencode_reply(version: i16, reply: Reply, address: &str) -> Reply {
    let response = reply?;
    reencode_response(version, &response)
        .map_err(|error| TransportError::Malformed { address: address.to_owned(), reason: error.to_string() })
}
