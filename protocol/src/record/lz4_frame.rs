//! Reads the lz4 frames that producers write, block by block to where the records are read: independent blocks without
//! checksums, as those of the Java client. Other frames (linked blocks, checksums, dictionaries) go to the library's
//! reader, which takes memory for each frame and copies once more.
//!
//! Layout of a frame: magic (4 bytes), flags, largest block, [content size (8)], check byte of these, then blocks, each
//! behind its length (4, the highest bit for "not compressed"), and a length of 0. All little-endian.
//! Source: lz4 frame format 1.6.4.

use std::io::BufRead;

use super::RecordError;
use super::compression::{Compression, bad};
use super::decompression::{Buffer, too_large};

const MAGIC: u32 = 0x184D_2204;
/// Version 1 and independent blocks: what the flags must say, all others but the content size unset.
const PLAIN: u8 = 0b0110_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const NOT_COMPRESSED: u32 = 1 << 31;
/// A block cannot grow more than this: a byte of a length adds 255 bytes.
const MAX_RATIO: usize = 255;

/// Writes what a frame holds into `buffer`; how many bytes that is.
pub(super) fn decompress(input: &[u8], limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
    match plain_frame(input) {
        Some(frame) => frame.read(limit, buffer),
        None => read_any_frame(input, limit, buffer),
    }
}

struct PlainFrame<'a> {
    blocks: &'a [u8],
    max_block: usize,
    content_size: Option<u64>,
}

/// The frame, if it is of the plain kind and its header is right.
fn plain_frame(input: &[u8]) -> Option<PlainFrame<'_>> {
    let (magic, rest) = input.split_first_chunk()?;
    let flags = *rest.first()?;
    if u32::from_le_bytes(*magic) != MAGIC || flags & !CONTENT_SIZE != PLAIN {
        return None;
    }
    let max_block = match *rest.get(1)? {
        0x40 => 64 << 10,
        0x50 => 256 << 10,
        0x60 => 1 << 20,
        0x70 => 4 << 20,
        _ => return None,
    };
    let with_size = flags & CONTENT_SIZE != 0;
    let (descriptor, rest) = rest.split_at_checked(if with_size { 10 } else { 2 })?;
    let content_size = if with_size { Some(u64::from_le_bytes(*descriptor.last_chunk()?)) } else { None };
    let (check, blocks) = rest.split_first()?;
    let expected = (twox_hash::XxHash32::oneshot(0, descriptor) >> 8) as u8;
    (*check == expected).then_some(PlainFrame { blocks, max_block, content_size })
}

impl PlainFrame<'_> {
    fn read(self, limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
        let mut rest = self.blocks;
        let mut length = 0;
        loop {
            let (head, tail) = rest.split_first_chunk().ok_or(RecordError::truncated("lz4 block length"))?;
            let head = u32::from_le_bytes(*head);
            if head == 0 {
                return match self.content_size {
                    Some(size) if size != length as u64 => {
                        Err(bad(Compression::Lz4, format_args!("a frame of {size} bytes holds {length}")))
                    }
                    _ => Ok(length),
                };
            }
            let size = (head & !NOT_COMPRESSED) as usize;
            if size > self.max_block {
                let reason = format_args!("a block of {size} bytes in a frame of blocks of {}", self.max_block);
                return Err(bad(Compression::Lz4, reason));
            }
            let (block, tail) = tail.split_at_checked(size).ok_or(RecordError::truncated("lz4 block"))?;
            length = self.append(block, head & NOT_COMPRESSED != 0, limit, buffer, length)?;
            rest = tail;
        }
    }

    /// Decodes a block behind the first `start` bytes; how many there are then.
    fn append(
        &self,
        block: &[u8],
        stored: bool,
        limit: usize,
        buffer: &mut Buffer,
        start: usize,
    ) -> Result<usize, RecordError> {
        let room = if stored { block.len() } else { self.max_block.min(block.len().saturating_mul(MAX_RATIO)) };
        let left = limit - start;
        let end = start + room.min(left);
        let free = &mut buffer.up_to(end)[start..end];
        if stored {
            if block.len() > left {
                return Err(too_large(limit));
            }
            free.copy_from_slice(block);
            return Ok(end);
        }
        match lz4_flex::block::decompress_into(block, free) {
            Ok(size) => Ok(start + size),
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room > left => Err(too_large(limit)),
            Err(error) => Err(bad(Compression::Lz4, error)),
        }
    }
}

