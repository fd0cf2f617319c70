//! From values to bytes.
//!
//! Never writes what [`read`](super::read()) would refuse: depth and the number
//! of items are checked on the way.
//!
//! long: serde asks for a method for each kind of value

use super::{Fault, MAX_DEPTH, UNTIL_BREAK, byte, major};
use serde::ser::{self, Error as _, Serialize};

/// Where bytes go.
pub(in super::super) trait Output {
    fn byte(&mut self, byte: u8);
    fn append(&mut self, bytes: &[u8]);
}

impl Output for Vec<u8> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends `value` to `output`.
pub(in super::super) fn write<T: Serialize + ?Sized, O: Output>(
    value: &T,
    output: &mut O,
) -> Result<(), Fault> {
    value.serialize(&mut Writer { output, depth: 0 })
}

struct Writer<'b, O> {
    output: &'b mut O,
    depth: usize,
}

impl<'b, O: Output> Writer<'b, O> {
    #[inline]
    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        // Narrowing is what each arm's range allows.
        match argument {
            0..24 => self.output.byte(major | argument as u8),
            24..0x100 => self.output.append(&[major | 24, argument as u8]),
            0x100..0x1_0000 => self.wide(major | 25, (argument as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => self.wide(major | 26, (argument as u32).to_be_bytes()),
            _ => self.wide(major | 27, argument.to_be_bytes()),
        }
    }

    #[inline]
    fn wide<const N: usize>(&mut self, first: u8, argument: [u8; N]) {
        self.output.byte(first);
        self.output.append(&argument);
    }

    /// An integer beyond 64 bits: a tag, and the bytes without leading zeros.
    fn big(&mut self, tag: u8, number: u128) {
        let bytes = number.to_be_bytes();
        let zeros = number.leading_zeros() as usize / 8;
        self.output.byte(tag);
        self.head(major::BYTES, (bytes.len() - zeros) as u64);
        self.output.append(&bytes[zeros..]);
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.head(major::TEXT, text.len() as u64);
        self.output.append(text.as_bytes());
    }

    /// Begins an array or a map of `len` entries.
    #[inline]
    fn open(&mut self, major: u8, len: Option<usize>) -> Result<Items<'_, 'b, O>, Fault> {
        self.deepen()?;
        match len {
            Some(len) => self.head(major, len as u64),
            None => self.output.byte(major << 5 | UNTIL_BREAK),
        }
        Ok(Items { writer: self, left: len, levels: 1 })
    }

    /// Begins the content of a variant: a map of one, from its name.
    #[inline]
    fn variant(&mut self, name: &str) -> Result<(), Fault> {
        self.deepen()?;
        self.head(major::MAP, 1);
        self.text(name);
        Ok(())
    }

    #[inline]
    fn deepen(&mut self) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::custom("too many levels of nesting"));
        }
        self.depth += 1;
        Ok(())
    }
}

impl<'w, 'b, O: Output> ser::Serializer for &'w mut Writer<'b, O> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Items<'w, 'b, O>;
    type SerializeTuple = Items<'w, 'b, O>;
    type SerializeTupleStruct = Items<'w, 'b, O>;
    type SerializeTupleVariant = Items<'w, 'b, O>;
    type SerializeMap = Items<'w, 'b, O>;
    type SerializeStruct = Items<'w, 'b, O>;
    type SerializeStructVariant = Items<'w, 'b, O>;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Fault> {
        self.output.byte(if value { byte::TRUE } else { byte::FALSE });
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), Fault> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), Fault> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), Fault> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result<(), Fault> {
        // -1 - n is the complement of n.
        match u64::try_from(value) {
            Ok(value) => self.head(major::UNSIGNED, value),
            Err(_) => self.head(major::NEGATIVE, !value as u64),
        }
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Fault> {
        match u128::try_from(value) {
            Ok(value) => return self.serialize_u128(value),
            Err(_) => match u64::try_from(!value) {
                Ok(complement) => self.head(major::NEGATIVE, complement),
                Err(_) => self.big(byte::BIG_NEGATIVE, !value as u128),
            },
        }
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), Fault> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), Fault> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), Fault> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), Fault> {
        self.head(major::UNSIGNED, value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Fault> {
        match u64::try_from(value) {
            Ok(value) => self.head(major::UNSIGNED, value),
            Err(_) => self.big(byte::BIG_POSITIVE, value),
        }
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Fault> {
        self.wide(byte::SINGLE, value.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Fault> {
        let single = value as f32;
        if f64::from(single).to_bits() == value.to_bits() {
            return self.serialize_f32(single);
        }
        self.wide(byte::DOUBLE, value.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Fault> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Fault> {
        self.text(value);
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Fault> {
        self.head(major::BYTES, value.len() as u64);
        self.output.append(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Fault> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Fault> {
        self.output.byte(byte::NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'w, 'b, O>, Fault> {
        self.open(major::ARRAY, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Items<'w, 'b, O>, Fault> {
        self.open(major::ARRAY, Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items<'w, 'b, O>, Fault> {
        self.open(major::ARRAY, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'w, 'b, O>, Fault> {
        self.variant(variant)?;
        Ok(Items { levels: 2, ..self.open(major::ARRAY, Some(len))? })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Items<'w, 'b, O>, Fault> {
        self.open(major::MAP, len)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Items<'w, 'b, O>, Fault> {
        self.open(major::MAP, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'w, 'b, O>, Fault> {
        self.variant(variant)?;
        Ok(Items { levels: 2, ..self.open(major::MAP, Some(len))? })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The entries of an array or a map that is being written.
struct Items<'w, 'b, O> {
    writer: &'w mut Writer<'b, O>,
    /// How many are still to come; none where a break ends them.
    left: Option<usize>,
    /// Two with the map of a variant around it.
    levels: usize,
}

impl<O: Output> Items<'_, '_, O> {
    /// Counts an entry in: a type that claims another number of them than it
    /// has would write bytes that cannot be read.
    #[inline]
    fn count(&mut self) -> Result<(), Fault> {
        match &mut self.left {
            Some(0) => Err(Fault::custom("there are more items than were announced")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn close(self) -> Result<(), Fault> {
        match self.left {
            Some(0) => {}
            Some(_) => return Err(Fault::custom("there are fewer items than were announced")),
            None => self.writer.output.byte(byte::BREAK),
        }
        self.writer.depth -= self.levels;
        Ok(())
    }
}

/// The three traits of arrays differ in names only, as do the two of structs.
macro_rules! entries {
    (values: $($of:ident::$method:ident),*) => {$(
        impl<O: Output> ser::$of for Items<'_, '_, O> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.count()?;
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
    (fields: $($of:ident),*) => {$(
        impl<O: Output> ser::$of for Items<'_, '_, O> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.count()?;
                self.writer.text(name);
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
}

entries!(values: SerializeSeq::serialize_element, SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field);
entries!(fields: SerializeStruct, SerializeStructVariant);

impl<O: Output> ser::SerializeMap for Items<'_, '_, O> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.count()?;
        self.item(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.item(value)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}
