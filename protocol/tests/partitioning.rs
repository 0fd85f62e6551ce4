//! The partitioner's hash: Kafka's own results, and the crate `murmur2` as an oracle.

use proptest::prelude::*;
use protocol::record::{Headers, murmur2, partition_for_key};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let value: Value = serde_json::from_str(include_str!("data/hashes.json")).expect("json");
    value.as_array().expect("array").clone()
}

#[test]
fn keys_hash_and_partition_as_in_kafka() {
    let mut seen = 0;
    for vector in vectors() {
        let name = vector["name"].as_str().expect("name");
        let Some(number) = vector["number"].as_str().or(vector["number"].as_i64().map(|_| "")) else { continue };
        let expected = number.parse().unwrap_or_else(|_| vector["number"].as_i64().unwrap_or_default());
        let parts: Vec<&str> = name.split('/').collect();
        let actual = match parts.as_slice() {
            ["murmur2", key] => murmur2(key.as_bytes()),
            ["partition", key, partitions] => partition_for_key(key.as_bytes(), partitions.parse().expect("count")),
            _ => continue,
        };
        assert_eq!(i64::from(actual), expected, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
fn headers_encode_as_in_kafka_streams() {
    let vector = vectors().into_iter().find(|vector| vector["name"] == "headers/block").expect("a vector");
    let mut headers = Headers::new();
    headers.add("h", Some("x".into())).add("n", None);
    let mut encoded = Vec::new();
    protocol::record::HeadersRef::from(&headers).encode(&mut encoded);
    let expected = vector["hex"].as_str().expect("hex");
    assert_eq!(encoded.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    assert_eq!(Headers::decode(&encoded).expect("headers"), headers);
}

proptest! {
    #[test]
    fn murmur2_is_the_known_function(key in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(murmur2(&key), ::murmur2::murmur2(&key, ::murmur2::KAFKA_SEED) as i32);
    }

    #[test]
    fn every_key_has_a_partition(key in prop::collection::vec(any::<u8>(), 0..16), partitions in 1..1000) {
        prop_assert!((0..partitions).contains(&partition_for_key(&key, partitions)));
    }
}
