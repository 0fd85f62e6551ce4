//! Flexible messages of our own, written as lists of their fields: a message is what its fields are, one after the other, then its tagged fields
//! (none is known, all are skipped). Used for the messages that `kafka-protocol` lacks altogether.

use std::sync::Arc;

use bytes::BufMut;
use uuid::Uuid;

use super::pieces::Pieces;
use super::wire::{CodecError, Reader, Writer};

/// A field of a flexible message.
pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError>;
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError>;
}

macro_rules! numbers {
    ($($type:ident, $put:ident;)*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
                reader.$type(name)
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
                writer.buffer().$put(*self);
                Ok(())
            }
        }
    )*};
}

numbers! {
    i8, put_i8;
    i16, put_i16;
    i32, put_i32;
    i64, put_i64;
}

impl Field for u16 {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.i16(name).map(i16::cast_unsigned)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.buffer().put_u16(*self);
        Ok(())
    }
}

impl Field for bool {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        Ok(reader.i8(name)? != 0)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.buffer().put_u8((*self).into());
        Ok(())
    }
}

impl Field for Uuid {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.uuid(name)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.buffer().put_slice(self.as_bytes());
        Ok(())
    }
}

/// Record batches; null is read as none.
impl Field for Pieces {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        Ok(reader.nullable_bytes(name)?.map(Self::from).unwrap_or_default())
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.pieces(Some(self))
    }
}

impl Field for Arc<str> {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.shared_str(name)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.string(Some(self))
    }
}

impl Field for Option<Arc<str>> {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.nullable_str(name, |text| Arc::from(text))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.string(self.as_deref())
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.array(name, |reader| T::read(reader, name))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.array(Some(self), |writer, element| element.write(writer))
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
        reader.nullable_array(name, |reader| T::read(reader, name))
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
        writer.array(self.as_deref(), |writer, element| element.write(writer))
    }
}

/// Structs that are fields; a nullable one has a byte before it, negative for null.
macro_rules! wire_structs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about])* pub $field: $type,)*
        }

        impl Field for $name {
            fn read(reader: &mut Reader, _name: &'static str) -> Result<Self, CodecError> {
                let value = Self { $($field: Field::read(reader, stringify!($field))?,)* };
                reader.skip_tagged_fields()?;
                Ok(value)
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
                $(self.$field.write(writer)?;)*
                writer.tagged_fields(&[]);
                Ok(())
            }
        }

        impl Field for Option<$name> {
            fn read(reader: &mut Reader, name: &'static str) -> Result<Self, CodecError> {
                if reader.i8(name)? < 0 { Ok(None) } else { $name::read(reader, name).map(Some) }
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), CodecError> {
                bytes::BufMut::put_i8(writer.buffer(), if self.is_some() { 1 } else { -1 });
                self.as_ref().map_or(Ok(()), |value| value.write(writer))
            }
        }
    )*};
}

/// Makes bodies of requests and responses, with the version of their header, of structs made by `wire_structs`.
macro_rules! wire_bodies {
    ($($name:ident, $header:literal;)*) => {$(
        impl WireMessage for $name {
            fn encode_wire(&self, out: &mut PieceWriter, _version: i16) -> Result<(), CodecError> {
                self.write(&mut Writer { out, flexible: true, message: stringify!($name) })
            }

            fn decode_wire(bytes: Bytes, _version: i16) -> Result<Self, CodecError> {
                Self::read(&mut Reader::new(bytes, true), stringify!($name))
            }

            fn header_version_of(_version: i16) -> i16 {
                $header
            }
        }
    )*};
}

pub(super) use {wire_bodies, wire_structs};