fn read_any_frame(input: &[u8], limit: usize, buffer: &mut Buffer) -> Result<usize, RecordError> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    let mut length = 0;
    loop {
        let block = decoder.fill_buf().map_err(|error| bad(Compression::Lz4, error))?;
        if block.is_empty() {
            return Ok(length);
        }
        if block.len() > limit - length {
            return Err(too_large(limit));
        }
        let end = length + block.len();
        buffer.up_to(end)[length..end].copy_from_slice(block);
        let taken = block.len();
        decoder.consume(taken);
        length = end;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn framed(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn read(
        by: fn(&[u8], usize, &mut Buffer) -> Result<usize, RecordError>,
        frame: &[u8],
        limit: usize,
    ) -> Option<Vec<u8>> {
        let mut buffer = Buffer::default();
        let length = by(frame, limit, &mut buffer).ok()?;
        Some(buffer.up_to(length)[..length].to_vec())
    }

    /// Letters with repetitions, longer than the largest block.
    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| b'a' + ((at * at) >> 7) as u8 % 26).collect()
    }

    #[test]
    fn all_kinds_of_frames_are_read() {
        for length in [0, 1, 1000, 64 << 10, (64 << 10) + 1, 300_000, 5 << 20] {
            let bytes = text(length);
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
                for mode in [BlockMode::Independent, BlockMode::Linked] {
                    for (block_sums, content_sum, content_size) in [
                        (false, false, None),
                        (true, false, None),
                        (false, true, None),
                        (false, false, Some(length as u64)),
                    ] {
                        let info = FrameInfo::new()
                            .block_size(size)
                            .block_mode(mode)
                            .block_checksums(block_sums)
                            .content_checksum(content_sum)
                            .content_size(content_size);
                        let plain = mode == BlockMode::Independent && !block_sums && !content_sum;
                        let frame = framed(info, &bytes);
                        assert_eq!(plain_frame(&frame).is_some(), plain);
                        assert!(read(decompress, &frame, length) == Some(bytes.clone()), "{length} {size:?} {mode:?}");
                        let cut = read(decompress, &frame[..frame.len() - 1], length);
                        assert!(!plain || cut.is_none(), "{length} {size:?} {mode:?}");
                        if length > 0 {
                            let too_large = decompress(&frame, length - 1, &mut Buffer::default());
                            assert!(matches!(too_large, Err(RecordError::TooLarge { .. })), "{too_large:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_that_holds_less_than_it_says_is_refused() {
        let mut frame = framed(FrameInfo::new().content_size(Some(10)), b"0123456789");
        assert_eq!(read(decompress, &frame, 100).as_deref(), Some(b"0123456789".as_slice()));
        frame[6] = 11;
        frame[14] = (twox_hash::XxHash32::oneshot(0, &frame[4..14]) >> 8) as u8;
        assert!(matches!(decompress(&frame, 100, &mut Buffer::default()), Err(RecordError::BadCompression { .. })));
    }

    proptest! {
        #[test]
        fn changed_frames_are_read_as_the_library_reads_them(
            length in 0..2000_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut frame = framed(FrameInfo::new().block_size(BlockSize::Max64KB), &text(length));
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            prop_assert_eq!(read(decompress, &frame, 1 << 20), read(read_any_frame, &frame, 1 << 20));
        }
    }
}
