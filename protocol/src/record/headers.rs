//! Record headers: [`HeadersView`] reads them where they lie in a batch, [`Headers`] owns them, [`HeadersRef`] is
//! either, for writing.
//!
//! Order and duplicates are kept. A key is UTF-8 by the protocol; where it is not, its bytes are kept in the batch and
//! read with replacement characters, as in Kafka's clients.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::RecordError;
use super::varint::{put_varint, read_varint, varint_size};

/// One header, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its key.
    pub key: Arc<str>,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Owned headers of a record. Empty ones allocate nothing; a clone is a reference until one of the two is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// How many there are, duplicates included.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Header] {
        self.0.as_ref().map_or(&[], |headers| headers.as_slice())
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.as_slice().iter()
    }

    /// Adds a header at the end, also if the key is there already.
    pub fn add(&mut self, key: impl Into<Arc<str>>, value: Option<Bytes>) -> &mut Self {
        Arc::make_mut(self.0.get_or_insert_default()).push(Header { key: key.into(), value });
        self
    }

    /// Removes all headers with this key; returns whether there were any.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(headers) = &mut self.0 else { return false };
        if !headers.iter().any(|header| &*header.key == key) {
            return false;
        }
        Arc::make_mut(headers).retain(|header| &*header.key != key);
        if headers.is_empty() {
            self.0 = None;
        }
        true
    }

    /// The last header with this key, which is the one that counts.
    pub fn last(&self, key: &str) -> Option<&Header> {
        self.iter().rev().find(|header| &*header.key == key)
    }

    /// Headers from the bytes that [`HeadersRef::encode`] writes, which are also those in a record.
    ///
    /// # Errors
    /// If they are not exactly that.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        check_headers(bytes, 0)?;
        Ok(HeadersView { bytes }.to_headers())
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(iter: I) -> Self {
        let headers: Vec<Header> = iter.into_iter().collect();
        if headers.is_empty() { Self(None) } else { Self(Some(Arc::new(headers))) }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether `bytes[position..]` are exactly one count and as many headers.
///
/// Runs once per record while iterating; a record without headers costs one comparison.
#[inline(always)]
pub(super) fn headers_are_well_formed(bytes: &[u8], position: usize) -> bool {
    bytes.get(position) == Some(&0) && position + 1 == bytes.len() || check_headers(bytes, position).is_ok()
}

/// As [`headers_are_well_formed`], with the reason if they are not.
#[inline(never)]
pub(super) fn check_headers(bytes: &[u8], mut position: usize) -> Result<(), RecordError> {
    const WHAT: &str = "record headers";
    let count = read_varint(bytes, &mut position).ok_or(RecordError::truncated(WHAT))?;
    if count < 0 {
        return Err(RecordError::corrupt("number of record headers", count));
    }
    for _ in 0..count {
        let key = read_varint(bytes, &mut position).ok_or(RecordError::truncated(WHAT))?;
        let key = usize::try_from(key).map_err(|_| RecordError::corrupt("length of a header key", key))?;
        position = position.saturating_add(key);
        let value = read_varint(bytes, &mut position).ok_or(RecordError::truncated(WHAT))?;
        // Any negative length is null, as in Kafka's reader.
        position = position.saturating_add(usize::try_from(value).unwrap_or(0));
        if position > bytes.len() {
            return Err(RecordError::truncated(WHAT));
        }
    }
    if position != bytes.len() {
        return Err(RecordError::corrupt("bytes behind the last field of a record", (bytes.len() - position) as i64));
    }
    Ok(())
}

/// Headers of a record, where they lie in the batch. Checked when the record was read, so that going through them
/// cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct HeadersView<'a> {
    /// Count and headers, as in the record; empty for none.
    bytes: &'a [u8],
}

