//! The format against `ciborium`, which wrote the snapshots that are out there,
//! and every kind of damage.

use super::{MAX_DEPTH, read, write};
use ciborium::Value;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};
use std::{collections::BTreeMap, fmt::Debug};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    texts: BTreeMap<String, Vec<String>>,
    tuple: (u8, i16, u32, i64),
    wide: (u128, i128),
    float: f64,
    single: f32,
    letter: char,
    flag: bool,
    perhaps: Option<Option<u64>>,
    kinds: Vec<Kind>,
    wrapped: Wrapped,
    unit: (),
    marker: Marker,
    bytes: Bytes,
    #[serde(flatten)]
    rest: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(u64),
    Tuple(String, bool),
    Struct { left: i8, right: Option<Box<Kind>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapped(u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, Clone, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Bytes)
    }
}

fn bytes_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).expect("has bytes");
    bytes
}

fn ciborium_of<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("memory");
    bytes
}

fn reason<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
    read::<T>(bytes).expect_err("must be refused").to_string()
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Unit),
        any::<u64>().prop_map(Kind::New),
        (".{0,6}", any::<bool>()).prop_map(|(text, flag)| Kind::Tuple(text, flag)),
    ];
    leaf.prop_recursive(4, 8, 1, |inner| {
        (any::<i8>(), prop::option::of(inner))
            .prop_map(|(left, right)| Kind::Struct { left, right: right.map(Box::new) })
    })
}

prop_compose! {
    fn everything()(
        texts in prop::collection::btree_map(".{0,30}", prop::collection::vec(".{0,9}", 0..4), 0..4),
        tuple in any::<(u8, i16, u32, i64)>(),
        wide in any::<(u128, i128)>(),
        floats in any::<(f64, f32)>(),
        (letter, flag) in any::<(char, bool)>(),
        perhaps in prop::option::of(any::<u64>()),
        kinds in prop::collection::vec(kind(), 0..30),
        wrapped in any::<u64>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        rest in prop::collection::btree_map("[x-z]{7}", any::<u64>(), 0..3),
    ) -> Everything {
        Everything {
            texts, tuple, wide, float: floats.0, single: floats.1, letter, flag,
            perhaps: perhaps.map(Some), kinds, wrapped: Wrapped(wrapped), unit: (), marker: Marker,
            bytes: Bytes(bytes), rest,
        }
    }
}

