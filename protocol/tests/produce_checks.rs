//! What a broker refuses to append, with the error code that Kafka 4.3.1 answers; each with its twin that passes.

use bytes::Bytes;
use protocol::api::ErrorCode;
use protocol::record::{
    Attributes, BatchBuilder, BatchHeader, BuilderOptions, Compression, HeadersRef, ProduceRules, RecordBatch,
    Rejection, TimePatch, TimestampRule, TimestampType, Validated, crc_of, patch_for_append, rebuild,
    validate_for_produce,
};

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

fn rules() -> ProduceRules {
    ProduceRules {
        max_message_bytes: 1_048_588,
        compacted: false,
        timestamps: TimestampRule::CreateTime { now: NOW, before_max_ms: i64::MAX, after_max_ms: HOUR },
        compression: None,
        decompressed_limit: 1 << 20,
    }
}

fn batch_with(codec: Compression, options: BuilderOptions, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(codec, options);
    for timestamp in timestamps {
        builder.append(*timestamp, Some(b"key"), Some(b"value"), HeadersRef::EMPTY).expect("append");
    }
    builder.build().expect("build")
}

fn batch() -> Bytes {
    batch_with(Compression::None, BuilderOptions::default(), &[NOW, NOW + 1])
}

/// The batch with another header and a checksum that fits.
fn with_header(bytes: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::read(bytes).expect("header");
    change(&mut header);
    header.crc = 0;
    let bytes = [&header.to_bytes()[..], &bytes[61..]].concat();
    header.crc = crc_of(&bytes);
    [&header.to_bytes()[..], &bytes[61..]].concat().into()
}

fn check(bytes: &Bytes, rules: &ProduceRules) -> Result<Validated, Rejection> {
    validate_for_produce(bytes, rules).map(|(_, validated)| validated)
}

fn code(bytes: &Bytes, rules: &ProduceRules) -> ErrorCode {
    check(bytes, rules).map_or_else(|rejection| rejection.code, |_| ErrorCode::None)
}

#[test]
fn a_good_batch_of_any_codec_passes_unchanged() {
    for codec in Compression::ALL {
        let bytes = batch_with(codec, BuilderOptions::default(), &[NOW, NOW - 5, NOW + 7]);
        let validated = check(&bytes, &rules()).expect("a good batch");
        assert_eq!((validated.time, validated.rebuild, validated.max_timestamp), (None, None, NOW + 7), "{codec}");
    }
}

#[test]
fn there_must_be_exactly_one_whole_batch_of_magic_two() {
    let one = batch();
    let two: Bytes = [&one[..], &one[..]].concat().into();
    let magic = |magic| {
        let mut bytes = one.to_vec();
        bytes[16] = magic;
        Bytes::from(bytes)
    };
    for (bytes, expected) in [
        (Bytes::new(), ErrorCode::InvalidRecord),
        (two, ErrorCode::InvalidRecord),
        (one.slice(..one.len() - 1), ErrorCode::InvalidRecord),
        (magic(0), ErrorCode::InvalidRecord),
        (magic(1), ErrorCode::InvalidRecord),
        (magic(3), ErrorCode::CorruptMessage),
        (magic(255), ErrorCode::CorruptMessage),
        (magic(2), ErrorCode::None),
    ] {
        assert_eq!(code(&bytes, &rules()), expected, "{} bytes", bytes.len());
    }
}

#[test]
fn size_checksum_and_header_are_checked() {
    let mut flipped = batch().to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert_eq!(code(&flipped.into(), &rules()), ErrorCode::CorruptMessage);

    let size = batch().len();
    assert_eq!(code(&batch(), &ProduceRules { max_message_bytes: size, ..rules() }), ErrorCode::None);
    assert_eq!(code(&batch(), &ProduceRules { max_message_bytes: size - 1, ..rules() }), ErrorCode::MessageTooLarge);

    let changed = |change: fn(&mut BatchHeader)| code(&with_header(&batch(), change), &rules());
    assert_eq!(changed(|_| ()), ErrorCode::None);
    assert_eq!(changed(|header| header.base_offset = 1), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.leader_epoch = 77), ErrorCode::None);
    assert_eq!(changed(|header| header.record_count = 3), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.last_offset_delta = 2), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.last_offset_delta = i32::MAX), ErrorCode::InvalidRecord);
    let three = |header: &mut BatchHeader| (header.record_count, header.last_offset_delta) = (3, 2);
    assert_eq!(changed(three), ErrorCode::InvalidRecord);
    let none = |header: &mut BatchHeader| (header.record_count, header.last_offset_delta) = (0, -1);
    assert_eq!(changed(none), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.attributes = header.attributes.with_control(true)), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.attributes = Attributes(6)), ErrorCode::UnknownServerError);
    assert_eq!(changed(|header| header.attributes = Attributes(1)), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| header.producer_id = 5), ErrorCode::InvalidRecord);
    assert_eq!(changed(|header| (header.producer_id, header.base_sequence) = (5, 0)), ErrorCode::None);
}