/// One header, where it lies in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The bytes of its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl<'a> HeaderView<'a> {
    /// The key as text.
    pub fn key_str(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

impl<'a> HeadersView<'a> {
    /// No headers.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// `bytes` have passed [`check_headers`].
    pub(super) fn checked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::try_from(read_varint(self.bytes, &mut 0).unwrap_or(0)).unwrap_or(0)
    }

    /// Count and headers as they lie in the record.
    pub fn encoded(&self) -> &'a [u8] {
        if self.bytes.is_empty() { &[0] } else { self.bytes }
    }

    /// All of them, in order.
    pub fn iter(&self) -> HeadersIter<'a> {
        let mut position = 0;
        let left = read_varint(self.bytes, &mut position).unwrap_or(0);
        HeadersIter { bytes: self.bytes, position, left }
    }

    /// An owned copy.
    pub fn to_headers(&self) -> Headers {
        if self.is_empty() {
            return Headers::new();
        }
        self.iter()
            .map(|header| Header { key: header.key_str().into(), value: header.value.map(Bytes::copy_from_slice) })
            .collect()
    }
}

impl<'a> IntoIterator for HeadersView<'a> {
    type Item = HeaderView<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

/// Iterator of [`HeadersView::iter`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    bytes: &'a [u8],
    position: usize,
    left: i32,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let key = self.field()??;
        let value = self.field()?;
        Some(HeaderView { key, value })
    }
}

impl<'a> HeadersIter<'a> {
    fn field(&mut self) -> Option<Option<&'a [u8]>> {
        let length = read_varint(self.bytes, &mut self.position)?;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let field = self.bytes.get(self.position..self.position.checked_add(length)?)?;
        self.position += length;
        Some(Some(field))
    }
}

/// Headers to be written: owned ones, or those of another record as they are.
#[derive(Clone, Copy, Debug)]
pub enum HeadersRef<'a> {
    /// Owned.
    Owned(&'a Headers),
    /// In a batch.
    View(HeadersView<'a>),
}

impl HeadersRef<'_> {
    /// No headers.
    pub const EMPTY: HeadersRef<'static> = HeadersRef::View(HeadersView::EMPTY);

    /// Bytes that [`HeadersRef::encode`] will write.
    #[inline]
    pub fn encoded_size(&self) -> usize {
        match self {
            Self::View(view) => view.encoded().len(),
            Self::Owned(headers) if headers.is_empty() => 1,
            Self::Owned(headers) => headers.iter().fold(varint_size(headers.len() as i32), |size, header| {
                let value = header.value.as_deref();
                size + field_size(Some(header.key.as_bytes())) + field_size(value)
            }),
        }
    }

    /// Writes count and headers as they stand in a record, at `position`, and moves it behind; the caller has made room
    /// for [`HeadersRef::encoded_size`] bytes.
    #[inline]
    pub(super) fn put(&self, target: &mut [u8], position: &mut usize) {
        match self {
            Self::View(view) => {
                let encoded = view.encoded();
                target[*position..*position + encoded.len()].copy_from_slice(encoded);
                *position += encoded.len();
            }
            Self::Owned(headers) => {
                put_varint(target, position, headers.len() as i32);
                for header in headers.iter() {
                    put_field(target, position, Some(header.key.as_bytes()));
                    put_field(target, position, header.value.as_deref());
                }
            }
        }
    }

    /// Appends count and headers as they stand in a record.
    pub fn encode(&self, output: &mut Vec<u8>) {
        let mut position = output.len();
        output.resize(position + self.encoded_size(), 0);
        self.put(output, &mut position);
    }
}

/// Bytes of a length-prefixed nullable field. Fields longer than an `i32` are refused before they get here.
#[inline]
pub(super) fn field_size(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(field) => varint_size(field.len() as i32) + field.len(),
    }
}

#[inline]
pub(super) fn put_field(target: &mut [u8], position: &mut usize, field: Option<&[u8]>) {
    match field {
        None => put_varint(target, position, -1),
        Some(field) => {
            put_varint(target, position, field.len() as i32);
            target[*position..*position + field.len()].copy_from_slice(field);
            *position += field.len();
        }
    }
}

impl<'a> From<&'a Headers> for HeadersRef<'a> {
    fn from(headers: &'a Headers) -> Self {
        Self::Owned(headers)
    }
}

impl<'a> From<HeadersView<'a>> for HeadersRef<'a> {
    fn from(view: HeadersView<'a>) -> Self {
        Self::View(view)
    }
}
