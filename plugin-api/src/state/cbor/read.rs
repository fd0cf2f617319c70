//! From bytes to values.
//!
//! long: serde asks for a method for each kind of value

use super::{Fault, MAX_DEPTH, UNTIL_BREAK, byte, major};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Error as _, Unexpected, Visitor, value::SeqDeserializer,
};

/// The value that `bytes`, all of them, hold.
pub(in super::super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let mut reader = Reader { bytes, offset: 0, owed: 0, depth: 0 };
    let value = T::deserialize(&mut reader).map_err(|fault| fault.at(reader.offset))?;
    match reader.left() {
        0 => Ok(value),
        _ => Err(Fault::malformed("there are bytes after the end", reader.offset)),
    }
}

struct Reader<'de> {
    bytes: &'de [u8],
    offset: usize,
    /// Items that open arrays and maps claim and that have not begun. Each
    /// takes a byte at least, so that more of them than bytes are a lie.
    owed: usize,
    depth: usize,
}

/// The first byte of an item, and the number that belongs to it.
#[derive(Clone, Copy)]
struct Head {
    first: u8,
    argument: u64,
    start: usize,
}

impl Head {
    #[inline]
    fn major(self) -> u8 {
        self.first >> 5
    }

    fn info(self) -> u8 {
        self.first & 0x1f
    }

    /// That something else was expected.
    #[cold]
    fn unfit(self, expected: &'static str) -> Fault {
        let found = match self.major() {
            major::UNSIGNED => Unexpected::Unsigned(self.argument),
            major::NEGATIVE => Unexpected::Other("negative integer"),
            major::BYTES => Unexpected::Other("bytes"),
            major::TEXT => Unexpected::Other("string"),
            major::ARRAY => Unexpected::Seq,
            major::MAP => Unexpected::Map,
            _ => match self.first {
                byte::FALSE => Unexpected::Bool(false),
                byte::TRUE => Unexpected::Bool(true),
                byte::NULL | byte::UNDEFINED => Unexpected::Other("null"),
                byte::HALF | byte::SINGLE | byte::DOUBLE => Unexpected::Other("float"),
                byte::BREAK => return Fault::malformed("an unexpected break", self.start),
                _ => return Fault::malformed("a reserved simple value", self.start),
            },
        };
        Fault::invalid_type(found, &expected).at(self.start)
    }
}

impl<'de> Reader<'de> {
    #[inline]
    fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    #[inline]
    fn peek(&self) -> Result<u8, Fault> {
        self.bytes.get(self.offset).copied().ok_or_else(|| self.short())
    }

    #[cold]
    fn short(&self) -> Fault {
        Fault::malformed("the bytes end too early", self.offset)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.bytes[self.offset..].first_chunk() {
            Some(chunk) => {
                self.offset += N;
                Ok(*chunk)
            }
            None => Err(self.short()),
        }
    }

    /// The next item's head. Tags are passed over: they say what data mean, and
    /// the type knows.
    #[inline]
    fn head(&mut self) -> Result<Head, Fault> {
        loop {
            let head = self.any_head()?;
            if head.major() != major::TAG {
                return Ok(head);
            }
        }
    }

    #[inline]
    fn any_head(&mut self) -> Result<Head, Fault> {
        let start = self.offset;
        let first = self.peek()?;
        self.offset += 1;
        let argument = match first & 0x1f {
            info @ 0..24 => u64::from(info),
            24 => u64::from(u8::from_be_bytes(self.take()?)),
            25 => u64::from(u16::from_be_bytes(self.take()?)),
            26 => u64::from(u32::from_be_bytes(self.take()?)),
            27 => u64::from_be_bytes(self.take()?),
            UNTIL_BREAK if matches!(first >> 5, major::ARRAY | major::MAP | 7) => 0,
            UNTIL_BREAK if matches!(first >> 5, major::BYTES | major::TEXT) => {
                return Err(Fault::malformed("a string in pieces", start));
            }
            _ => return Err(Fault::malformed("a reserved length", start)),
        };
        Ok(Head { first, argument, start })
    }

