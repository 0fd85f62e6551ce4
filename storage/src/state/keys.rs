//! Byte layouts of store keys. Big-endian; order is that of unsigned bytes.
//!
//! | key | bytes |
//! |---|---|
//! | window | `key, start (8), sequence (4)` |
//! | session | `key, end (8), start (8)` |
//! | window, time first | `00, start (8), key, sequence (4)` |
//! | session, time first | `00, end (8), start (8), key` |
//! | index beside time first | `01`, then the plain window or session key; empty value |
//! | outer join | `timestamp (8), side (01 left, 00 right), key` |
//! | foreign-key subscription | `length (4), foreign key, primary key` |
//!
//! The plain forms are what changelogs and this module's callers see; the time-first forms never leave a store.

use base::Timestamp;

/// First byte of a time-first key.
pub const TIME_FIRST: u8 = 0;
/// First byte of the index entry beside a time-first key.
pub const KEY_INDEX: u8 = 1;

/// Which two numbers follow the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `key, start (8), sequence (4)`; its time is the window's start.
    Window,
    /// `key, end (8), start (8)`; its time is the session's end.
    Session,
}

/// A plain window or session key taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// What decides the segment and expiry: window start or session end.
    pub time: Timestamp,
    /// The sequence of a window key, the start of a session key.
    pub second: i64,
}

impl KeyKind {
    /// Bytes behind the key.
    pub const fn suffix_size(self) -> usize {
        match self {
            Self::Window => 12,
            Self::Session => 16,
        }
    }

    /// Takes a plain key apart; `None` if it is too short to be one.
    pub fn parts(self, plain: &[u8]) -> Option<KeyParts<'_>> {
        let (key, suffix) = plain.split_at_checked(plain.len().checked_sub(self.suffix_size())?)?;
        let (time, second) = suffix.split_first_chunk::<8>()?;
        let second = match self {
            Self::Window => i64::from(i32::from_be_bytes(second.try_into().ok()?)),
            Self::Session => i64::from_be_bytes(second.try_into().ok()?),
        };
        Some(KeyParts { key, time: i64::from_be_bytes(*time), second })
    }

    /// Appends the time-first form of a plain key; `false` if that is too short.
    pub fn write_time_first(self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(key_size) = plain.len().checked_sub(self.suffix_size()) else { return false };
        let (key, suffix) = plain.split_at(key_size);
        out.push(TIME_FIRST);
        match self {
            Self::Window => {
                out.extend_from_slice(&suffix[..8]);
                out.extend_from_slice(key);
                out.extend_from_slice(&suffix[8..]);
            }
            Self::Session => {
                out.extend_from_slice(suffix);
                out.extend_from_slice(key);
            }
        }
        true
    }

    /// Appends the plain form of a time-first key; `false` if it is not one.
    pub fn read_time_first(self, stored: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((&TIME_FIRST, rest)) = stored.split_first() else { return false };
        if rest.len() < self.suffix_size() {
            return false;
        }
        match self {
            Self::Window => {
                let (time, rest) = rest.split_at(8);
                let (key, sequence) = rest.split_at(rest.len() - 4);
                out.extend_from_slice(key);
                out.extend_from_slice(time);
                out.extend_from_slice(sequence);
            }
            Self::Session => {
                let (times, key) = rest.split_at(16);
                out.extend_from_slice(key);
                out.extend_from_slice(times);
            }
        }
        true
    }
}

/// Key of a window store, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowKey<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// Start of the window.
    pub start: Timestamp,
    /// 0 unless the store keeps duplicates.
    pub sequence: i32,
}

impl<'a> WindowKey<'a> {
    /// Takes a window key apart; `None` if it is too short to be one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let parts = KeyKind::Window.parts(bytes)?;
        Some(Self { key: parts.key, start: parts.time, sequence: parts.second as i32 })
    }

    /// Appends the bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
        out.extend_from_slice(&self.start.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + KeyKind::Window.suffix_size());
        self.write(&mut out);
        out
    }
}

/// Key of a session store, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// Timestamp of the session's first record.
    pub start: Timestamp,
    /// Timestamp of the session's last record.
    pub end: Timestamp,
}

impl<'a> SessionKey<'a> {
    /// Takes a session key apart; `None` if it is too short to be one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let parts = KeyKind::Session.parts(bytes)?;
        Some(Self { key: parts.key, start: parts.second, end: parts.time })
    }

    /// Appends the bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key);
        out.extend_from_slice(&self.end.to_be_bytes());
        out.extend_from_slice(&self.start.to_be_bytes());
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + KeyKind::Session.suffix_size());
        self.write(&mut out);
        out
    }
}

/// Numbers the entries of a window store that keeps duplicates: 1 first, wrapping below 2^31; not kept over restarts.
#[derive(Clone, Copy, Debug, Default)]
pub struct DuplicateSequence(i32);

impl DuplicateSequence {
    /// The number of the next entry.
    pub fn advance(&mut self) -> i32 {
        self.0 = self.0.wrapping_add(1) & i32::MAX;
        self.0
    }
}

/// Appends the key of a record waiting in an outer join.
pub fn write_outer_join_key(timestamp: Timestamp, is_left: bool, key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.push(u8::from(is_left));
    out.extend_from_slice(key);
}

/// Takes the key of a record waiting in an outer join apart: timestamp, whether it is the left side's, key.
pub fn read_outer_join_key(bytes: &[u8]) -> Option<(Timestamp, bool, &[u8])> {
    let (timestamp, rest) = bytes.split_first_chunk::<8>()?;
    let (&side, key) = rest.split_first()?;
    (side <= 1).then_some((i64::from_be_bytes(*timestamp), side == 1, key))
}

/// Appends the key of a foreign-key subscription; with an empty `primary` it is the prefix of all of `foreign`'s.
pub fn write_subscription_key(foreign: &[u8], primary: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(foreign.len() as u32).to_be_bytes());
    out.extend_from_slice(foreign);
    out.extend_from_slice(primary);
}

/// Takes the key of a foreign-key subscription apart: foreign key, primary key.
pub fn read_subscription_key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*size) as usize)
}