proptest! {
    #[test]
    fn values_come_back_and_ciborium_reads_them_and_is_read(value in everything()) {
        let bytes = bytes_of(&value);
        prop_assert_eq!(&read::<Everything>(&bytes).expect("just written"), &value);
        prop_assert_eq!(&ciborium::from_reader::<Everything, _>(&bytes[..]).expect("CBOR"), &value);
        let old = ciborium_of(&value);
        prop_assert_eq!(&read::<Everything>(&old).expect("an old snapshot"), &value);
        // Its numbers of 16 bits are longer here; nothing else differs.
        let whole = Everything { float: 0.1, single: 0.1, ..value };
        prop_assert_eq!(bytes_of(&whole), ciborium_of(&whole));
    }

    #[test]
    fn no_part_of_a_value_is_a_value(
        value in everything(),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 32),
    ) {
        let bytes = bytes_of(&value);
        for end in ends {
            let end = end.index(bytes.len());
            prop_assert!(read::<Everything>(&bytes[..end]).is_err());
            prop_assert!(read::<IgnoredAny>(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn whatever_is_read_ciborium_reads_alike(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = read::<Value>(&bytes) {
            let mut rest = &bytes[..];
            // Tags are not kept; all else is.
            if let Ok(theirs) = ciborium::from_reader::<Value, _>(&mut rest)
                && !format!("{theirs:?}").contains("Tag")
            {
                // By text: not-a-number is not itself.
                prop_assert_eq!(format!("{value:?}"), format!("{theirs:?}"));
                prop_assert!(rest.is_empty());
            }
        }
        let _ = read::<Everything>(&bytes);
    }
}

#[test]
fn numbers_of_every_width_are_read() {
    for (bytes, number) in [
        (&[0xf9, 0x00, 0x00][..], 0.0),
        (&[0xf9, 0x3c, 0x00], 1.0),
        (&[0xf9, 0xc4, 0x00], -4.0),
        (&[0xf9, 0x7b, 0xff], 65504.0),
        (&[0xf9, 0x00, 0x01], 5.960_464_477_539_063e-8),
        (&[0xf9, 0xfc, 0x00], f64::NEG_INFINITY),
        (&[0xfa, 0x47, 0xc3, 0x50, 0x00], 100_000.0),
        (&[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a], 1.1),
    ] {
        assert_eq!(read::<f64>(bytes).expect("a number"), number, "{bytes:02x?}");
    }
    assert!(read::<f64>(&[0xf9, 0x7e, 0x00]).expect("a number").is_nan());
}

#[test]
fn lengths_beyond_the_bytes_are_refused_before_memory_is_reserved() {
    for (first, expected) in [
        (0x5b, "a string is longer than the bytes at byte 0"),
        (0x7b, "a string is longer than the bytes at byte 0"),
        (0x9b, "more items are claimed than there are bytes at byte 0"),
        (0xbb, "more items are claimed than there are bytes at byte 0"),
    ] {
        let bytes: Vec<u8> = [first].into_iter().chain([0xff; 8]).collect();
        assert_eq!(reason::<IgnoredAny>(&bytes), expected);
    }
    // Each array alone would fit into the bytes; all of them do not.
    let nested = reason::<Vec<Vec<Vec<u8>>>>(&[0x83, 0x83, 0x83, 0, 0]);
    assert_eq!(nested, "more items are claimed than there are bytes at byte 1");
}

#[test]
fn nesting_is_bounded_in_every_form() {
    for opening in [&[0x81_u8][..], &[0x9f], &[0xa1, 0x00], &[0xbf, 0x00]] {
        let bomb = opening.repeat(1_000_000 / opening.len());
        let reason = reason::<IgnoredAny>(&bomb);
        assert!(reason.starts_with("too many levels of nesting"), "{reason}");
    }
    // A tag holds nothing open.
    assert_eq!(reason::<IgnoredAny>(&[0xc6; 1_000_000]), "the bytes end too early at byte 1000000");
    let mut deepest = vec![0x81; MAX_DEPTH];
    deepest.push(0);
    assert!(read::<IgnoredAny>(&deepest).is_ok());
    deepest.insert(0, 0x81);
    assert!(read::<IgnoredAny>(&deepest).is_err());
}

#[test]
fn malformed_bytes_are_refused_with_their_place() {
    for (bytes, expected) in [
        (&[][..], "the bytes end too early at byte 0"),
        (&[0x19, 0x01], "the bytes end too early at byte 1"),
        (&[0x9f, 0x01], "the bytes end too early at byte 2"),
        (&[0x00, 0x00], "there are bytes after the end at byte 1"),
        (&[0xff], "an unexpected break at byte 0"),
        (&[0x81, 0xff], "an unexpected break at byte 1"),
        (&[0xbf, 0x00, 0xff], "an unexpected break at byte 2"),
        (&[0x1c], "a reserved length at byte 0"),
        (&[0x1f], "a reserved length at byte 0"),
        (&[0xf8, 0x10], "a reserved simple value at byte 0"),
        (&[0x7f, 0x61, 0x61, 0xff], "a string in pieces at byte 0"),
        (&[0x61, 0xff], "a text is not UTF-8 at byte 0"),
    ] {
        assert_eq!(reason::<Value>(bytes), expected, "{bytes:02x?}");
    }
}

#[test]
fn what_a_type_leaves_unread_is_refused_at_its_place() {
    let three = bytes_of(&((1_u8, 2_u8, 3_u8), "behind"));
    assert_eq!(reason::<((u8, u8), String)>(&three), "there is more than the type reads at byte 4");
    let with_content = bytes_of(&Kind::New(7));
    #[derive(Debug, Deserialize)]
    enum Lost {
        New,
    }
    assert_eq!(reason::<Lost>(&with_content), "there is more than the type reads at byte 5");
    let _ = Lost::New;
    assert!(reason::<Kind>(&bytes_of(&"New")).starts_with("the variant has no content"));
}

#[test]
fn values_that_announce_another_number_of_items_are_not_written() {
    struct Liar(usize);
    impl Serialize for Liar {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut items = serializer.serialize_seq(Some(self.0))?;
            items.serialize_element(&1)?;
            items.end()
        }
    }
    assert!(write(&Liar(1), &mut Vec::new()).is_ok());
    for other in [0, 2] {
        assert!(write(&Liar(other), &mut Vec::new()).is_err());
    }
}
