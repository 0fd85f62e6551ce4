//! Walks the batches of a `.log` file: headers only, or whole batches with their checksum.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use protocol::record::{BatchHeader, HEADER_SIZE, RecordBatch, RecordError};

use super::file_cache::OpenFile;

/// Read at once when only headers are wanted: two index intervals.
const HEADER_CHUNK: usize = 8 * 1024;
/// Read at once when whole batches are wanted.
const BATCH_CHUNK: usize = 256 * 1024;

/// Why a walk ended before the end of the file.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The file cannot be read.
    Io(io::Error),
    /// The bytes at `position` are no batch.
    Corrupt { position: u64, reason: String },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn corrupt(position: u64, reason: &RecordError) -> ScanError {
    ScanError::Corrupt { position, reason: reason.to_string() }
}

/// A walk over the batches of a file from `position` to `end`, both borders of batches (unless the file is torn).
pub(super) struct Scan {
    file: Arc<OpenFile>,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl Scan {
    pub(super) fn new(file: Arc<OpenFile>, position: u64, end: u64) -> Self {
        Self { file, position, end, buffer: Vec::new(), buffer_start: position }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's position and header, and whether all of it lies before the end; moves behind it.
    pub(super) fn next_header(&mut self) -> Result<Option<(u64, BatchHeader)>, ScanError> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        let wanted = left.min(HEADER_SIZE as u64) as usize;
        self.fill(wanted, HEADER_CHUNK)?;
        let start = (self.position - self.buffer_start) as usize;
        let header = BatchHeader::read(&self.buffer[start..]).map_err(|error| corrupt(self.position, &error))?;
        if header.size_bytes() as u64 > left {
            return Err(ScanError::Corrupt {
                position: self.position,
                reason: format!("a batch of {} bytes, but {left} are left", header.size_bytes()),
            });
        }
        let position = self.position;
        self.position += header.size_bytes() as u64;
        Ok(Some((position, header)))
    }

    /// The next whole batch and where it begins; its checksum is not looked at.
    pub(super) fn next_batch(&mut self) -> Result<Option<(u64, RecordBatch)>, ScanError> {
        let position = self.position;
        let Some((_, header)) = self.next_header()? else { return Ok(None) };
        self.position = position;
        self.fill(header.size_bytes(), BATCH_CHUNK)?;
        let start = (position - self.buffer_start) as usize;
        let bytes = Bytes::copy_from_slice(&self.buffer[start..start + header.size_bytes()]);
        self.position = position + header.size_bytes() as u64;
        let batch = RecordBatch::new(bytes).map_err(|error| corrupt(position, &error))?;
        Ok(Some((position, batch)))
    }

    /// Makes the buffer hold `wanted` bytes from the current position, reading at least `chunk` if it must read.
    fn fill(&mut self, wanted: usize, chunk: usize) -> io::Result<()> {
        let buffered_end = self.buffer_start + self.buffer.len() as u64;
        if self.position >= self.buffer_start && self.position + wanted as u64 <= buffered_end {
            return Ok(());
        }
        let len = (wanted.max(chunk) as u64).min(self.end - self.position) as usize;
        self.buffer.resize(len, 0);
        self.buffer_start = self.position;
        self.file.0.read_exact_at(&mut self.buffer, self.position)
    }
}