#[test]
fn a_compacted_topic_names_every_record_without_a_key() {
    let mut builder = BatchBuilder::new(Compression::Gzip, BuilderOptions::default());
    for key in [None, Some(b"k".as_slice()), None] {
        builder.append(NOW, key, None, HeadersRef::EMPTY).expect("append");
    }
    let bytes = builder.build().expect("build");
    assert_eq!(code(&bytes, &rules()), ErrorCode::None);
    let rejection = check(&bytes, &ProduceRules { compacted: true, ..rules() }).expect_err("keys are missing");
    assert_eq!(rejection.code, ErrorCode::InvalidRecord);
    assert_eq!(rejection.record_errors.iter().map(|error| error.0).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn create_time_must_be_in_range() {
    let one = |timestamp| batch_with(Compression::None, BuilderOptions::default(), &[timestamp]);
    assert_eq!(code(&one(NOW + HOUR), &rules()), ErrorCode::None);
    assert_eq!(code(&one(0), &rules()), ErrorCode::None);
    assert_eq!(code(&one(-1), &rules()), ErrorCode::None);
    let rejection = check(&one(NOW + HOUR + 1), &rules()).expect_err("too late");
    assert_eq!(rejection.code, ErrorCode::InvalidTimestamp);
    assert_eq!(rejection.message, "One or more records have been rejected due to invalid timestamp");
    assert_eq!(rejection.record_errors.len(), 1);

    let timestamps = TimestampRule::CreateTime { now: NOW, before_max_ms: HOUR, after_max_ms: HOUR };
    let strict = ProduceRules { timestamps, ..rules() };
    assert_eq!(code(&one(NOW - HOUR), &strict), ErrorCode::None);
    assert_eq!(code(&one(NOW - HOUR - 1), &strict), ErrorCode::InvalidTimestamp);
    assert_eq!(code(&one(-1), &strict), ErrorCode::None);
}

#[test]
fn append_time_is_the_brokers_and_not_for_clients_to_set() {
    let own = ProduceRules { timestamps: TimestampRule::LogAppendTime { now: NOW }, ..rules() };
    let bytes = batch_with(Compression::Lz4, BuilderOptions::default(), &[1, 2]);
    let validated = check(&bytes, &own).expect("any time will do");
    let patch = TimePatch { timestamp_type: TimestampType::LogAppendTime, max_timestamp: NOW };
    assert_eq!((validated.time, validated.max_timestamp), (Some(patch), NOW));

    let set = with_header(&batch(), |header| {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    });
    assert_eq!(code(&set, &own), ErrorCode::InvalidTimestamp);
    // On a topic with create time the bit is cleared.
    let validated = check(&set, &rules()).expect("in range");
    let head = patch_for_append(&set, 9, 1, validated.time).expect("head");
    let stored = RecordBatch::new([&head[..], &set[61..]].concat().into()).expect("batch");
    stored.verify_crc().expect("crc");
    assert!(!stored.header().attributes.is_log_append_time());
}

#[test]
fn a_maximum_timestamp_that_lies_is_corrected() {
    let bytes = with_header(&batch(), |header| header.max_timestamp = 5);
    let validated = check(&bytes, &rules()).expect("a good batch");
    let patch = TimePatch { timestamp_type: TimestampType::CreateTime, max_timestamp: NOW + 1 };
    assert_eq!(validated.time, Some(patch));
}

#[test]
fn another_codec_or_offsets_with_gaps_mean_writing_it_anew() {
    let options = BuilderOptions { producer_id: 4, producer_epoch: 2, base_sequence: 9, ..Default::default() };
    let bytes = batch_with(Compression::Gzip, options, &[NOW, NOW + 3]);
    let zstd = ProduceRules { compression: Some(Compression::Zstd), ..rules() };
    let (batch, validated) = validate_for_produce(&bytes, &zstd).expect("a good batch");
    assert_eq!(validated.rebuild, Some(Compression::Zstd));
    let again = RecordBatch::new(rebuild(&batch, Compression::Zstd, None, 1 << 20).expect("rebuilt")).expect("batch");
    again.verify_crc().expect("crc");
    let header = again.header();
    assert_eq!(header.attributes.codec(), Ok(Compression::Zstd));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4, 2, 9));
    assert_eq!((header.base_timestamp, header.max_timestamp), (NOW, NOW + 3));
    assert_eq!(again.records().expect("records").body(), batch.records().expect("records").body());

    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    builder.append_at(1, NOW, None, None, HeadersRef::EMPTY).expect("append");
    builder.append_at(4, NOW, None, None, HeadersRef::EMPTY).expect("append");
    let sparse = with_header(&builder.build().expect("build"), |header| header.last_offset_delta = 1);
    let (batch, validated) = validate_for_produce(&sparse, &rules()).expect("a good batch");
    assert_eq!(validated.rebuild, Some(Compression::None));
    let again = RecordBatch::new(rebuild(&batch, Compression::None, None, 1 << 20).expect("rebuilt")).expect("batch");
    let offsets: Vec<i64> = again.records().expect("records").iter().flatten().map(|record| record.offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn a_batch_that_grows_too_far_is_refused() {
    let mut builder = BatchBuilder::new(Compression::Zstd, BuilderOptions::default());
    builder.append(NOW, None, Some(&vec![0; 2 << 20]), HeadersRef::EMPTY).expect("append");
    assert_eq!(code(&builder.build().expect("build"), &rules()), ErrorCode::MessageTooLarge);
}
