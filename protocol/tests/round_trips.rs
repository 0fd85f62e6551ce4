//! What is written reads as what was put in: varints, records of every shape in every codec, headers, frames cut
//! anywhere.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::api::messages::ApiVersionsRequest;
use protocol::api::{Piece, Pieces, ReadAt, Request};
use protocol::frame::{decode_request, encode_request, frame_length, next_frame};
use protocol::record::varint::{
    MAX_VARINT_BYTES, MAX_VARLONG_BYTES, put_varint, put_varlong, read_varint, read_varlong, varint_size, varlong_size,
};
use protocol::record::{
    BatchBuilder, BuilderOptions, Compression, Header, Headers, HeadersRef, RecordBatch, RecordError, TimePatch,
    TimestampType, batches, compress, decompress, patch_for_append, record_size,
};
use protocol::transport::RequestEnvelope;

#[derive(Clone, Debug)]
struct Written {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 60..70),
        1 => prop::collection::vec(any::<u8>(), 8_000..8_300),
    ])
}

fn headers() -> impl Strategy<Value = Headers> {
    let header = ("[a-zé]{0,5}", prop::option::of(prop::collection::vec(any::<u8>(), 0..70)));
    let header = header.prop_map(|(key, value)| Header { key: key.into(), value: value.map(Bytes::from) });
    prop_oneof![2 => Just(Headers::new()), 1 => prop::collection::vec(header, 0..5).prop_map(Headers::from_iter)]
}

fn record() -> impl Strategy<Value = Written> {
    let timestamp = prop_oneof![4 => 1_700_000_000_000_i64..1_700_000_100_000, 1 => any::<i64>()];
    (timestamp, field(), field(), headers()).prop_map(|(timestamp, key, value, headers)| Written {
        timestamp,
        key,
        value,
        headers,
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #[test]
    fn varints(value in any::<i32>(), long in any::<i64>(), shift in 0..64) {
        let (value, long) = (value >> (shift / 2), long >> shift);
        let mut bytes = [0; MAX_VARINT_BYTES + MAX_VARLONG_BYTES];
        let mut end = 0;
        put_varint(&mut bytes, &mut end, value);
        prop_assert_eq!(end, varint_size(value));
        put_varlong(&mut bytes, &mut end, long);
        prop_assert_eq!(end, varint_size(value) + varlong_size(long));
        let mut at = 0;
        prop_assert_eq!(read_varint(&bytes, &mut at), Some(value));
        prop_assert_eq!(read_varlong(&bytes, &mut at), Some(long));
        prop_assert_eq!(at, end);
        for cut in 0..varint_size(value) {
            prop_assert_eq!(read_varint(&bytes[..cut], &mut 0), None);
        }
    }

    #[test]
    fn records_in_every_codec(
        codec in codec(), written in prop::collection::vec(record(), 1..30),
        producer in (0..100_i64, 0..9_i16, any::<i32>()), transactional in any::<bool>(),
    ) {
        let mut builder = BatchBuilder::new(codec, BuilderOptions { transactional, ..BuilderOptions::default() });
        builder.set_producer(producer.0, producer.1, producer.2.max(0));
        // Twice: a builder must be as new after `build`.
        for _ in 0..2 {
            prop_assert!(builder.is_empty());
            for record in &written {
                let limit = builder.size_bytes_with(record.key.as_deref(), record.value.as_deref(), &record.headers);
                builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)?;
                prop_assert!(builder.size_bytes() <= limit);
            }
            prop_assert_eq!(builder.count(), written.len());
            let size = builder.size_bytes();
            let bytes = builder.build()?;
            let batch = RecordBatch::new(bytes.clone())?;
            batch.verify_crc()?;
            let header = batch.header();
            if codec == Compression::None {
                prop_assert_eq!(bytes.len(), size);
            }
            prop_assert_eq!(header.record_count as usize, written.len());
            prop_assert_eq!(header.last_offset() as usize, written.len() - 1);
            prop_assert_eq!(header.base_timestamp, written[0].timestamp);
            prop_assert_eq!(Some(header.max_timestamp), written.iter().map(|record| record.timestamp).max());
            prop_assert_eq!((header.producer_id, header.producer_epoch), (producer.0, producer.1));
            prop_assert_eq!(header.attributes.is_transactional(), transactional);
            let records = batch.records()?;
            prop_assert_eq!(records.iter().count(), written.len());
            for (index, (read, record)) in records.iter().zip(&written).enumerate() {
                let read = read?;
                prop_assert_eq!(read.offset, index as i64);
                prop_assert_eq!(read.timestamp, record.timestamp);
                prop_assert_eq!(read.key, record.key.as_deref());
                prop_assert_eq!(read.value, record.value.as_deref());
                prop_assert_eq!(&read.headers.to_headers(), &record.headers);
            }
        }
    }

    #[test]
    fn headers_as_a_block(headers in headers()) {
        let mut bytes = b"before".to_vec();
        HeadersRef::from(&headers).encode(&mut bytes);
        prop_assert_eq!(HeadersRef::from(&headers).encoded_size(), bytes.len() - 6);
        prop_assert_eq!(Headers::decode(&bytes[6..])?, headers);
        bytes.push(0);
        prop_assert!(Headers::decode(&bytes[6..]).is_err());
    }

    #[test]
    fn batches_cut_anywhere(codec in codec(), written in prop::collection::vec(record(), 1..4), cut in any::<prop::sample::Index>()) {
        let mut log = BytesMut::new();
        let mut ends = vec![0];
        for _ in 0..3 {
            let mut builder = BatchBuilder::new(codec, BuilderOptions::default());
            for record in &written {
                builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)?;
            }
            log.extend_from_slice(&builder.build()?);
            ends.push(log.len());
        }
        let cut = cut.index(log.len() + 1);
        let whole = ends.iter().filter(|end| **end > 0 && **end <= cut).count();
        let mut found = batches(&log.freeze().slice(..cut));
        prop_assert_eq!(found.by_ref().filter(Result::is_ok).count(), whole);
        prop_assert_eq!(found.remaining(), cut - ends[whole]);
    }

    #[test]
    fn frames_that_arrive_in_pieces(cut in 0..40_usize, client_id in prop::option::of("[a-z]{0,9}")) {
        let request = Request::from(ApiVersionsRequest::default());
        let envelope = RequestEnvelope { version: 0, client_id: client_id.map(Into::into), request };
        let frame = encode_request(&envelope, 77).expect("encodable").to_bytes().expect("in memory");
        let mut buffer = BytesMut::from(&frame[..cut.min(frame.len())]);
        if cut < frame.len() {
            prop_assert_eq!(next_frame(&mut buffer, 1000).expect("no frame yet"), None);
            buffer.extend_from_slice(&frame[cut..]);
        }
        buffer.extend_from_slice(b"next");
        let frame = next_frame(&mut buffer, 1000).expect("frame").expect("whole");
        prop_assert_eq!(&buffer[..], b"next");
        let (header, request) = decode_request(frame).expect("readable");
        prop_assert_eq!((header.correlation_id, header.client_id), (77, envelope.client_id));
        prop_assert_eq!(request, envelope.request);
    }
}

