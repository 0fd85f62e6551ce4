//! Damaged frames, messages and record batches, round after round: no decoder panics, and none takes memory that the bytes
//! only claim to need. `MILLSTREAM_MUTATE_SECONDS=600 cargo test --release -p protocol --test mutated_bytes` runs long.
//!
//! One test only, since it counts all memory of its process.

mod common;
mod mutator;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use common::hex_bytes;
use mutator::Mutator;
use protocol::api::{ApiKey, supported_versions};
use protocol::frame::{decode_request, decode_response, encode_request, encode_response, next_frame};
use protocol::record::{BatchHeader, Compression, batches, decompress, parse_control, patch_for_append};
use protocol::transport::RequestEnvelope;
use serde_json::Value;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what is allocated, and the most there was.
struct Counting;

// SAFETY: hands every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a decoder may take for `length` bytes: arrays of up to 65536 elements may be reserved on trust.
fn allowance(length: usize) -> usize {
    (64 << 20) + 512 * length
}

fn within_its_memory(what: &str, bytes: &Bytes, seed: u64, run: impl FnOnce()) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(outcome.is_ok(), "{what} panicked, seed {seed}: {hex}");
    assert!(taken <= allowance(bytes.len()), "{what} took {taken} bytes, seed {seed}: {hex}");
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).expect("json").as_array().expect("array").clone()
}

/// Request frames and responses (key and version in front of these) that Kafka wrote, and small bodies for every version.
fn messages() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for vector in vectors(include_str!("data/frames.json")) {
        let key = vector["api_key"].as_i64().expect("key") as i16;
        let version = vector["version"].as_i64().expect("version") as i16;
        corpus.push(hex_bytes(&vector["request_hex"]).to_vec());
        corpus.push(
            [&key.to_be_bytes()[..], &version.to_be_bytes()[..], &hex_bytes(&vector["response_hex"])[..]].concat(),
        );
    }
    for key in ApiKey::ALL {
        let (min, max) = supported_versions(*key);
        for version in min..=max {
            let mut frame = [(*key as i16).to_be_bytes(), version.to_be_bytes()].concat();
            frame.extend([0, 0, 0, 1, 0, 1, b'c', 0]);
            frame.extend([2, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 2, b'b', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            corpus.push(frame);
        }
    }
    corpus
}

fn read_message(bytes: &Bytes) -> bool {
    let request = decode_request(bytes.clone());
    if let Ok((header, request)) = &request {
        let envelope = RequestEnvelope {
            version: header.api_version,
            client_id: header.client_id.clone(),
            request: request.clone(),
        };
        if let Ok(written) = encode_request(&envelope, 1) {
            let mut written = BytesMut::from(&*written.to_bytes().expect("in memory"));
            let frame = next_frame(&mut written, usize::MAX).expect("length").expect("whole");
            let (_, again) = decode_request(frame).expect("what was written can be read");
            assert_eq!(format!("{again:?}"), format!("{request:?}"));
        }
    }
    let mut response = None;
    if let Some((head, body)) = bytes.split_at_checked(4)
        && let Some(key) = ApiKey::from_code(i16::from_be_bytes([head[0], head[1]]))
    {
        let version = i16::from_be_bytes([head[2], head[3]]);
        response = decode_response(key, version, Bytes::copy_from_slice(body)).ok();
        if let Some((id, response)) = &response {
            let _ = encode_response(version, *id, response);
        }
    }
    request.is_ok() || response.is_some()
}

/// The bytes as a socket gives them: in pieces, frame after frame.
fn read_stream(bytes: &Bytes, piece: usize) {
    let mut buffer = BytesMut::new();
    for chunk in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(chunk);
        loop {
            match next_frame(&mut buffer, 1 << 20) {
                Ok(Some(frame)) => drop(decode_request(frame)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn read_batches(bytes: &Bytes) -> bool {
    let _ = BatchHeader::read(bytes);
    let _ = patch_for_append(bytes, 5, 5, None);
    let mut any = false;
    for batch in batches(bytes).flatten() {
        let _ = batch.verify_crc();
        let header = batch.header();
        let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), header.delete_horizon());
        let Ok(mut records) = batch.records_within(1 << 20) else { continue };
        for record in records.iter().take(10_000).flatten() {
            any = true;
            assert_eq!(record.headers.to_headers().len(), record.headers.iter().count());
            let _ = parse_control(record.key, record.value);
        }
        while let Some(Ok(slot)) = records.next_slot() {
            let _ = slot.view(records.body());
        }
    }
    any
}

fn mutate_messages() {
    let mut mutator = Mutator::new(messages(), 30_000, 0.4);
    while let Some(input) = mutator.next_input() {
        let bytes = Bytes::from(input);
        let mut taken = false;
        within_its_memory("message", &bytes, mutator.seed(), || taken = read_message(&bytes));
        if taken {
            mutator.keep(bytes.into());
        }
    }
}

fn mutate_streams() {
    let framed = |body: Vec<u8>| [(body.len() as i32).to_be_bytes().to_vec(), body].concat();
    let frames: Vec<Vec<u8>> = messages().into_iter().map(framed).collect();
    let corpus = frames.chunks(3).map(<[_]>::concat).collect();
    let mut mutator = Mutator::new(corpus, 5_000, 0.2);
    while let Some(input) = mutator.next_input() {
        let bytes = Bytes::from(input);
        let piece = mutator.rng().below(200) as usize;
        within_its_memory("stream", &bytes, mutator.seed(), || read_stream(&bytes, piece));
    }
}

fn mutate_batches() {
    let corpus =
        vectors(include_str!("data/batches.json")).into_iter().map(|vector| hex_bytes(&vector["hex"]).to_vec());
    let mut mutator = Mutator::new(corpus.collect(), 20_000, 0.4);
    while let Some(input) = mutator.next_input() {
        let bytes = Bytes::from(input);
        let mut taken = false;
        within_its_memory("batches", &bytes, mutator.seed(), || taken = read_batches(&bytes));
        let codec = Compression::ALL[mutator.rng().below(Compression::ALL.len() as u64) as usize];
        within_its_memory("compressed bytes", &bytes, mutator.seed(), || {
            let _ = decompress(codec, bytes.get(61..).unwrap_or_default(), 1 << 20);
        });
        if taken {
            mutator.keep(bytes.into());
        }
    }
}

#[test]
fn damaged_bytes_are_refused_without_panic_and_without_memory_for_what_they_claim() {
    mutate_messages();
    mutate_streams();
    mutate_batches();
}
