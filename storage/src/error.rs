//! The error of this crate, cut by what the caller can do about it.
