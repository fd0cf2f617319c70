//! One pass over CBOR bytes before anything is built from them.
//!
//! A decoder meets lengths before it meets the data, and recurses where the
//! data nest: eleven bytes can claim an array of 2^60 items, and a kilobyte can
//! hold a thousand levels. [`check`] refuses both without allocating, so that
//! the decoder behind it only ever sees one complete item of bounded depth. It
//! reads structure only: whether text is UTF-8 and fields fit is the decoder's
//! business.

use std::fmt;

/// The most levels of nested arrays, maps and tags that a state may have.
pub const MAX_DEPTH: usize = 128;

/// What is wrong with the bytes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    what: &'static str,
    offset: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// Whether `bytes` are exactly one well-formed CBOR item whose lengths are
/// covered by the bytes that follow them, nested at most [`MAX_DEPTH`] deep.
pub(super) fn check(bytes: &[u8]) -> Result<(), Malformed> {
    Scan { bytes, offset: 0, owed: 0, open: [Open::Items(0); MAX_DEPTH], depth: 0 }.run()
}

/// An array, map, tag or chunked string whose end is still to come.
#[derive(Clone, Copy)]
enum Open {
    /// This many items are still to come.
    Items(u64),
    /// Items until a break; a map counts whether a value is still to come.
    UntilBreak { map: bool, value_due: bool },
    /// Strings of this major type until a break.
    Chunks(u8),
}