    /// The bytes of a string.
    #[inline]
    fn string(&mut self, head: Head) -> Result<&'de [u8], Fault> {
        let rest = &self.bytes[self.offset..];
        let string = usize::try_from(head.argument).ok().and_then(|len| rest.get(..len));
        let string =
            string.ok_or_else(|| Fault::malformed("a string is longer than the bytes", head.start))?;
        self.offset += string.len();
        Ok(string)
    }

    #[inline]
    fn text(&mut self, head: Head) -> Result<&'de str, Fault> {
        let string = self.string(head)?;
        std::str::from_utf8(string).map_err(|_| Fault::malformed("a text is not UTF-8", head.start))
    }

    /// An integer: whether it is negative, and it or its complement.
    fn integer(&mut self) -> Result<(bool, u128), Fault> {
        loop {
            let head = self.any_head()?;
            return match head.major() {
                major::UNSIGNED => Ok((false, head.argument.into())),
                major::NEGATIVE => Ok((true, head.argument.into())),
                major::TAG if matches!(head.first, byte::BIG_POSITIVE | byte::BIG_NEGATIVE) => {
                    self.big(head.first == byte::BIG_NEGATIVE)
                }
                major::TAG => continue,
                _ => Err(head.unfit("integer")),
            };
        }
    }

    fn big(&mut self, negative: bool) -> Result<(bool, u128), Fault> {
        let head = self.any_head()?;
        if head.major() != major::BYTES {
            return Err(head.unfit("bytes of an integer"));
        }
        let string = self.string(head)?;
        let zeros = string.iter().take_while(|byte| **byte == 0).count();
        let digits = &string[zeros..];
        let mut number = [0; 16];
        match number.len().checked_sub(digits.len()) {
            Some(from) => number[from..].copy_from_slice(digits),
            None => return Err(Fault::custom("an integer of more than 128 bits")),
        }
        Ok((negative, u128::from_be_bytes(number)))
    }

    #[inline]
    fn signed(&mut self) -> Result<i64, Fault> {
        let (negative, number) = self.narrow()?;
        let number = i64::try_from(number).map_err(|_| Fault::custom("integer too large"))?;
        Ok(if negative { !number } else { number })
    }

    #[inline]
    fn unsigned(&mut self) -> Result<u64, Fault> {
        match self.narrow()? {
            (true, _) => Err(Fault::custom("unexpected negative integer")),
            (false, number) => Ok(number),
        }
    }

    /// As [`integer`](Self::integer), of 64 bits.
    #[inline]
    fn narrow(&mut self) -> Result<(bool, u64), Fault> {
        if self.peek()? >> 5 <= major::NEGATIVE {
            let head = self.any_head()?;
            return Ok((head.major() == major::NEGATIVE, head.argument));
        }
        let (negative, number) = self.integer()?;
        let number = u64::try_from(number).map_err(|_| Fault::custom("integer too large"))?;
        Ok((negative, number))
    }

    #[inline]
    fn float(&mut self, head: Head) -> Result<f64, Fault> {
        // Narrowing gives back the bits that were read.
        match head.first {
            byte::HALF => Ok(half(head.argument as u16)),
            byte::SINGLE => Ok(f32::from_bits(head.argument as u32).into()),
            byte::DOUBLE => Ok(f64::from_bits(head.argument)),
            _ => Err(head.unfit("float")),
        }
    }

    /// Reads the entries of an array or a map, with `each` items per entry, and
    /// sees to it that none is left over.
    #[inline]
    fn entries<R>(
        &mut self,
        head: Head,
        each: usize,
        visit: impl FnOnce(&mut Entries<'_, 'de>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::malformed("too many levels of nesting", head.start));
        }
        self.depth += 1;
        let count = if head.info() == UNTIL_BREAK { None } else { Some(self.owe(head, each)?) };
        let mut entries = Entries { reader: self, left: count };
        let value = visit(&mut entries)?;
        entries.close()?;
        self.depth -= 1;
        Ok(value)
    }

    /// The number of entries, if there can be so many.
    #[inline]
    fn owe(&mut self, head: Head, each: usize) -> Result<usize, Fault> {
        let count = usize::try_from(head.argument).ok();
        let owed = count.and_then(|count| count.checked_mul(each)?.checked_add(self.owed));
        match (count, owed) {
            (Some(count), Some(owed)) if owed <= self.left() => {
                self.owed = owed;
                Ok(count)
            }
            _ => Err(Fault::malformed("more items are claimed than there are bytes", head.start)),
        }
    }

    #[inline]
    fn array<V: Visitor<'de>>(&mut self, head: Head, visitor: V) -> Result<V::Value, Fault> {
        match head.major() {
            major::ARRAY => self.entries(head, 1, |entries| visitor.visit_seq(entries)),
            major::BYTES => visitor.visit_seq(SeqDeserializer::new(self.string(head)?.iter().copied())),
            _ => Err(head.unfit("array")),
        }
    }

    #[inline]
    fn map<V: Visitor<'de>>(&mut self, head: Head, visitor: V) -> Result<V::Value, Fault> {
        match head.major() {
            major::MAP => self.entries(head, 2, |entries| visitor.visit_map(entries)),
            _ => Err(head.unfit("map")),
        }
    }
}