#[test]
fn varints_with_too_many_bits_are_refused() {
    assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x0f], &mut 0), Some(i32::MIN));
    assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x10], &mut 0), None);
    assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], &mut 0), None);
    let mut longest = [0xff; 10];
    longest[9] = 1;
    assert_eq!(read_varlong(&longest, &mut 0), Some(i64::MIN));
    longest[9] = 2;
    assert_eq!(read_varlong(&longest, &mut 0), None);
}

#[test]
fn compaction_keeps_offsets_with_gaps_and_the_end_of_the_batch() {
    let options = BuilderOptions {
        base_offset: 100,
        leader_epoch: 3,
        producer_id: 9,
        producer_epoch: 1,
        base_sequence: 50,
        delete_horizon: Some(5_000),
        ..BuilderOptions::default()
    };
    let mut builder = BatchBuilder::new(Compression::Zstd, options.clone());
    builder.append_at(103, 4_000, Some(b"k"), None, HeadersRef::EMPTY).expect("append");
    assert!(builder.append_at(103, 4_000, None, None, HeadersRef::EMPTY).is_err());
    builder.append_at(107, 6_000, Some(b"l"), Some(b"v"), HeadersRef::EMPTY).expect("append");
    assert!(builder.set_last_offset(106).is_err());
    builder.set_last_offset(110).expect("last offset");
    let batch = RecordBatch::new(builder.build().expect("build")).expect("batch");
    let header = batch.header();
    assert_eq!((header.base_offset, header.last_offset(), header.record_count), (100, 110, 2));
    assert_eq!((header.base_timestamp, header.delete_horizon(), header.max_timestamp), (5_000, Some(5_000), 6_000));
    assert_eq!(header.last_sequence(), 60);
    let records = batch.records().expect("records");
    let read: Vec<(i64, i64)> =
        records.iter().map(|record| record.expect("record")).map(|record| (record.offset, record.timestamp)).collect();
    assert_eq!(read, [(103, 4_000), (107, 6_000)]);

    // Emptied: 61 bytes that keep the end of the batch and the producer's last sequence.
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions { delete_horizon: None, ..options });
    builder.set_last_offset(104).expect("last offset");
    builder.set_max_timestamp(77);
    let batch = RecordBatch::new(builder.build().expect("build")).expect("batch");
    let header = batch.header();
    assert_eq!((batch.bytes().len(), header.record_count, header.last_sequence()), (61, 0, 54));
    assert_eq!((header.base_timestamp, header.max_timestamp, header.next_offset()), (-1, 77, 105));
    assert!(batch.records().expect("records").iter().next().is_none());
}

#[test]
fn sequences_wrap_behind_the_largest() {
    let options =
        BuilderOptions { producer_id: 1, producer_epoch: 0, base_sequence: i32::MAX - 1, ..Default::default() };
    let mut builder = BatchBuilder::new(Compression::None, options);
    for _ in 0..4 {
        builder.append(0, None, None, HeadersRef::EMPTY).expect("append");
    }
    let batch = RecordBatch::new(builder.build().expect("build")).expect("batch");
    assert_eq!(batch.header().last_sequence(), 1);
}

