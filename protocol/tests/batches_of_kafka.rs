//! Batches that Apache Kafka 4.3.1 wrote: every header field, checksum and record reads as Kafka itself reads it, and
//! writing them again gives the same bytes.

mod common;

use std::io::Read;

use bytes::Bytes;
use common::{assert_field, hex_bytes};
use protocol::record::{
    Attributes, BatchBuilder, BatchHeader, BuilderOptions, Compression, Control, ControlType, HEADER_SIZE, Headers,
    HeadersRef, HeadersView, RecordBatch, RecordError, RecordView, TimestampType, batches, control_marker, crc_of,
    parse_control,
};
use serde_json::Value;

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).expect("json").as_array().expect("array").clone()
}

fn kafka_batches() -> Vec<Value> {
    vectors(include_str!("data/batches.json"))
}

fn segments() -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(include_bytes!("data/segments.json.gz").as_slice())
        .read_to_string(&mut text)
        .expect("gzip");
    vectors(&text)
}

fn i64_of(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

fn assert_header(header: &BatchHeader, expected: &Value) {
    let context = expected.to_string();
    assert_eq!(header.base_offset, i64_of(&expected["base"]), "{context}");
    assert_eq!(header.size_bytes() as i64, i64_of(&expected["size"]), "{context}");
    assert_eq!(header.last_offset(), i64_of(&expected["last"]), "{context}");
    assert_eq!(i64::from(header.record_count), i64_of(&expected["count"]), "{context}");
    assert_eq!(i64::from(header.leader_epoch), i64_of(&expected["leader_epoch"]), "{context}");
    assert_eq!(header.max_timestamp, i64_of(&expected["max_ts"]), "{context}");
    assert_eq!(header.producer_id, i64_of(&expected["pid"]), "{context}");
    assert_eq!(i64::from(header.producer_epoch), i64_of(&expected["epoch"]), "{context}");
    assert_eq!(i64::from(header.base_sequence), i64_of(&expected["base_seq"]), "{context}");
    assert_eq!(i64::from(header.last_sequence()), i64_of(&expected["last_seq"]), "{context}");
    assert_eq!(i64::from(header.crc), i64_of(&expected["crc32c"]), "{context}");
    let Attributes(_) = header.attributes;
    assert_eq!(header.attributes.is_transactional(), expected["txn"], "{context}");
    assert_eq!(header.attributes.is_control(), expected["control"], "{context}");
    assert_eq!(header.attributes.codec().expect("codec").name(), expected["codec"], "{context}");
    let append_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    assert_eq!(append_time, expected["ts_type"] == "LogAppendTime", "{context}");
    assert_eq!(header.delete_horizon(), expected.get("delete_horizon_ms").and_then(Value::as_i64), "{context}");
}

fn assert_record(record: &RecordView<'_>, expected: &Value, is_control: bool) {
    let context = expected.to_string();
    assert_eq!(record.offset, i64_of(&expected["o"]), "{context}");
    assert_eq!(record.timestamp, i64_of(&expected["ts"]), "{context}");
    if is_control {
        assert_control(record, expected);
        return;
    }
    assert_field(record.key, expected, "key", &context);
    assert_field(record.value, expected, "value", &context);
    assert_headers(record.headers, expected.get("headers"), &context);
}

fn assert_control(record: &RecordView<'_>, expected: &Value) {
    match parse_control(record.key, record.value).expect("control record") {
        Control::EndTransaction(marker) => {
            assert_eq!(marker.committed, expected["control_type"] == "COMMIT");
            assert_eq!(i64::from(marker.coordinator_epoch), i64_of(&expected["coordinator_epoch"]));
        }
        Control::Other(kind) => assert_eq!(kind, ControlType::LeaderChange),
    }
}

fn assert_headers(headers: HeadersView<'_>, expected: Option<&Value>, context: &str) {
    let expected = expected.and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(headers.len(), expected.len(), "{context}");
    for (header, expected) in headers.iter().zip(&expected) {
        assert_eq!(header.key_str(), expected["k"].as_str().expect("key"), "{context}");
        assert_field(header.value, expected, "v", context);
    }
    let owned: Headers = headers.to_headers();
    let mut encoded = Vec::new();
    HeadersRef::from(&owned).encode(&mut encoded);
    assert_eq!(encoded, headers.encoded(), "{context}");
    assert_eq!(Headers::decode(&encoded).expect("headers"), owned, "{context}");
}

fn assert_batch(batch: &RecordBatch, expected: &Value) {
    assert_header(batch.header(), expected);
    batch.verify_crc().expect("crc");
    assert_eq!(crc32c::crc32c(&batch.bytes()[21..]), batch.header().crc);
    assert_eq!(batch.header().to_bytes(), batch.bytes()[..HEADER_SIZE]);
    let is_control = batch.header().attributes.is_control();
    let expected = expected["records"].as_array().expect("records");
    let mut records = batch.records().expect("records");
    assert_eq!(records.left(), expected.len());
    for (record, expected) in records.iter().zip(expected) {
        assert_record(&record.expect("record"), expected, is_control);
    }
    assert_eq!(records.iter().count(), expected.len());
    let body = records.body().clone();
    for expected in expected {
        let slot = records.next_slot().expect("slot").expect("slot");
        assert_record(&slot.view(&body), expected, is_control);
    }
    assert!(records.next().is_none());
}

/// What a builder makes of the records of `batch`, with the same header.
fn built_again(batch: &RecordBatch) -> Bytes {
    let header = batch.header();
    let mut builder = BatchBuilder::new(
        header.attributes.codec().expect("codec"),
        BuilderOptions {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            log_append_time: header.attributes.is_log_append_time().then_some(header.max_timestamp),
            delete_horizon: header.delete_horizon(),
            ..BuilderOptions::default()
        },
    );
    for record in &batch.records().expect("records") {
        let record = record.expect("record");
        builder.append_at(record.offset, record.timestamp, record.key, record.value, record.headers).expect("append");
    }
    builder.set_last_offset(header.last_offset()).expect("last offset");
    builder.set_max_timestamp(header.max_timestamp);
    builder.build().expect("build")
}

#[test]
fn batches_of_every_codec_and_kind_read_as_kafka_reads_them() {
    for vector in kafka_batches() {
        let batch = RecordBatch::new(hex_bytes(&vector["hex"])).expect("batch");
        assert_batch(&batch, &vector["decoded"]);
    }
}

#[test]
fn segments_that_kafka_wrote_read_to_their_last_record() {
    let mut records = 0;
    for segment in segments() {
        let mut found = batches(&hex_bytes(&segment["hex"]));
        for expected in segment["batches"].as_array().expect("batches") {
            assert_eq!(found.position() as i64, i64_of(&expected["pos"]), "{}", segment["log"]);
            let batch = found.next().expect("a batch").expect("a good batch");
            assert_batch(&batch, expected);
            records += batch.header().record_count;
        }
        assert!(found.next().is_none());
        assert_eq!(found.remaining(), 0);
    }
    assert_eq!(records, 223);
}

#[test]
fn uncompressed_batches_are_written_byte_for_byte_as_kafka_writes_them() {
    let mut seen = 0;
    let vectors = kafka_batches().into_iter().chain(vectors(include_str!("data/library_batches.json")));
    for vector in vectors.filter(|vector| vector.get("magic").is_none_or(|magic| magic == 2)) {
        let batch = RecordBatch::new(hex_bytes(&vector["hex"])).expect("batch");
        let header = batch.header();
        // An emptied batch has lost its base timestamp; an append-time one the producer's timestamps.
        if header.record_count > 0 && header.attributes == header.attributes.with_codec(Compression::None) {
            assert_eq!(built_again(&batch), batch.bytes(), "{vector}");
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn compressed_batches_written_again_hold_the_same_records_in_kafkas_framing() {
    for vector in kafka_batches() {
        let batch = RecordBatch::new(hex_bytes(&vector["hex"])).expect("batch");
        let codec = batch.header().attributes.codec().expect("codec");
        let framing = match codec {
            _ if batch.header().attributes.is_log_append_time() => continue,
            Compression::None => continue,
            Compression::Gzip => 4,    // magic, deflate, no flags
            Compression::Snappy => 16, // the whole xerial header
            Compression::Lz4 => 7,     // magic, flags, block size, checksum
            Compression::Zstd => 5,    // magic, frame header: no content size
        };
        let again = RecordBatch::new(built_again(&batch)).expect("batch");
        again.verify_crc().expect("crc");
        assert_eq!(again.stored_body()[..framing], batch.stored_body()[..framing], "{vector}");
        let header = again.header();
        let expected = &vector["decoded"];
        assert_eq!(header.record_count, batch.header().record_count);
        assert_eq!(header.base_timestamp, batch.header().base_timestamp);
        assert_eq!(again.records().expect("records").body(), batch.records().expect("records").body());
        for (record, expected) in
            again.records().expect("records").iter().zip(expected["records"].as_array().expect("records"))
        {
            assert_record(&record.expect("record"), expected, false);
        }
    }
}

#[test]
fn batches_of_the_client_library_read_in_every_codec() {
    for vector in vectors(include_str!("data/library_batches.json")) {
        let bytes = hex_bytes(&vector["hex"]);
        let magic = vector["magic"].as_i64().expect("magic") as i8;
        let first = batches(&bytes).next().expect("an entry");
        if magic < 2 {
            assert_eq!(first.err(), Some(RecordError::UnsupportedMagic(magic)));
            continue;
        }
        let batch = first.expect("batch");
        batch.verify_crc().expect("crc");
        let records = batch.records().expect("records");
        let expected = vector["records"].as_array().expect("records");
        assert_eq!(records.iter().count(), expected.len());
        for (record, expected) in records.iter().zip(expected) {
            let record = record.expect("record");
            assert_eq!(record.offset, i64_of(&expected["offset"]));
            assert_eq!(record.timestamp, i64_of(&expected["timestamp"]));
            assert_field(record.key, expected, "key", "library batch");
            assert_field(record.value, expected, "value", "library batch");
        }
    }
}

#[test]
fn transaction_markers_are_kafkas_bytes() {
    let mut seen = 0;
    for vector in kafka_batches() {
        let batch = RecordBatch::new(hex_bytes(&vector["hex"])).expect("batch");
        let header = *batch.header();
        if !header.attributes.is_control() {
            continue;
        }
        let records = batch.records().expect("records");
        let record = records.iter().next().expect("one record").expect("record");
        let Control::EndTransaction(marker) = parse_control(record.key, record.value).expect("control") else {
            panic!("{vector}")
        };
        let written = control_marker(
            marker,
            header.producer_id,
            header.producer_epoch,
            header.max_timestamp,
            header.base_offset,
            header.leader_epoch,
        );
        assert_eq!(written.expect("marker"), batch.bytes());
        assert_eq!(batch.bytes().len(), 78);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn crc_is_castagnoli() {
    for length in [21, 22, 61, 100, 1000, 20_000] {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 7 + 3) as u8).collect();
        assert_eq!(crc_of(&bytes), crc32c::crc32c(&bytes[21..]));
    }
}
