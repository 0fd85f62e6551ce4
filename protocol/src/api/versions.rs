//! Which versions of which API are spoken.

use super::ApiKey;

/// Lowest and highest version of `key` that can be encoded and decoded: those of Kafka 4.3.1, cut to what the codec
/// knows. Clients step down to what both sides have.
pub const fn supported_versions(key: ApiKey) -> (i16, i16) {
    key.codec_versions()
}

/// What an ApiVersions answer lists for `key`. Produce claims to start at 0, as Kafka does for the sake of old
/// librdkafka, although a request below 3 closes the connection.
pub const fn advertised_versions(key: ApiKey) -> (i16, i16) {
    let (min, max) = key.codec_versions();
    if matches!(key, ApiKey::Produce) { (0, max) } else { (min, max) }
}

/// Whether a Kafka 4.3.1 broker serves this API on a client listener.
pub const fn is_client_api(key: ApiKey) -> bool {
    key.is_client_api()
}
