//! Bytes that nobody wrote on purpose: every decoder answers with a value or an error, never with a panic, and never by
//! allocating what the bytes merely claim.

mod common;

use bytes::{Bytes, BytesMut};
use common::hex_bytes;
use proptest::prelude::*;
use protocol::api::{ApiKey, supported_versions};
use protocol::frame::{decode_request, decode_response, encode_request, encode_response, next_frame};
use protocol::record::{
    BatchBuilder, BatchHeader, BuilderOptions, Compression, Headers, RecordBatch, RecordError, batches, decompress,
    parse_control, patch_for_append,
};
use protocol::transport::RequestEnvelope;
use serde_json::Value;

/// All that a reader would do with these bytes.
fn read_everything(bytes: &Bytes) {
    let _ = BatchHeader::read(bytes);
    let _ = patch_for_append(bytes, 5, 5, None);
    for batch in batches(bytes).flatten() {
        let _ = batch.verify_crc();
        let header = batch.header();
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.delete_horizon());
        let Ok(mut records) = batch.records_within(1 << 20) else { continue };
        for record in records.iter().take(10_000).flatten() {
            let headers = record.headers.to_headers();
            assert_eq!(headers.len(), record.headers.iter().count());
            let _ = parse_control(record.key, record.value);
        }
        while let Some(Ok(slot)) = records.next_slot() {
            let _ = slot.view(records.body());
        }
    }
}

fn corpus() -> Vec<Bytes> {
    let value: Value = serde_json::from_str(include_str!("data/batches.json")).expect("json");
    value.as_array().expect("array").iter().map(|vector| hex_bytes(&vector["hex"])).collect()
}

fn frames() -> Vec<(ApiKey, i16, Bytes, Bytes)> {
    let value: Value = serde_json::from_str(include_str!("data/frames.json")).expect("json");
    let vectors = value.as_array().expect("array");
    let vectors = vectors.iter().map(|vector| {
        let key = ApiKey::from_code(vector["api_key"].as_i64().expect("key") as i16).expect("key");
        let version = vector["version"].as_i64().expect("version") as i16;
        (key, version, hex_bytes(&vector["request_hex"]), hex_bytes(&vector["response_hex"]))
    });
    vectors.collect()
}

/// Flips, overwrites or cuts some bytes.
fn damaged(original: &Bytes, damage: &[(usize, u8)], cut: Option<usize>) -> Bytes {
    let mut bytes = original.to_vec();
    let length = bytes.len();
    for (position, value) in damage {
        bytes[position % length] ^= value;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % (length + 1));
    }
    bytes.into()
}

fn damage() -> impl Strategy<Value = (Vec<(usize, u8)>, Option<usize>)> {
    (prop::collection::vec((any::<usize>(), any::<u8>()), 0..6), prop::option::of(any::<usize>()))
}

#[test]
fn every_single_flipped_byte_of_every_batch_is_survived() {
    for original in corpus() {
        for position in 0..original.len() {
            for value in [0x01, 0x80, 0xff] {
                read_everything(&damaged(&original, &[(position, value)], None));
            }
            read_everything(&original.slice(..position));
        }
    }
}

#[test]
fn a_flipped_byte_under_the_checksum_is_found() {
    for original in corpus() {
        for position in 21..original.len() {
            let batch = RecordBatch::new(damaged(&original, &[(position, 0x10)], None)).expect("the header is whole");
            assert!(matches!(batch.verify_crc(), Err(RecordError::BadCrc { .. })));
        }
    }
}