/// The value of a number of 16 bits, by RFC 8949, appendix D.
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let big = matches!(self.peek()?, byte::BIG_POSITIVE | byte::BIG_NEGATIVE);
        if big {
            return match self.integer()? {
                (false, number) => visitor.visit_u128(number),
                (true, _) => Err(Fault::custom("integer too large")),
            };
        }
        let start = self.offset;
        let head = self.head()?;
        match head.major() {
            major::UNSIGNED => visitor.visit_u64(head.argument),
            major::NEGATIVE => match i64::try_from(head.argument) {
                Ok(number) => visitor.visit_i64(!number),
                Err(_) => visitor.visit_i128(!i128::from(head.argument)),
            },
            major::BYTES => visitor.visit_borrowed_bytes(self.string(head)?),
            major::TEXT => visitor.visit_borrowed_str(self.text(head)?),
            major::ARRAY => self.array(head, visitor),
            major::MAP => self.map(head, visitor),
            _ => match head.first {
                byte::FALSE => visitor.visit_bool(false),
                byte::TRUE => visitor.visit_bool(true),
                byte::NULL | byte::UNDEFINED => visitor.visit_none(),
                byte::HALF | byte::SINGLE | byte::DOUBLE => visitor.visit_f64(self.float(head)?),
                _ => Err(Head { start, ..head }.unfit("a value")),
            },
        }
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.first {
            byte::FALSE => visitor.visit_bool(false),
            byte::TRUE => visitor.visit_bool(true),
            _ => Err(head.unfit("bool")),
        }
    }

    #[inline]
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.signed()?)
    }

    #[inline]
    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.signed()?)
    }

    #[inline]
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.signed()?)
    }

    #[inline]
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.signed()?)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let (negative, number) = self.integer()?;
        let number = i128::try_from(number).map_err(|_| Fault::custom("integer too large"))?;
        visitor.visit_i128(if negative { !number } else { number })
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.unsigned()?)
    }

    #[inline]
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.unsigned()?)
    }

    #[inline]
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.unsigned()?)
    }

    #[inline]
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.integer()? {
            (true, _) => Err(Fault::custom("unexpected negative integer")),
            (false, number) => visitor.visit_u128(number),
        }
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        visitor.visit_f64(self.float(head)?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.major() {
            major::TEXT => visitor.visit_borrowed_str(self.text(head)?),
            _ => Err(head.unfit("string")),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.major() {
            major::BYTES => visitor.visit_borrowed_bytes(self.string(head)?),
            major::ARRAY => self.array(head, visitor),
            _ => Err(head.unfit("bytes")),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek()? {
            byte::NULL | byte::UNDEFINED => {
                self.offset += 1;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.first {
            byte::NULL | byte::UNDEFINED => visitor.visit_unit(),
            _ => Err(head.unfit("unit")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        self.array(head, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        self.map(head, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.major() {
            major::TEXT => {
                self.offset = head.start;
                visitor.visit_enum(Variant { reader: self, has_content: false })
            }
            major::MAP if head.first == major::MAP << 5 | 1 => self.entries(head, 2, |entries| {
                entries.begin();
                entries.reader.owed -= 1;
                visitor.visit_enum(Variant { reader: &mut *entries.reader, has_content: true })
            }),
            _ => Err(head.unfit("a variant's name, or a map of one from it")),
        }
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let head = self.head()?;
        match head.major() {
            major::TEXT => visitor.visit_borrowed_str(self.text(head)?),
            major::BYTES => visitor.visit_borrowed_bytes(self.string(head)?),
            _ => Err(head.unfit("a name")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The entries of an array or a map that is being read.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    /// How many have not begun; none where a break ends them.
    left: Option<usize>,
}

impl Entries<'_, '_> {
    /// Whether there is another entry. An item of it begins then.
    #[inline]
    fn more(&mut self) -> Result<bool, Fault> {
        if self.left == Some(0) || (self.left.is_none() && self.reader.peek()? == byte::BREAK) {
            return Ok(false);
        }
        self.begin();
        Ok(true)
    }

    #[inline]
    fn begin(&mut self) {
        if let Some(left) = &mut self.left {
            *left -= 1;
            self.reader.owed -= 1;
        }
    }

    /// Refuses what the type left unread: a tuple that became shorter.
    #[inline]
    fn close(&mut self) -> Result<(), Fault> {
        match self.left {
            Some(0) => Ok(()),
            None if self.reader.peek()? == byte::BREAK => {
                self.reader.offset += 1;
                Ok(())
            }
            _ => Err(Fault::malformed("there is more than the type reads", self.reader.offset)),
        }
    }
}

impl<'de> de::SeqAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.more()? { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.more()? { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        if self.left.is_some() {
            self.reader.owed -= 1;
        }
        seed.deserialize(&mut *self.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// A variant's name, and its content if it has one.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    has_content: bool,
}

impl<'de> Variant<'_, 'de> {
    /// The reader, if what the type expects of the variant is there.
    fn content(self, expected: bool) -> Result<Self, Fault> {
        match (self.has_content, expected) {
            (true, false) => Err(Fault::malformed("there is more than the type reads", self.reader.offset)),
            (false, true) => Err(Fault::custom("the variant has no content")),
            _ => Ok(self),
        }
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name = seed.deserialize(&mut *self.reader)?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.content(false).map(drop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.content(true)?.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_seq(self.content(true)?.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_any(self.content(true)?.reader, visitor)
    }
}
