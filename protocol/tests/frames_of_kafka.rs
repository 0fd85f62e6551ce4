//! Frames exchanged with Apache Kafka 4.3.1: each reads, and writing it again gives the same bytes.

mod common;

use bytes::{Buf, Bytes};
use common::hex_bytes;
use protocol::api::{ApiKey, ErrorCode, Pieces, Request, Response};
use protocol::frame::{
    LENGTH_BYTES, decode_request, decode_request_header, decode_response, encode_request, encode_response, reencode,
    reencode_response,
};
use protocol::record::batches;
use protocol::transport::RequestEnvelope;
use serde_json::Value;

fn frames() -> Vec<Value> {
    let value: Value = serde_json::from_str(include_str!("data/frames.json")).expect("json");
    value.as_array().expect("array").clone()
}

fn without_length(frame: &Pieces) -> Bytes {
    let mut bytes = frame.to_bytes().expect("in memory");
    assert_eq!(bytes.get_i32() as usize, bytes.len());
    assert_eq!(frame.len_bytes(), bytes.len() + LENGTH_BYTES);
    bytes
}

fn number(vector: &Value, name: &str) -> i64 {
    vector[name].as_i64().expect("a number")
}

#[test]
fn kafkas_frames_read_and_write_to_the_same_bytes() {
    for vector in frames() {
        let name = vector["name"].as_str().expect("name");
        let version = number(&vector, "version") as i16;
        let request_bytes = hex_bytes(&vector["request_hex"]);
        let response_bytes = hex_bytes(&vector["response_hex"]);

        let (header, _) = decode_request_header(request_bytes.clone()).expect(name);
        assert_eq!(header.api_key as i64, number(&vector, "api_key"), "{name}");
        assert_eq!(header.api_version, version, "{name}");
        assert_eq!(i64::from(header.correlation_id), number(&vector, "correlation_id"), "{name}");
        assert_eq!(header.client_id.as_deref(), Some("vec"), "{name}");
        let header_version = |key: ApiKey| (key.request_header_version(version), key.response_header_version(version));
        let expected = (number(&vector, "request_header_version"), number(&vector, "response_header_version"));
        assert_eq!(header_version(header.api_key), (expected.0 as i16, expected.1 as i16), "{name}");

        let (header, request) = decode_request(request_bytes.clone()).expect(name);
        let envelope = RequestEnvelope { version, client_id: header.client_id.clone(), request };
        let written = encode_request(&envelope, header.correlation_id).expect(name);
        assert_eq!(without_length(&written), request_bytes, "{name}");
        let again = reencode(&envelope).expect(name);
        assert_eq!(
            (again.version, &again.client_id, &again.request),
            (version, &envelope.client_id, &envelope.request)
        );

        let (correlation_id, response) = decode_response(header.api_key, version, response_bytes.clone()).expect(name);
        assert_eq!(correlation_id, header.correlation_id, "{name}");
        let written = encode_response(version, correlation_id, &response).expect(name);
        assert_eq!(without_length(&written), response_bytes, "{name}");
        assert_eq!(reencode_response(version, &response).expect(name), response, "{name}");
    }
}

fn response_to(wanted: &str) -> Response {
    let vector = frames().into_iter().find(|vector| vector["name"] == wanted).expect("a vector of that name");
    let key = ApiKey::from_code(number(&vector, "api_key") as i16).expect("key");
    decode_response(key, number(&vector, "version") as i16, hex_bytes(&vector["response_hex"])).expect(wanted).1
}

fn request_of(wanted: &str) -> Request {
    let vector = frames().into_iter().find(|vector| vector["name"] == wanted).expect("a vector of that name");
    decode_request(hex_bytes(&vector["request_hex"])).expect(wanted).1
}

#[test]
fn produce_carries_the_batch_and_names_the_record_at_fault() {
    let Request::Produce(request) = request_of("Produce by name") else { panic!("not a produce request") };
    assert_eq!((request.acks, request.timeout_ms, request.transactional_id), (-1, 3000, None));
    assert_eq!(&*request.topics[0].name, "vec-t");
    let records = request.topics[0].partitions[0].records.as_ref().expect("records");
    assert_eq!(records.len_bytes(), 91);
    assert_eq!(batches(&records.to_bytes().expect("in memory")).filter(Result::is_ok).count(), 1);

    let Response::Produce(response) = response_to("Produce invalid timestamp") else {
        panic!("not a produce response")
    };
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::InvalidTimestamp);
    assert_eq!(partition.record_errors.len(), 1);
    assert_eq!((partition.base_offset, partition.log_start_offset), (-1, 0));
    let message = "One or more records have been rejected due to invalid timestamp";
    assert_eq!(partition.error_message.as_deref(), Some(message));
}

#[test]
fn fetch_carries_batches_without_copying_them() {
    let Request::Fetch(request) = request_of("Fetch v18") else { panic!("not a fetch request") };
    assert_eq!((request.replica_id, request.max_wait_ms, request.isolation_level), (-1, 100, 1));
    assert!(!request.topics[0].topic_id.is_nil());
    assert_eq!(request.topics[0].partitions[0].partition_max_bytes, 1_048_576);

    let vector = frames().into_iter().find(|vector| vector["name"] == "Fetch v18").expect("a vector");
    let frame = hex_bytes(&vector["response_hex"]);
    let (_, response) = decode_response(ApiKey::Fetch, 18, frame.clone()).expect("response");
    let Response::Fetch(response) = response else { panic!("not a fetch response") };
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.high_watermark, partition.last_stable_offset), (4, 4));
    assert_eq!(partition.aborted.as_deref(), Some([].as_slice()));
    let records = partition.records.to_bytes().expect("in memory");
    assert_eq!(records.len(), 263);
    assert!(frame.as_ptr_range().contains(&records.as_ptr()), "the records were copied out of the frame");

    let Response::Fetch(response) = response_to("Fetch out of range") else { panic!("not a fetch response") };
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!((partition.high_watermark, partition.last_stable_offset, partition.log_start_offset), (-1, -1, -1));
}
