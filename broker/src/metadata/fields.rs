//! The fields of metadata records on the wire: KRaft's flexible encoding, compact lengths and tagged fields.

use uuid::Uuid;

/// Appends fields.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn unsigned(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn uuid(&mut self, id: Uuid) {
        self.0.extend_from_slice(id.as_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.unsigned(text.len() as u32 + 1);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn i32s(&mut self, values: &[i32]) {
        self.unsigned(values.len() as u32 + 1);
        for value in values {
            self.i32(*value);
        }
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.0.push(value as u8);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(value.into());
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.unsigned(0),
        }
    }
}

/// Every method takes its field from the front; `None` when the bytes do not hold it.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        Some(Uuid::from_bytes(self.take(16)?.try_into().ok()?))
    }

    /// Outer `None`: malformed; inner `None`: null.
    pub(super) fn nullable_string(&mut self) -> Option<Option<String>> {
        match self.unsigned()? {
            0 => Some(None),
            length => {
                let bytes = self.take(length as usize - 1)?;
                Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
            }
        }
    }

    pub(super) fn string(&mut self) -> Option<String> {
        self.nullable_string()?
    }

    pub(super) fn i32s(&mut self) -> Option<Vec<i32>> {
        match self.unsigned()? {
            0 => Some(Vec::new()),
            length => {
                let bytes = self.take((length as usize - 1).checked_mul(4)?)?;
                Some(bytes.chunks_exact(4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
        }
    }

    pub(super) fn i8(&mut self) -> Option<i8> {
        Some(self.take(1)?[0] as i8)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        Some(self.take(1)?[0] != 0)
    }

    pub(super) fn f64(&mut self) -> Option<f64> {
        Some(f64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A compact array whose elements `read` takes; each is at least a byte.
    pub(super) fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = (self.unsigned()? as usize).saturating_sub(1);
        if count > self.0.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// The tagged fields at the end of a struct; `read` gets each, with its tag.
    pub(super) fn tagged(&mut self, mut read: impl FnMut(u32, &mut Reader<'_>) -> Option<()>) -> Option<()> {
        for _ in 0..self.unsigned()? {
            let tag = self.unsigned()?;
            let length = self.unsigned()? as usize;
            read(tag, &mut Reader(self.take(length)?))?;
        }
        Some(())
    }
}
