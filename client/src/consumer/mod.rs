//! Reads topics: fetching, group membership, offsets.
