//! Byte layouts of state stores against bytes that Kafka Streams 4.3.1 wrote.

use base::TopicPartition;
use storage::state::keys::{
    DuplicateSequence, KEY_INDEX, KeyKind, SessionKey, WindowKey, read_outer_join_key, read_subscription_key,
    write_outer_join_key, write_subscription_key,
};
use storage::state::offsets::{Position, UNKNOWN, decode_checkpoint, encode_checkpoint};
use storage::state::{segment_interval_ms, segment_name};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn window_key_is_key_start_and_sequence() {
    for (sequence, expected) in [(0, "6b31000000000000ea6000000000"), (7, "6b31000000000000ea6000000007")] {
        let key = WindowKey { key: b"k1", start: 60_000, sequence };
        assert_eq!(hex(&key.to_bytes()), expected);
        assert_eq!(WindowKey::read(&key.to_bytes()), Some(key));
    }
    assert_eq!(WindowKey::read(&[0; 11]), None);
}

#[test]
fn session_key_is_key_end_and_start() {
    let key = SessionKey { key: b"k1", start: 1_000, end: 5_000 };
    assert_eq!(hex(&key.to_bytes()), "6b31000000000000138800000000000003e8");
    assert_eq!(SessionKey::read(&key.to_bytes()), Some(key));
    assert_eq!(SessionKey::read(&[0; 15]), None);
}

#[test]
fn time_first_keys_and_their_index_are_those_of_kafka_streams() {
    let window = WindowKey { key: b"k1", start: 60_000, sequence: 0 }.to_bytes();
    let session = SessionKey { key: b"k1", start: 1_000, end: 5_000 }.to_bytes();
    for (kind, plain, time_first, index) in [
        (KeyKind::Window, window, "00000000000000ea606b3100000000", "016b31000000000000ea6000000000"),
        (KeyKind::Session, session, "00000000000000138800000000000003e86b31", "016b31000000000000138800000000000003e8"),
    ] {
        let mut stored = Vec::new();
        assert!(kind.write_time_first(&plain, &mut stored));
        assert_eq!(hex(&stored), time_first);
        let mut back = Vec::new();
        assert!(kind.read_time_first(&stored, &mut back));
        assert_eq!(back, plain);
        assert_eq!(hex(&[&[KEY_INDEX][..], &plain].concat()), index);
    }
}

#[test]
fn first_duplicate_is_number_one_and_the_last_wraps_to_zero() {
    let mut sequence = DuplicateSequence::default();
    assert_eq!((sequence.advance(), sequence.advance()), (1, 2));
}

#[test]
fn segments_are_named_by_their_start() {
    assert_eq!(segment_name("win", 1_700_000_345_000, 60_000), "win.1700000340000");
    assert_eq!(segment_interval_ms(100_000), 60_000);
    assert_eq!(segment_interval_ms(120_002), 60_001);
    assert_eq!(segment_interval_ms(86_400_000), 43_200_000);
}

#[test]
fn position_is_read_from_the_whole_backing_array() {
    let mut position = Position::default();
    position.advance("t", 0, 5);
    position.advance("t", 0, 4);
    let bytes = position.encode();
    assert_eq!(hex(&bytes), "0000000001000000017400000001000000000000000000000005");
    let padded = [&bytes[..], &[0; 40]].concat();
    assert_eq!(Position::decode(&padded), Some(position.clone()));
    assert_eq!((position.offset("t", 0), position.offset("t", 1)), (Some(5), None));
    for size in 0..bytes.len() {
        assert_eq!(Position::decode(&bytes[..size]), None, "cut to {size} bytes");
    }
}

#[test]
fn checkpoint_file_is_that_of_kafka_streams() {
    let offsets =
        vec![(TopicPartition::new("app-st-changelog", 0), 42), (TopicPartition::new("app-s2-changelog", 0), UNKNOWN)];
    let text = "0\n2\napp-st-changelog 0 42\napp-s2-changelog 0 -4\n";
    assert_eq!(encode_checkpoint(&offsets), text);
    assert_eq!(decode_checkpoint(text), Ok(offsets));
    for wrong in ["", "1\n0\n", "0\nx\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n"] {
        assert!(decode_checkpoint(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn keys_of_joins_are_taken_apart_as_they_were_put_together() {
    let mut key = Vec::new();
    write_outer_join_key(1_000, true, b"k", &mut key);
    assert_eq!(hex(&key), "00000000000003e8016b");
    assert_eq!(read_outer_join_key(&key), Some((1_000, true, &b"k"[..])));
    let mut key = Vec::new();
    write_subscription_key(b"fk", b"p1", &mut key);
    assert_eq!(hex(&key), "00000002666b7031");
    assert_eq!(read_subscription_key(&key), Some((&b"fk"[..], &b"p1"[..])));
    assert_eq!(read_subscription_key(&key[..5]), None);
}
