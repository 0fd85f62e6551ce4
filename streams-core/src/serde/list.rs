//! Lists: Kafka's `ListSerde`.
//!
//! Entries of a fixed size are written one after another behind the positions of nulls; of others each has its length in front.

use protocol::record::Headers;
use uuid::Uuid;

use super::{Serde, SerdeError, SerdeRef};

const TYPE_NAME: &str = "list";
const FIXED: u8 = 0;
const VARIABLE: u8 = 1;
const NULL_LENGTH: i32 = -1;

/// Types that Kafka writes into lists without their length.
pub trait FixedSize {
    /// Number of bytes.
    const BYTES: usize;
}

macro_rules! fixed_size {
    ($($type:ty: $bytes:literal),*) => {
        $(impl FixedSize for $type {
            const BYTES: usize = $bytes;
        })*
    };
}

fixed_size!(i16: 2, i32: 4, i64: 8, f32: 4, f64: 8, Uuid: 36);

/// Lists whose entries may be null.
///
/// ```
/// use streams_core::serde::{I32Serde, ListSerde};
/// use streams_core::{Headers, Serde};
///
/// let (serde, mut bytes) = (ListSerde::fixed(I32Serde), Vec::new());
/// serde.serialize("topic", &Headers::default(), &vec![Some(1), Some(2), None], &mut bytes)?;
/// assert_eq!(serde.deserialize("topic", &Headers::default(), &bytes)?, [Some(1), Some(2), None]);
/// # Ok::<(), streams_core::SerdeError>(())
/// ```
pub struct ListSerde<T> {
    inner: SerdeRef<T>,
    /// Size of each entry, if it is fixed.
    size: Option<usize>,
}

impl<T> Clone for ListSerde<T> {
    fn clone(&self) -> Self {
        Self { inner: SerdeRef::clone(&self.inner), size: self.size }
    }
}

impl<T> ListSerde<T> {
    /// Entries of one size.
    pub fn fixed(inner: impl Serde<T> + 'static) -> Self
    where
        T: FixedSize,
    {
        Self { inner: inner.into_ref(), size: Some(T::BYTES) }
    }

    /// Entries of any size.
    pub fn variable(inner: impl Serde<T> + 'static) -> Self {
        Self { inner: inner.into_ref(), size: None }
    }
}

fn count(number: usize) -> Result<[u8; 4], SerdeError> {
    match i32::try_from(number) {
        Ok(number) => Ok(number.to_be_bytes()),
        Err(_) => Err(malformed(format!("{number} is too large a number of entries or bytes"))),
    }
}

fn malformed(reason: String) -> SerdeError {
    SerdeError::Malformed { type_name: TYPE_NAME, reason }
}

/// The bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SerdeError> {
        match self.0.split_at_checked(length) {
            Some((head, rest)) => {
                self.0 = rest;
                Ok(head)
            }
            None => Err(SerdeError::Size { type_name: TYPE_NAME, expected: length, actual: self.0.len() }),
        }
    }

    fn int(&mut self) -> Result<i32, SerdeError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | i32::from(*byte)))
    }

    fn count(&mut self) -> Result<usize, SerdeError> {
        let number = self.int()?;
        usize::try_from(number).map_err(|_| malformed(format!("the count {number} is negative")))
    }
}

impl<T> Serde<Vec<Option<T>>> for ListSerde<T> {
    fn serialize(
        &self,
        topic: &str,
        headers: &Headers,
        list: &Vec<Option<T>>,
        out: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        if self.size.is_some() {
            out.push(FIXED);
            let nulls: Vec<usize> = (0..list.len()).filter(|index| list[*index].is_none()).collect();
            out.extend(count(nulls.len())?);
            for index in nulls {
                out.extend(count(index)?);
            }
            out.extend(count(list.len())?);
            return list.iter().flatten().try_for_each(|entry| self.inner.serialize(topic, headers, entry, out));
        }
        out.push(VARIABLE);
        out.extend(count(list.len())?);
        for entry in list {
            let Some(entry) = entry else {
                out.extend(NULL_LENGTH.to_be_bytes());
                continue;
            };
            let start = out.len();
            out.extend([0; 4]);
            self.inner.serialize(topic, headers, entry, out)?;
            let length = count(out.len() - start - 4)?;
            out[start..start + 4].copy_from_slice(&length);
        }
        Ok(())
    }

    fn deserialize(&self, topic: &str, headers: &Headers, bytes: &[u8]) -> Result<Vec<Option<T>>, SerdeError> {
        let mut reader = Reader(bytes);
        let kind = reader.take(1)?;
        let mut list = Vec::new();
        match (kind, self.size) {
            ([FIXED], Some(size)) => {
                let mut nulls = Vec::new();
                for _ in 0..reader.count()? {
                    nulls.push(reader.count()?);
                }
                for index in 0..reader.count()? {
                    if nulls.contains(&index) {
                        list.push(None);
                    } else {
                        list.push(Some(self.inner.deserialize(topic, headers, reader.take(size)?)?));
                    }
                }
            }
            ([VARIABLE], _) => {
                for _ in 0..reader.count()? {
                    match reader.int()? {
                        NULL_LENGTH => list.push(None),
                        length => {
                            let length = usize::try_from(length)
                                .map_err(|_| malformed(format!("the length {length} is negative")))?;
                            list.push(Some(self.inner.deserialize(topic, headers, reader.take(length)?)?));
                        }
                    }
                }
            }
            (kind, _) => return Err(malformed(format!("the form {kind:?} is another than that of this serde"))),
        }
        match reader.0 {
            [] => Ok(list),
            rest => Err(malformed(format!("{} bytes follow the last entry", rest.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{I32Serde, StringSerde, UuidSerde};
    use super::*;

    fn there_and_back<T: PartialEq + std::fmt::Debug>(serde: &ListSerde<T>, list: Vec<Option<T>>) -> String {
        let mut bytes = Vec::new();
        serde.serialize("t", &Headers::default(), &list, &mut bytes).unwrap();
        assert_eq!(serde.deserialize("t", &Headers::default(), &bytes).unwrap(), list);
        for end in 0..bytes.len() {
            assert!(serde.deserialize("t", &Headers::default(), &bytes[..end]).is_err(), "cut at {end}");
        }
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn bytes_are_those_of_kafka() {
        let numbers = ListSerde::fixed(I32Serde);
        let bytes = there_and_back(&numbers, vec![Some(1), Some(2), None]);
        assert_eq!(bytes, "000000000100000002000000030000000100000002");
        assert_eq!(there_and_back(&numbers, Vec::new()), "000000000000000000");
        let texts = ListSerde::variable(StringSerde);
        let bytes = there_and_back(&texts, vec![Some("a".to_owned()), None, Some("bcd".to_owned())]);
        assert_eq!(bytes, "01000000030000000161ffffffff00000003626364");
        let id = Uuid::parse_str("123e4567-e89b-12d3-a456-426614174000").unwrap();
        let bytes = there_and_back(&ListSerde::fixed(UuidSerde), vec![Some(id)]);
        assert!(bytes.starts_with("000000000000000001313233653435"));
    }

    #[test]
    fn a_wrong_form_or_count_is_refused() {
        let texts = ListSerde::variable(StringSerde);
        let read = |bytes: &[u8]| texts.deserialize("t", &Headers::default(), bytes);
        assert!(read(&[0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(read(&[1, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(read(&[1, 0x7f, 0xff, 0xff, 0xff]).is_err());
        assert!(read(&[1, 0, 0, 0, 0, 9]).is_err());
    }
}
