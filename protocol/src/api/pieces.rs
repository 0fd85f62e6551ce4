//! Record bytes that may lie in memory or in a file: what Produce and Fetch carry, so that a fetch answer can go from
//! the page cache to the socket without a copy, and an in-process one without an encoding.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// A raw file descriptor for `sendfile`; only meaningful on Unix.
#[cfg(unix)]
pub type RawFd = std::os::fd::RawFd;
/// A raw file descriptor; there is none on this platform.
#[cfg(not(unix))]
pub type RawFd = i32;

/// A file that can be read at a position by any number of readers.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from `position`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends first.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// The descriptor to hand to `sendfile`, if there is a real file behind this.
    fn raw_fd(&self) -> Option<RawFd>;
}

/// One stretch of bytes.
#[derive(Clone)]
pub enum Piece {
    /// In memory.
    Memory(Bytes),
    /// In a file, to be read or sent when needed.
    File {
        /// The file; holding it keeps the bytes alive.
        segment: Arc<dyn ReadAt>,
        /// First byte.
        position: u64,
        /// Number of bytes.
        length: usize,
    },
}

impl Piece {
    /// Number of bytes.
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { length, .. } => *length,
        }
    }

    /// The bytes; shared if in memory, read if in a file.
    ///
    /// # Errors
    /// What reading the file says.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { segment, position, length } => {
                let mut buffer = vec![0; *length];
                segment.read_exact_at(&mut buffer, *position)?;
                Ok(buffer.into())
            }
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
            Self::File { position, length, .. } => write!(f, "File({length} bytes at {position})"),
        }
    }
}

/// A sequence of [`Piece`]s that reads as one run of bytes. Holds no empty piece.
#[derive(Clone, Default)]
pub struct Pieces(SmallVec<[Piece; 2]>);

impl Pieces {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes.
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(Piece::len_bytes).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pieces in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Piece> {
        self.0.iter()
    }

    /// Adds a piece at the end; an empty one is dropped.
    pub fn push(&mut self, piece: Piece) {
        if piece.len_bytes() > 0 {
            self.0.push(piece);
        }
    }

    /// Adds bytes at the end.
    pub fn push_bytes(&mut self, bytes: Bytes) {
        self.push(Piece::Memory(bytes));
    }

    /// All bytes as one run: without a copy if they are one piece in memory.
    ///
    /// # Errors
    /// What reading a file says.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self.0.as_slice() {
            [] => Ok(Bytes::new()),
            [piece] => piece.to_bytes(),
            _ => {
                let mut buffer = vec![0; self.len_bytes()];
                self.read_into(&mut buffer)?;
                Ok(buffer.into())
            }
        }
    }

    /// Copies all bytes into `buffer`, which must be as long as they are.
    ///
    /// # Errors
    /// What reading a file says; `InvalidInput` if the lengths differ.
    pub fn read_into(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        if buffer.len() != self.len_bytes() {
            let message = format!("a buffer of {} bytes for {} bytes", buffer.len(), self.len_bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        for piece in self {
            let (target, rest) = buffer.split_at_mut(piece.len_bytes());
            match piece {
                Piece::Memory(bytes) => target.copy_from_slice(bytes),
                Piece::File { segment, position, .. } => segment.read_exact_at(target, *position)?,
            }
            buffer = rest;
        }
        Ok(())
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut pieces = Self::new();
        pieces.push_bytes(bytes);
        pieces
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Piece> for Pieces {
    fn from(piece: Piece) -> Self {
        let mut pieces = Self::new();
        pieces.push(piece);
        pieces
    }
}

impl FromIterator<Piece> for Pieces {
    fn from_iter<I: IntoIterator<Item = Piece>>(iter: I) -> Self {
        let mut pieces = Self::new();
        for piece in iter {
            pieces.push(piece);
        }
        pieces
    }
}

impl IntoIterator for Pieces {
    type Item = Piece;
    type IntoIter = smallvec::IntoIter<[Piece; 2]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Pieces {
    type Item = &'a Piece;
    type IntoIter = std::slice::Iter<'a, Piece>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The same bytes, however they are cut; unreadable files are equal to nothing. For tests and debug checks: it reads.
impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        match (self.to_bytes(), other.to_bytes()) {
            (Ok(left), Ok(right)) => left == right,
            _ => false,
        }
    }
}

impl Eq for Pieces {}

/// Collects a message: plain fields into a growing buffer, records as pieces of their own between them.
#[derive(Default)]
pub(crate) struct PieceWriter {
    pieces: Pieces,
    pub(crate) buffer: BytesMut,
}

impl PieceWriter {
    /// Adds `records` behind what has been written so far, without copying them.
    pub(crate) fn put_pieces(&mut self, records: &Pieces) {
        // A short piece is cheaper copied than sent as a buffer of its own.
        const COPY_BELOW: usize = 512;
        for piece in records {
            match piece {
                Piece::Memory(bytes) if bytes.len() < COPY_BELOW => self.buffer.put_slice(bytes),
                _ => {
                    self.flush();
                    self.pieces.push(piece.clone());
                }
            }
        }
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            let bytes = self.buffer.split().freeze();
            self.pieces.push_bytes(bytes);
        }
    }

    /// All that was written.
    pub(crate) fn finish(mut self) -> Pieces {
        self.flush();
        self.pieces
    }
}
