//! The Processor API: what user code implements ([`api`]), what it is handed ([`context`]), how nodes are joined
//! ([`chain`]), schedules ([`punctuation`]), processors that keep the key ([`fixed_key`]), timestamps of source records ([`extractor`]) and what happens to errors
//! ([`handlers`]), and what stands around all processors ([`wrapper`]).

pub mod api;
pub mod chain;
pub mod context;
pub mod extractor;
pub mod fixed_key;
pub mod handlers;
pub mod punctuation;
pub mod wrapper;

pub use api::{Processor, ProcessorSupplier, WithStores};
pub use chain::{Children, Receive};
pub use context::{ProcessorContext, RecordMetadata};
pub use extractor::{
    DefaultExtractor, FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, SourceRecord, TimestampExtractor,
    UsePartitionTime, WallclockTimestamp,
};
pub use fixed_key::{FixedKey, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, FixedKeySupplier};
pub use handlers::{
    DeadLetter, DeserializationHandler, ErrorContext, ErrorResponse, ErrorResult, LogAndContinue, LogAndFail,
    ProcessingHandler, ProductionHandler,
};
pub use punctuation::{PunctuationType, ScheduleId};
pub use wrapper::{Next, ProcessorCall, ProcessorWrapper};