struct Scan<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// Items that open containers claim and that have not begun. Each takes a
    /// byte at least, so that more of them than bytes are a lie.
    owed: u64,
    open: [Open; MAX_DEPTH],
    depth: usize,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), Malformed> {
        loop {
            let complete = self.item()?;
            if complete && self.close_full() {
                break;
            }
        }
        if self.offset < self.bytes.len() {
            return self.fail("there are bytes after the end");
        }
        Ok(())
    }

    /// Reads one head and what belongs to it; true if it ends an item.
    fn item(&mut self) -> Result<bool, Malformed> {
        let start = self.offset;
        let (major, info) = self.initial()?;
        if let Some(Open::Items(_)) = self.top() {
            self.owed -= 1;
        }
        if let (Some(Open::Chunks(expected)), false) = (self.top(), (major, info) == (7, 31))
            && (major != expected || info == 31)
        {
            return self.fail_at("a chunked string holds something else", start);
        }
        if info == 31 {
            return self.indefinite(major, start);
        }
        let argument = self.argument(info, start)?;
        match major {
            0 | 1 => Ok(true),
            2 | 3 => {
                if argument > self.left() {
                    return self.fail_at("a string is longer than the bytes", start);
                }
                // Fits: it is not above the length of a slice.
                self.offset += argument as usize;
                Ok(true)
            }
            4 => self.expect_items(Some(argument), start),
            5 => self.expect_items(argument.checked_mul(2), start),
            6 => self.expect_items(Some(1), start),
            _ if info == 24 && argument < 32 => self.fail_at("a reserved simple value", start),
            _ => Ok(true),
        }
    }

    /// Begins or ends an item of unknown length.
    fn indefinite(&mut self, major: u8, start: usize) -> Result<bool, Malformed> {
        match major {
            2 | 3 => self.push(Open::Chunks(major), start),
            4 | 5 => {
                let map = major == 5;
                let value_due = false;
                self.push(Open::UntilBreak { map, value_due }, start)
            }
            7 => match self.top() {
                Some(Open::Chunks(_) | Open::UntilBreak { value_due: false, .. }) => {
                    self.depth -= 1;
                    Ok(true)
                }
                _ => self.fail_at("an unexpected break", start),
            },
            _ => self.fail_at("a reserved length", start),
        }
    }

    fn expect_items(&mut self, count: Option<u64>, start: usize) -> Result<bool, Malformed> {
        let owed = count.and_then(|count| self.owed.checked_add(count));
        match (count, owed) {
            (Some(0), _) => Ok(true),
            (Some(count), Some(owed)) if owed <= self.left() => {
                self.owed = owed;
                self.push(Open::Items(count), start)
            }
            _ => self.fail_at("more items are claimed than there are bytes", start),
        }
    }

    /// Counts a complete item in what holds it, and closes what that completes;
    /// true once nothing is open.
    fn close_full(&mut self) -> bool {
        while let Some(top) = self.depth.checked_sub(1) {
            match &mut self.open[top] {
                Open::Items(left) => {
                    *left -= 1;
                    if *left > 0 {
                        return false;
                    }
                    self.depth -= 1;
                }
                Open::UntilBreak { map, value_due } => {
                    *value_due = *map && !*value_due;
                    return false;
                }
                Open::Chunks(_) => return false,
            }
        }
        true
    }

    fn push(&mut self, open: Open, start: usize) -> Result<bool, Malformed> {
        let Some(slot) = self.open.get_mut(self.depth) else {
            return self.fail_at("too many levels of nesting", start);
        };
        *slot = open;
        self.depth += 1;
        Ok(false)
    }

    fn top(&self) -> Option<Open> {
        self.depth.checked_sub(1).map(|top| self.open[top])
    }

    fn initial(&mut self) -> Result<(u8, u8), Malformed> {
        let [byte] = self.take()?;
        Ok((byte >> 5, byte & 0x1f))
    }

    fn argument(&mut self, info: u8, start: usize) -> Result<u64, Malformed> {
        Ok(match info {
            0..24 => u64::from(info),
            24 => u64::from(u8::from_be_bytes(self.take()?)),
            25 => u64::from(u16::from_be_bytes(self.take()?)),
            26 => u64::from(u32::from_be_bytes(self.take()?)),
            27 => u64::from_be_bytes(self.take()?),
            _ => return self.fail_at("a reserved length", start),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes[self.offset..].first_chunk() {
            Some(chunk) => {
                self.offset += N;
                Ok(*chunk)
            }
            None => self.fail("the bytes end too early"),
        }
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.offset) as u64
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        self.fail_at(what, self.offset)
    }

    fn fail_at<T>(&self, what: &'static str, offset: usize) -> Result<T, Malformed> {
        Err(Malformed { what, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium::Value;
    use proptest::prelude::*;

    fn reason(bytes: &[u8]) -> &'static str {
        check(bytes).expect_err("must be refused").what
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        let huge = [0xff; 8];
        for (major, expected) in [
            (0x5b, "a string is longer than the bytes"),
            (0x7b, "a string is longer than the bytes"),
            (0x9b, "more items are claimed than there are bytes"),
            (0xbb, "more items are claimed than there are bytes"),
        ] {
            let bytes: Vec<u8> = [major].into_iter().chain(huge).collect();
            assert_eq!(reason(&bytes), expected);
        }
        // Each array alone would fit into the bytes; all of them do not.
        assert_eq!(reason(&[0x83, 0x83, 0x83, 0, 0]), "more items are claimed than there are bytes");
    }

    #[test]
    fn nesting_is_bounded_in_every_form() {
        for opening in [&[0x81_u8][..], &[0x9f], &[0xc6], &[0xa1, 0x00], &[0xbf, 0x00]] {
            let bomb = opening.repeat(1_000_000 / opening.len());
            assert_eq!(reason(&bomb), "too many levels of nesting");
        }
        let mut deepest = vec![0x81; MAX_DEPTH];
        deepest.push(0);
        assert_eq!(check(&deepest), Ok(()));
        deepest.insert(0, 0x81);
        assert_eq!(reason(&deepest), "too many levels of nesting");
    }

    #[test]
    fn malformed_structure_is_refused() {
        for (bytes, expected) in [
            (&[][..], "the bytes end too early"),
            (&[0x19, 0x01], "the bytes end too early"),
            (&[0x82, 0x01, 0x9f], "the bytes end too early"),
            (&[0x00, 0x00], "there are bytes after the end"),
            (&[0xff], "an unexpected break"),
            (&[0x81, 0xff], "an unexpected break"),
            (&[0xbf, 0x00, 0xff], "an unexpected break"),
            (&[0x1c], "a reserved length"),
            (&[0x1f], "a reserved length"),
            (&[0xf8, 0x10], "a reserved simple value"),
            (&[0x5f, 0x61, 0x61, 0xff], "a chunked string holds something else"),
            (&[0x5f, 0x5f, 0xff, 0xff], "a chunked string holds something else"),
        ] {
            assert_eq!(reason(bytes), expected, "{bytes:02x?}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(5, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Map),
                inner.prop_map(|inner| Value::Tag(40, Box::new(inner))),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_encoder_writes_is_well_formed_and_no_part_of_it_is(value in value()) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&value, &mut bytes).expect("a value can be encoded");
            prop_assert_eq!(check(&bytes), Ok(()));
            for end in 0..bytes.len() {
                prop_assert!(check(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn the_decoder_never_runs_out_of_what_was_found_well_formed(
            bytes in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            use ciborium::de::Error;
            let well_formed = check(&bytes).is_ok();
            let decoded = ciborium::from_reader::<Value, _>(&bytes[..]);
            let ran_out = matches!(decoded, Err(Error::Io(_) | Error::RecursionLimitExceeded));
            prop_assert!(!(well_formed && ran_out));
        }
    }
}