#[test]
fn appending_changes_sixteen_bytes_and_no_checksum() {
    let mut builder = BatchBuilder::new(Compression::Lz4, BuilderOptions::default());
    builder.append(10, Some(b"k"), Some(b"v"), HeadersRef::EMPTY).expect("append");
    let bytes = builder.build().expect("build");
    let head = patch_for_append(&bytes, 4_242, 7, None).expect("head");
    assert_eq!(head[16..], bytes[16..61]);
    let appended: Bytes = [&head[..], &bytes[61..]].concat().into();
    let batch = RecordBatch::new(appended).expect("batch");
    batch.verify_crc().expect("crc");
    assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (4_242, 7));

    let time = TimePatch { timestamp_type: TimestampType::LogAppendTime, max_timestamp: 99 };
    let head = patch_for_append(&bytes, 4_242, 7, Some(time)).expect("head");
    let batch = RecordBatch::new([&head[..], &bytes[61..]].concat().into()).expect("batch");
    batch.verify_crc().expect("crc");
    let records = batch.records().expect("records");
    assert_eq!(records.iter().next().expect("one").expect("record").timestamp, 99);
}

#[test]
fn a_record_count_that_lies_is_an_error() {
    let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
    for _ in 0..2 {
        builder.append(0, None, Some(b"v"), HeadersRef::EMPTY).expect("append");
    }
    let bytes = builder.build().expect("build");
    for (count, good, error) in [(1, 1, "bytes behind the last record"), (3, 2, "record"), (i32::MAX, 2, "record")] {
        let mut header = *RecordBatch::new(bytes.clone()).expect("batch").header();
        header.record_count = count;
        let batch = RecordBatch::new([&header.to_bytes()[..], &bytes[61..]].concat().into()).expect("batch");
        let mut records = batch.records().expect("records");
        for _ in 0..good {
            records.next().expect("some").expect("record");
        }
        match records.next() {
            Some(Err(RecordError::Corrupt { what, .. } | RecordError::Truncated { what })) => assert_eq!(what, error),
            other => panic!("{other:?}"),
        }
        assert!(records.next().is_none());
    }
}

#[test]
fn headers_clone_without_a_copy_until_changed() {
    let mut headers = Headers::new();
    headers.add("a", Some("1".into())).add("b", None).add("a", Some("2".into()));
    let mut other = headers.clone();
    assert!(std::ptr::eq(headers.as_slice(), other.as_slice()));
    assert_eq!(headers.last("a").and_then(|header| header.value.clone()), Some("2".into()));
    assert!(other.remove("a"));
    assert!(!other.remove("a"));
    assert_eq!((headers.len(), other.len()), (3, 1));
    assert!(other.remove("b"));
    assert_eq!(other, Headers::new());
    assert!(record_size(None, None, &headers) > record_size(None, None, &other));
}

struct File(Vec<u8>);

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<()> {
        let found = self.0.get(position as usize..position as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}

#[test]
fn pieces_of_memory_and_file_read_as_one() {
    let file = std::sync::Arc::new(File(b"0123456789".to_vec()));
    let mut pieces = Pieces::from(Bytes::from_static(b"ab"));
    pieces.push(Piece::File { segment: file.clone(), position: 3, length: 4 });
    pieces.push_bytes(Bytes::new());
    assert_eq!((pieces.len_bytes(), pieces.iter().count()), (6, 2));
    assert_eq!(pieces.to_bytes().expect("readable"), "ab3456");
    pieces.push(Piece::File { segment: file, position: 9, length: 4 });
    assert!(pieces.to_bytes().is_err());
}

#[test]
fn frame_lengths_out_of_bounds_are_refused() {
    assert_eq!(frame_length([0, 0, 1, 0], 256).ok(), Some(256));
    assert!(frame_length([0, 0, 1, 1], 256).is_err());
    assert!(frame_length([0; 4], 256).is_err());
    assert!(frame_length([0xff; 4], 256).is_err());
}

#[test]
fn a_batch_fills_what_was_reserved_for_it_to_the_byte() {
    // Incompressible and compressible, around the sizes at which the decoders' buffers are full.
    for codec in Compression::ALL {
        for size in [0_usize, 1, 3, 100, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 192 << 10, 300 << 10, (1 << 20) + 1]
        {
            for step in [0_usize, 1] {
                let bytes: Vec<u8> =
                    (0..size).map(|at| ((at * step).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                let mut compressed = Vec::new();
                compress(codec, None, &bytes, &mut compressed).expect("compress");
                let back = decompress(codec, &compressed, size).expect("within the limit");
                assert!(back == bytes, "{codec} {size} {step}");
                if codec == Compression::Zstd {
                    let cut = decompress(codec, &compressed[..compressed.len() - 1], size);
                    assert!(matches!(cut, Err(RecordError::Truncated { .. })), "{size} {step}: {cut:?}");
                }
            }
        }
    }
}
