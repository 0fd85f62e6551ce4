//! Runs a topology in memory, record by record, for tests: the same tasks, nodes and stores as in production, with a
//! queue in place of the broker.

mod collector;
mod driver;
mod input_topic;
mod output_topic;
mod produced;

pub use driver::TopologyTestDriver;
pub use input_topic::TestInputTopic;
pub use output_topic::TestOutputTopic;
pub use produced::ProducedRecord;
