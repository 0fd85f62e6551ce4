//! Record batches (magic 2): what producers send, the log stores and consumers read, the same bytes all the way.
//!
//! [`RecordBatch`] reads a batch in place, [`Records`] and [`RecordsIter`] hand out its records lazily, borrowed from
//! the (decompressed) body; [`BatchBuilder`] writes one. [`validate_for_produce`] is what a broker checks before it
//! appends, [`patch_for_append`] the header it appends with.
//!
//! Layout: a 61-byte header ([`BatchHeader`]), then the records, compressed as one blob if a codec is set. Base
//! offset, length, leader epoch and magic lie outside the CRC, so a broker can set them without touching the rest.
//!
//! Every malformed input is a [`RecordError`]; nothing is allocated by a length that the input merely declares.
//!
//! ```
//! use protocol::record::{BatchBuilder, BuilderOptions, Compression, HeadersRef, batches};
//!
//! let mut builder = BatchBuilder::new(Compression::Lz4, BuilderOptions::default());
//! builder.append(1_700_000_000_000, Some(b"user-1"), Some(b"clicked"), HeadersRef::EMPTY)?;
//! let bytes = builder.build()?;
//!
//! for batch in batches(&bytes) {
//!     let batch = batch?;
//!     batch.verify_crc()?;
//!     for record in &batch.records()? {
//!         let record = record?;
//!         assert_eq!((record.offset, record.value), (0, Some(b"clicked".as_slice())));
//!     }
//! }
//! # Ok::<(), protocol::record::RecordError>(())
//! ```

mod batch;
mod builder;
mod compression;
mod control;
mod decompression;
mod error;
mod headers;
mod lz4_frame;
mod partition;
mod records;
mod validate;
pub mod varint;

pub use batch::{
    Attributes, BatchHeader, Batches, HEADER_SIZE, RecordBatch, TimePatch, TimestampType, batches, crc_of,
    patch_for_append,
};
pub use builder::{BatchBuilder, BuilderOptions, record_size};
pub use compression::{Compression, compress};
pub use control::{Control, ControlType, EndTransactionMarker, control_marker, parse_control};
pub use decompression::{DEFAULT_DECOMPRESSED_LIMIT, decompress};
pub use error::RecordError;
pub use headers::{Header, HeaderView, Headers, HeadersIter, HeadersRef, HeadersView};
pub use partition::{murmur2, partition_for_key};
pub use records::{RecordSlot, RecordView, Records, RecordsIter, Slots, Span};
pub use validate::{
    ProduceRules, Rejection, TimestampRule, Validated, increment_sequence, rebuild, validate_for_produce,
};
