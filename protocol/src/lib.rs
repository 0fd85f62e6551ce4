//! What is on the wire, and on disk in the log: record batches ([`record`]), typed requests ([`api`]), frames
//! ([`frame`]) and the [`transport`] seam that carries them.
//!
//! Knows no files, sockets or partitions.

pub mod transport;
pub mod api {
    //! Requests and responses.
    /// A request.
    #[derive(Clone, Debug)]
    pub enum Request {}
    /// A response.
    #[derive(Clone, Debug)]
    pub enum Response {}
}
