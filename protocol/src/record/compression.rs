//! The five codecs with the framing that Kafka's Java client writes and reads.
//!
//! * gzip: RFC 1952 members. * snappy: the "xerial" stream, a 16-byte header, then length-prefixed raw blocks of at most
//!   32 KiB. * lz4: the frame format with independent 64 KiB blocks, without checksums or content size (Java refuses
//!   linked blocks). * zstd: one frame without content size.
//!
//! Decompression stops with an error at a limit that the caller gives; what the input declares is never allocated.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::str::FromStr;

use zstd::zstd_safe;

use super::RecordError;

/// How far a batch may grow when decompressed unless the caller says otherwise: 256 MiB.
pub const DEFAULT_DECOMPRESSED_LIMIT: usize = 256 << 20;

/// A codec of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// gzip
    Gzip,
    /// snappy
    Snappy,
    /// lz4
    Lz4,
    /// zstd
    Zstd,
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in the batch's attributes.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The codec of a number in a batch's attributes.
    ///
    /// # Errors
    /// For 5 to 7, which nobody defined.
    pub const fn from_code(code: i16) -> Result<Self, RecordError> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(RecordError::UnknownCodec(code)),
        }
    }

    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = RecordError;

    fn from_str(name: &str) -> Result<Self, RecordError> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| RecordError::UnknownCodecName(name.into()))
    }
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// A raw snappy block cannot grow more than this: its best tag copies 64 bytes and takes 3.
const SNAPPY_MAX_RATIO: usize = 64;

fn bad(codec: Compression, reason: impl fmt::Display) -> RecordError {
    RecordError::BadCompression { codec, reason: reason.to_string().into() }
}

/// Appends `input`, compressed, to `output`. `level` is the codec's own; `None` for Kafka's default, and ignored by
/// codecs without levels.
///
/// # Errors
/// What the codec says; the levels of gzip and zstd are cut to their ranges.
pub fn compress(codec: Compression, level: Option<i32>, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
    let to_error = |error: io::Error| bad(codec, error);
    match codec {
        Compression::None => output.extend_from_slice(input),
        Compression::Gzip => {
            let level = match level {
                Some(level @ 0..=9) => flate2::Compression::new(level as u32),
                _ => flate2::Compression::default(),
            };
            let mut encoder = flate2::write::GzEncoder::new(output, level);
            encoder.write_all(input).map_err(to_error)?;
            encoder.finish().map_err(to_error)?;
        }
        Compression::Snappy => {
            output.extend_from_slice(&XERIAL_HEADER);
            let mut encoder = snap::raw::Encoder::new();
            for block in input.chunks(XERIAL_BLOCK_BYTES) {
                let start = output.len();
                output.resize(start + 4 + snap::raw::max_compress_len(block.len()), 0);
                let length = encoder.compress(block, &mut output[start + 4..]).map_err(|error| bad(codec, error))?;
                output[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
                output.truncate(start + 4 + length);
            }
        }
        Compression::Lz4 => {
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, output);
            encoder.write_all(input).map_err(to_error)?;
            encoder.finish().map_err(|error| bad(codec, error))?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(output, level.unwrap_or(3)).map_err(to_error)?;
            encoder.include_contentsize(false).map_err(to_error)?;
            encoder.write_all(input).map_err(to_error)?;
            encoder.finish().map_err(to_error)?;
        }
    }
    Ok(())
}

/// What `input` holds.
///
/// # Errors
/// `TooLarge` if that is more than `limit` bytes, `BadCompression` if it cannot be read.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    match codec {
        Compression::None if input.len() > limit => Err(too_large(limit)),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => decompress_gzip(input, limit),
        Compression::Snappy => decompress_snappy(input, limit),
        Compression::Lz4 => decompress_lz4(input, limit),
        Compression::Zstd => decompress_zstd(input, limit),
    }
}

fn too_large(limit: usize) -> RecordError {
    RecordError::TooLarge { what: "decompressed batch", limit: limit as u64 }
}

/// A guess from what is really there, so that typical batches are read without growing much.
fn expected(input_bytes: usize, limit: usize) -> usize {
    input_bytes.saturating_mul(3).min(limit).min(1 << 20)
}

