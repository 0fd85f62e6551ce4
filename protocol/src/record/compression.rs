//! The five codecs with the framing that Kafka's Java client writes and reads.
//!
//! * gzip: RFC 1952 members. * snappy: the "xerial" stream, a 16-byte header, then length-prefixed raw blocks of at most
//!   32 KiB. * lz4: the frame format with independent 64 KiB blocks, without checksums or content size (Java refuses
//!   linked blocks). * zstd: one frame without content size.
//!
//! Reading them is the job of [`super::decompression`].

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use super::RecordError;

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

/// How a snappy stream begins.
pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// What our snappy streams begin with: magic, version, oldest version that can read it.
pub(super) const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// An error of a codec.
pub(super) fn bad(codec: Compression, reason: impl fmt::Display) -> RecordError {
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
