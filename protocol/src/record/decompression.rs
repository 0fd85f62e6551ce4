//! Reads what the codecs of [`Compression`] wrote: into a buffer of the thread for whoever looks at the records once
//! and lets go (a broker), into memory of its own for whoever keeps them (a consumer).
//!
//! Decompression stops with an error at a limit that the caller gives; what the input declares is never allocated, only
//! what the bytes that are there can become.

use std::cell::{Cell, RefCell};
use std::io::Read;

use zstd::zstd_safe;

use super::compression::{Compression, XERIAL_HEADER, XERIAL_MAGIC, bad};
use super::{RecordError, lz4_frame};

/// How far a batch may grow when decompressed unless the caller says otherwise: 256 MiB.
pub const DEFAULT_DECOMPRESSED_LIMIT: usize = 256 << 20;

/// A raw snappy block cannot grow more than this: its best tag copies 64 bytes and takes 3.
const SNAPPY_MAX_RATIO: usize = 64;
/// What a buffer begins with.
const SMALLEST_ROOM: usize = 64 << 10;
/// A buffer that a batch made larger is not kept.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

thread_local! {
    /// Filled and looked at batch after batch: fresh memory for each would cost more than many a codec.
    static BUFFER: Cell<Buffer> = const { Cell::new(Buffer { bytes: Vec::new() }) };
    /// A context takes more time to make than a batch to read.
    static ZSTD: RefCell<zstd_safe::DCtx<'static>> = RefCell::new(zstd_safe::DCtx::create());
}

/// Memory that only grows, and is cleared once: decoders write over it.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// At least `end` bytes.
    pub(super) fn up_to(&mut self, end: usize) -> &mut [u8] {
        if self.bytes.len() < end {
            self.bytes.resize(end.max(self.bytes.len() * 2), 0);
        }
        &mut self.bytes
    }

    /// A guess from what is really there, so that typical batches are read at the first try.
    fn room_for(&self, input: &[u8]) -> usize {
        self.bytes
            .len()
            .max(input.len().saturating_mul(4))
            .clamp(SMALLEST_ROOM, BUFFER_KEPT_BYTES.max(self.bytes.len()))
    }
}

/// What `input` holds.
///
/// # Errors
/// `TooLarge` if that is more than `limit` bytes, `BadCompression` if it cannot be read.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    with_decompressed(codec, input, limit, <[u8]>::to_vec)
}

/// Hands to `look` what `input` holds, in memory that is used again afterwards.
///
/// # Errors
/// As [`decompress`].
pub(super) fn with_decompressed<T>(
    codec: Compression,
    input: &[u8],
    limit: usize,
    look: impl FnOnce(&[u8]) -> T,
) -> Result<T, RecordError> {
    if codec == Compression::None {
        return if input.len() > limit { Err(too_large(limit)) } else { Ok(look(input)) };
    }
    // Taken, not borrowed: `look` may decompress another batch.
    let mut buffer = BUFFER.take();
    let length = match codec {
        Compression::None => Ok(0),
        Compression::Gzip => decompress_gzip(input, limit, &mut buffer),
        Compression::Snappy => decompress_snappy(input, limit, &mut buffer),
        Compression::Lz4 => lz4_frame::decompress(input, limit, &mut buffer),
        Compression::Zstd => decompress_zstd(input, limit, &mut buffer),
    };
    let outcome = length.map(|length| look(&buffer.bytes[..length]));
    if buffer.bytes.len() <= BUFFER_KEPT_BYTES {
        BUFFER.set(buffer);
    }
    outcome
}

/// More bytes came out than the caller wants.
pub(super) fn too_large(limit: usize) -> RecordError {
    RecordError::TooLarge { what: "decompressed batch", limit: limit as u64 }
}

/// What zstd says when a frame holds more than there is room for.
const ZSTD_NO_ROOM: zstd_safe::ErrorCode = 70usize.wrapping_neg();
/// What it says when a frame is cut.
const ZSTD_CUT: zstd_safe::ErrorCode = 72usize.wrapping_neg();

/// All frames at once, straight to where the records are read: Java's frames do not say how much they hold, so a stream
/// would be decoded into a window first and copied from there.
fn decompress_zstd(input: &[u8], limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
    if input.is_empty() {
        return Ok(0);
    }
    // One byte above the limit is enough to see that there is more.
    let most = limit.saturating_add(1);
    let mut room = buffer.room_for(input).min(most);
    loop {
        let result = ZSTD.with_borrow_mut(|context| context.decompress(&mut buffer.up_to(room)[..room], input));
        match result {
            Ok(length) if length <= limit => return Ok(length),
            Err(ZSTD_NO_ROOM) if room < most => room = room.saturating_mul(4).min(most),
            Ok(_) | Err(ZSTD_NO_ROOM) => return Err(too_large(limit)),
            Err(ZSTD_CUT) => return Err(RecordError::truncated("zstd frame")),
            Err(code) => return Err(bad(Compression::Zstd, zstd_safe::get_error_name(code))),
        }
    }
}

fn decompress_gzip(input: &[u8], limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
    let mut reader = flate2::bufread::MultiGzDecoder::new(input);
    let most = limit.saturating_add(1);
    let mut room = buffer.room_for(input).min(most);
    let mut length = 0;
    loop {
        let free = &mut buffer.up_to(room)[length..room];
        let read = reader.read(free).map_err(|error| bad(Compression::Gzip, error))?;
        length += read;
        if length > limit {
            return Err(too_large(limit));
        }
        if read == 0 {
            return Ok(length);
        }
        if length == room {
            room = room.saturating_mul(2).min(most);
        }
    }
}

fn decompress_snappy(input: &[u8], limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
    let mut decoder = snap::raw::Decoder::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        // Some clients send one raw block.
        return append_snappy_block(&mut decoder, input, buffer, 0, limit);
    }
    let mut length = 0;
    let mut rest = input.get(XERIAL_HEADER.len()..).ok_or(RecordError::truncated("snappy header"))?;
    while !rest.is_empty() {
        // Streams may be concatenated: a header can stand where a block's length is expected.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER.len()..).ok_or(RecordError::truncated("snappy header"))?;
            continue;
        }
        let (block_length, tail) = rest.split_first_chunk().ok_or(RecordError::truncated("snappy block length"))?;
        let block_length = u32::from_be_bytes(*block_length) as usize;
        let (block, tail) = tail.split_at_checked(block_length).ok_or(RecordError::truncated("snappy block"))?;
        length = append_snappy_block(&mut decoder, block, buffer, length, limit)?;
        rest = tail;
    }
    Ok(length)
}

/// Decodes a block behind the first `start` bytes; how many there are then.
fn append_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    buffer: &mut Buffer,
    start: usize,
    limit: usize,
) -> Result<usize, RecordError> {
    let codec = Compression::Snappy;
    let length = snap::raw::decompress_len(block).map_err(|error| bad(codec, error))?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(bad(codec, format_args!("a block of {} bytes cannot hold {length}", block.len())));
    }
    if length > limit.saturating_sub(start) {
        return Err(too_large(limit));
    }
    let end = start + length;
    decoder.decompress(block, &mut buffer.up_to(end)[start..end]).map_err(|error| bad(codec, error))?;
    Ok(end)
}