/// Block by block out of the decoder's own buffer: `read_to_end` would clear and copy everything once more.
fn decompress_lz4(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    let mut output = Vec::with_capacity(expected(input.len(), limit));
    loop {
        let block = decoder.fill_buf().map_err(|error| bad(Compression::Lz4, error))?;
        if block.is_empty() {
            return Ok(output);
        }
        if block.len() > limit - output.len() {
            return Err(too_large(limit));
        }
        output.extend_from_slice(block);
        let taken = block.len();
        decoder.consume(taken);
    }
}

thread_local! {
    /// A context takes more time to make than a batch to read.
    static ZSTD: RefCell<zstd_safe::DCtx<'static>> = RefCell::new(zstd_safe::DCtx::create());
}

/// A context that a frame made larger, by the window that it declares, is not kept.
const ZSTD_CONTEXT_KEPT_BYTES: usize = 4 << 20;

fn decompress_zstd(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let fail = |code| bad(Compression::Zstd, zstd_safe::get_error_name(code));
    ZSTD.with_borrow_mut(|context| {
        context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(fail)?;
        let mut output: Vec<u8> = Vec::with_capacity(expected(input.len(), limit).max(1));
        let mut from = zstd_safe::InBuffer::around(input);
        loop {
            if output.len() == output.capacity() {
                // One byte above the limit is enough to see that there is more.
                let more = output.capacity().min(limit.saturating_add(1) - output.len()).max(1);
                output.reserve_exact(more);
            }
            let position = output.len();
            let missing = context
                .decompress_stream(&mut zstd_safe::OutBuffer::around_pos(&mut output, position), &mut from)
                .map_err(fail)?;
            if output.len() > limit {
                return Err(too_large(limit));
            }
            // 0: a frame has ended and all of it is there; frames may follow each other.
            if from.pos == input.len() && missing == 0 {
                break;
            }
            if from.pos == input.len() && output.len() < output.capacity() {
                return Err(RecordError::truncated("zstd frame"));
            }
        }
        if context.sizeof() > ZSTD_CONTEXT_KEPT_BYTES {
            *context = zstd_safe::DCtx::create();
        }
        Ok(output)
    })
}

fn decompress_gzip(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let mut output = Vec::with_capacity(expected(input.len(), limit));
    let mut reader = flate2::bufread::MultiGzDecoder::new(input).take(limit as u64 + 1);
    reader.read_to_end(&mut output).map_err(|error| bad(Compression::Gzip, error))?;
    if output.len() > limit { Err(too_large(limit)) } else { Ok(output) }
}

fn decompress_snappy(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let mut decoder = snap::raw::Decoder::new();
    let mut output = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        // Some clients send one raw block.
        append_snappy_block(&mut decoder, input, &mut output, limit)?;
        return Ok(output);
    }
    let mut rest = input.get(XERIAL_HEADER.len()..).ok_or(RecordError::truncated("snappy header"))?;
    while !rest.is_empty() {
        // Streams may be concatenated: a header can stand where a block's length is expected.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER.len()..).ok_or(RecordError::truncated("snappy header"))?;
            continue;
        }
        let (length, tail) = rest.split_first_chunk().ok_or(RecordError::truncated("snappy block length"))?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > tail.len() {
            return Err(RecordError::truncated("snappy block"));
        }
        let (block, tail) = tail.split_at(length);
        append_snappy_block(&mut decoder, block, &mut output, limit)?;
        rest = tail;
    }
    Ok(output)
}

fn append_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), RecordError> {
    let codec = Compression::Snappy;
    let length = snap::raw::decompress_len(block).map_err(|error| bad(codec, error))?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(bad(codec, format_args!("a block of {} bytes cannot hold {length}", block.len())));
    }
    let start = output.len();
    if length > limit.saturating_sub(start) {
        return Err(too_large(limit));
    }
    output.resize(start + length, 0);
    decoder.decompress(block, &mut output[start..]).map_err(|error| bad(codec, error))?;
    Ok(())
}
