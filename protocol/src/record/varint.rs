//! Zigzag varints of the record format: 7 bits a byte, low bits first, the sign in the lowest bit.
//!
//! They are read and written several times per record; one and two bytes (all that deltas and short lengths need) have
//! a path of their own.

/// Most bytes that a 32-bit varint takes.
pub const MAX_VARINT_BYTES: usize = 5;
/// Most bytes that a 64-bit varint takes.
pub const MAX_VARLONG_BYTES: usize = 10;

/// Folds the sign into the lowest bit.
#[inline]
pub const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Undoes [`zigzag`].
#[inline]
pub const fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Folds the sign into the lowest bit.
#[inline]
pub const fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag_long`].
#[inline]
pub const fn unzigzag_long(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that `value` takes.
#[inline]
pub const fn varint_size(value: i32) -> usize {
    varlong_size(value as i64)
}

/// Bytes that `value` takes.
#[inline]
pub const fn varlong_size(value: i64) -> usize {
    // ceil(bits / 7) for 1 to 64 bits, without a division.
    let bits = 64 - (zigzag_long(value) | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Writes `value` at `position` and moves it behind; the caller has made room for [`varint_size`] bytes.
#[inline]
pub fn put_varint(target: &mut [u8], position: &mut usize, value: i32) {
    put_unsigned(target, position, u64::from(zigzag(value)));
}

/// Writes `value` at `position` and moves it behind; the caller has made room for [`varlong_size`] bytes.
#[inline]
pub fn put_varlong(target: &mut [u8], position: &mut usize, value: i64) {
    put_unsigned(target, position, zigzag_long(value));
}

#[inline(always)]
fn put_unsigned(target: &mut [u8], position: &mut usize, mut value: u64) {
    while value >= 0x80 {
        target[*position] = value as u8 | 0x80;
        *position += 1;
        value >>= 7;
    }
    target[*position] = value as u8;
    *position += 1;
}

/// Appends `value`.
#[inline]
pub fn push_varint(target: &mut Vec<u8>, value: i32) {
    let mut bytes = [0; MAX_VARINT_BYTES];
    let mut length = 0;
    put_varint(&mut bytes, &mut length, value);
    target.extend_from_slice(&bytes[..length]);
}

/// Reads the varint at `position` and moves it behind; `None` if the bytes end first or it has more than 32 bits.
#[inline(always)]
pub fn read_varint(bytes: &[u8], position: &mut usize) -> Option<i32> {
    let first = u32::from(*bytes.get(*position)?);
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag(first));
    }
    let second = u32::from(*bytes.get(*position + 1)?);
    if second < 0x80 {
        *position += 2;
        return Some(unzigzag(first & 0x7f | second << 7));
    }
    let value = read_long_form(bytes, position, MAX_VARINT_BYTES, 0x0f)?;
    Some(unzigzag(value as u32))
}

/// Reads the varlong at `position` and moves it behind; `None` if the bytes end first or it has more than 64 bits.
#[inline(always)]
pub fn read_varlong(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let first = u64::from(*bytes.get(*position)?);
    if first < 0x80 {
        *position += 1;
        return Some(unzigzag_long(first));
    }
    read_long_form(bytes, position, MAX_VARLONG_BYTES, 0x01).map(unzigzag_long)
}

/// `last_limit` is the largest value of the last allowed byte: the bits that are left for it.
fn read_long_form(bytes: &[u8], position: &mut usize, max_bytes: usize, last_limit: u8) -> Option<u64> {
    let mut value = 0;
    for index in 0..max_bytes {
        let byte = *bytes.get(*position + index)?;
        if index + 1 == max_bytes && byte > last_limit {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *position += index + 1;
            return Some(value);
        }
    }
    None
}
