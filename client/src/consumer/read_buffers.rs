//! Buffers that fetched record batches are read into when they come as stretches of files: the embedded broker's
//! answers.
//!
//! A buffer is read into again once nobody holds its bytes any more. Fresh memory for each answer costs more than the
//! reading itself: the allocator clears it, and the kernel clears each page before.

use std::io;

use bytes::{Bytes, BytesMut};
use protocol::api::{Piece, Pieces};

/// About as many answers as are held at once: that of each partition of a stream thread with a few tasks.
const MOST_BUFFERS: usize = 8;
/// Larger ones, which only partitions with huge batches need, are not kept.
const LARGEST_KEPT_BYTES: usize = 2 << 20;
/// Answers vary in size: room for a larger one saves the next buffer.
const SIZE_STEP_BYTES: usize = 64 << 10;

/// The buffers of one fetcher.
#[derive(Default)]
pub(super) struct ReadBuffers {
    /// At full length, whatever part of them was handed out.
    kept: Vec<Bytes>,
}

impl ReadBuffers {
    /// All bytes of `pieces` as one run: shared if they are in memory, read otherwise.
    ///
    /// # Errors
    /// What reading the file says.
    pub(super) fn read(&mut self, pieces: &Pieces) -> io::Result<Bytes> {
        let mut all = pieces.iter();
        match (all.next(), all.next()) {
            (None, _) | (Some(Piece::Memory(_)), None) => return pieces.to_bytes(),
            _ => {}
        }
        let length = pieces.len_bytes();
        if length > LARGEST_KEPT_BYTES {
            return pieces.to_bytes();
        }
        let mut buffer = self.take();
        if buffer.len() < length {
            buffer.resize(length.next_multiple_of(SIZE_STEP_BYTES), 0);
        }
        let read = pieces.read_into(&mut buffer[..length]);
        let buffer = buffer.freeze();
        let bytes = buffer.slice(..length);
        self.keep(buffer);
        read.map(|()| bytes)
    }

    /// A buffer that nobody holds any more, else a new one.
    fn take(&mut self) -> BytesMut {
        match self.kept.iter().position(Bytes::is_unique) {
            Some(index) => self.kept.swap_remove(index).try_into_mut().unwrap_or_default(),
            None => BytesMut::new(),
        }
    }

    fn keep(&mut self, buffer: Bytes) {
        if self.kept.len() < MOST_BUFFERS {
            self.kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use protocol::api::{RawFd, ReadAt};

    use super::*;

    struct Letters;

    impl ReadAt for Letters {
        fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = b'a' + ((position as usize + index) % 26) as u8;
            }
            Ok(())
        }

        fn raw_fd(&self) -> Option<RawFd> {
            None
        }
    }

    fn at(position: u64, length: usize) -> Pieces {
        Piece::File { segment: Arc::new(Letters), position, length }.into()
    }

    #[test]
    fn bytes_that_are_held_stay_and_those_let_go_are_read_over() {
        let mut buffers = ReadBuffers::default();
        let first = buffers.read(&at(0, 3)).unwrap();
        let second = buffers.read(&at(3, 3)).unwrap();
        assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"def"[..]));
        let place = first.as_ptr();
        drop(first);
        let third = buffers.read(&at(25, 4)).unwrap();
        assert_eq!((&third[..], &second[..]), (&b"zabc"[..], &b"def"[..]));
        assert_eq!(third.as_ptr(), place, "a buffer that is free is not used again");
    }

    #[test]
    fn no_more_buffers_are_kept_than_said() {
        let mut buffers = ReadBuffers::default();
        let held: Vec<_> = (0..3 * MOST_BUFFERS).map(|_| buffers.read(&at(1, 2)).unwrap()).collect();
        assert!(held.iter().all(|bytes| &bytes[..] == b"bc"));
        assert_eq!(buffers.kept.len(), MOST_BUFFERS);
        let large = buffers.read(&at(0, LARGEST_KEPT_BYTES + 1)).unwrap();
        assert_eq!((large.len(), buffers.kept.len()), (LARGEST_KEPT_BYTES + 1, MOST_BUFFERS));
    }

    #[test]
    fn pieces_of_both_kinds_are_joined_and_memory_is_shared() {
        let mut buffers = ReadBuffers::default();
        let mut both = at(0, 2);
        both.push_bytes(Bytes::from_static(b"-"));
        assert_eq!(&buffers.read(&both).unwrap()[..], b"ab-");
        let memory = Bytes::from_static(b"memory");
        assert_eq!(buffers.read(&memory.clone().into()).unwrap().as_ptr(), memory.as_ptr());
    }
}