#[test]
fn every_single_flipped_byte_of_every_frame_is_survived() {
    for (key, version, request, response) in frames() {
        for position in 0..request.len() {
            for value in [0x01, 0x80, 0xff] {
                let _ = decode_request(damaged(&request, &[(position, value)], None));
            }
            let _ = decode_request(request.slice(..position));
        }
        for position in 0..response.len() {
            for value in [0x01, 0x80, 0xff] {
                let _ = decode_response(key, version, damaged(&response, &[(position, value)], None));
            }
            let _ = decode_response(key, version, response.slice(..position));
        }
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    for codec in Compression::ALL {
        let mut compressed = Vec::new();
        protocol::record::compress(codec, None, &zeros, &mut compressed).expect("compress");
        assert_eq!(decompress(codec, &compressed, zeros.len()).expect("exactly the limit").len(), zeros.len());
        let bomb = decompress(codec, &compressed, zeros.len() - 1);
        assert!(matches!(bomb, Err(RecordError::TooLarge { .. })), "{codec}");

        let mut builder = BatchBuilder::new(codec, BuilderOptions::default());
        builder.append(0, None, Some(&zeros), &Headers::new()).expect("append");
        let batch = RecordBatch::new(builder.build().expect("build")).expect("batch");
        if codec != Compression::None {
            assert!(matches!(batch.records_within(1 << 20), Err(RecordError::TooLarge { .. })), "{codec}");
        }
        assert!(batch.records().is_ok());
    }
}

#[test]
fn a_snappy_block_cannot_claim_more_than_it_can_hold() {
    // Claims 4 GiB - 1 in its length varint.
    let block = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    assert!(matches!(decompress(Compression::Snappy, &block, usize::MAX), Err(RecordError::BadCompression { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_no_batch_but_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes.into());
    }

    #[test]
    fn arbitrary_bytes_behind_a_good_header(
        body in prop::collection::vec(any::<u8>(), 0..400), count in 0..20_i32, codec in 0..8_i16,
    ) {
        let mut builder = BatchBuilder::new(Compression::None, BuilderOptions::default());
        builder.append(7, None, None, &Headers::new()).expect("append");
        let mut header = BatchHeader::read(&builder.build().expect("build")).expect("header");
        header.batch_length = 49 + body.len() as i32;
        header.record_count = count;
        header.attributes.0 = codec;
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(&body);
        read_everything(&bytes.into());
    }

    #[test]
    fn damaged_batches_are_survived(index in any::<prop::sample::Index>(), (damage, cut) in damage()) {
        let corpus = corpus();
        read_everything(&damaged(index.get(&corpus), &damage, cut));
    }

    #[test]
    fn damaged_frames_are_survived(index in any::<prop::sample::Index>(), (damage, cut) in damage()) {
        let frames = frames();
        let (key, version, request, response) = index.get(&frames);
        let _ = decode_request(damaged(request, &damage, cut));
        let _ = decode_response(*key, *version, damaged(response, &damage, cut));
    }

    #[test]
    fn arbitrary_bytes_to_every_decompressor(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for codec in Compression::ALL {
            let mut framed = Vec::new();
            protocol::record::compress(codec, None, b"abc", &mut framed).expect("compress");
            let _ = decompress(codec, &bytes, 1 << 16);
            framed.truncate(16);
            framed.extend(&bytes);
            let _ = decompress(codec, &framed, 1 << 16);
        }
    }

    /// What can be read can be written, and reads as the same again.
    #[test]
    fn arbitrary_bytes_to_every_request_and_response(
        index in any::<prop::sample::Index>(), step in any::<i16>(),
        bytes in prop::collection::vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>()], 0..120),
    ) {
        let key = *index.get(ApiKey::ALL);
        let (min, max) = supported_versions(key);
        let version = min + step.rem_euclid(max - min + 1);
        let mut frame = BytesMut::new();
        frame.extend((key as i16).to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 1, b'c']);
        if key.request_header_version(version) == 2 {
            frame.extend([0]);
        }
        frame.extend(&bytes);
        if let Ok((header, request)) = decode_request(frame.freeze()) {
            let envelope = RequestEnvelope { version, client_id: header.client_id, request };
            if let Ok(written) = encode_request(&envelope, 1) {
                let mut written = BytesMut::from(&*written.to_bytes().expect("in memory"));
                let frame = next_frame(&mut written, usize::MAX).expect("length").expect("whole");
                let read = decode_request(frame).expect("what was written can be read");
                prop_assert_eq!(format!("{:?}", read.1), format!("{:?}", envelope.request));
            }
        }
        if let Ok((id, response)) = decode_response(key, version, bytes.into())
            && let Ok(written) = encode_response(version, id, &response)
        {
            let mut written = BytesMut::from(&*written.to_bytes().expect("in memory"));
            let frame = next_frame(&mut written, usize::MAX).expect("length").expect("whole");
            let read = decode_response(key, version, frame).expect("what was written can be read");
            prop_assert_eq!(format!("{:?}", read.1), format!("{response:?}"));
        }
    }

    #[test]
    fn arbitrary_bytes_as_whole_request_frames(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode_request(bytes.into());
    }
}
