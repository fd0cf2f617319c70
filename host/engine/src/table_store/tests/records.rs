//! The format: its bytes are a contract, and no others are read.

use super::super::format::{
    Head, Key, TableRecord, decode_head, decode_row, decode_table, encode_head, encode_row, encode_table,
    row_key, share, space_prefix, table_key,
};
use super::*;
use crate::table::Void;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// If this fails stores of earlier releases cannot be read any more.
#[test]
fn the_bytes_of_each_record_are_those_of_the_first_release() {
    let head = Head { commit: 1, rows: 2, digest: 3, next_space: 4 };
    let voids = vec![Void { first: 5, last: 6, above: 7 }];
    let record = Record { base: 9, downgrade_to: 8, generation: 2, newest: 3, voids, partial: true };
    let image = Image { schema: 1, bytes: b"old", fresh: true };
    let whole =
        RowRef { key: b"key", value: b"value", schema: 2, generation: 3, revision: 4, image: Some(image) };
    let stale = RowRef { image: Some(Image { fresh: false, ..image }), ..whole };
    let written = [
        table_key("notes"),
        row_key(0x0102, b"key"),
        encode_head(&head),
        encode_table("notes", &TableRecord { space: 4, record }),
        encode_row(&whole),
        encode_row(&stale),
        encode_row(&RowRef { image: None, ..whole }),
    ];
    let expected = [
        "016e6f746573",
        "0200000000000001026b6579",
        "01010000000000000002000000000000000300000000000000040000000000000030896399",
        "0104000000000000000900000008000000020000000300000001010000000500000006000000070000005cd4ebb4",
        "010102000000030000000400000000000000050000000100000076616c75656f6c644f4bcab6",
        "010202000000030000000400000000000000050000000100000076616c75656f6c644e6e5c2c",
        "0100020000000300000004000000000000000500000076616c7565ac692726",
    ];
    assert_eq!(written.each_ref().map(|bytes| hex(bytes)), expected);
    assert_eq!(share(1, 2), 0xf86e_ded1_5a32_0b83);
}

#[test]
fn keys_are_read_as_they_were_made_and_no_others_are() {
    assert_eq!(Key::parse(&[0]), Some(Key::Head));
    assert_eq!(Key::parse(&table_key("notes")), Some(Key::Table { name: "notes" }));
    assert_eq!(Key::parse(&row_key(7, b"")), Some(Key::Row { space: 7, key: b"" }));
    assert!(row_key(7, &[0xff; 99]) < space_prefix(8), "spaces do not overlap");
    for alien in [&b""[..], &[0, 0], &[1, 0xff], &[2, 0, 0], &[3]] {
        assert_eq!(Key::parse(alien), None);
    }
}

proptest! {
    #[test]
    fn a_row_is_read_as_it_was_written(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..400),
        image in proptest::option::of((proptest::collection::vec(any::<u8>(), 0..40), any::<u32>(), any::<bool>())),
        schema: u32, generation: u32, revision: u64,
    ) {
        let image = image.as_ref().map(|(bytes, schema, fresh)| Image { schema: *schema, bytes, fresh: *fresh });
        let row = RowRef { key: &key, value: &value, schema, generation, revision, image };
        let record = encode_row(&row);
        prop_assert_eq!(decode_row(&key, &record), Some(row));
        prop_assert_eq!(decode_row(b"another key", &record), None);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode_row(&key, &flipped), None);
        }
    }

    #[test]
    fn a_table_is_read_as_it_was_written(
        name in "[a-z]{1,20}", space: u64, base: u32, downgrade_to: u32, generation: u32, newest: u32, partial: bool,
        voids in proptest::collection::vec(any::<(u32, u32, u32)>(), 0..5),
    ) {
        let voids = voids.into_iter().map(|(first, last, above)| Void { first, last, above }).collect();
        let record = Record { base, downgrade_to, generation, newest, voids, partial };
        let table = TableRecord { space, record };
        let bytes = encode_table(&name, &table);
        prop_assert_eq!(decode_table(&name, &bytes), Some(table));
        prop_assert_eq!(decode_table("Another", &bytes), None);
    }

    #[test]
    fn whatever_bytes_there_are_they_are_refused_or_are_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_row(b"k", &bytes).is_none_or(|row| encode_row(&row) == bytes));
        prop_assert!(decode_table("k", &bytes).is_none_or(|table| encode_table("k", &table) == bytes));
        prop_assert!(decode_head(&bytes).is_none_or(|head| encode_head(&head) == bytes));
        _ = Key::parse(&bytes);
    }
}

/// A record whose checksum fits may still be none: it is read with care.
#[test]
fn a_sound_checksum_over_nonsense_is_no_record() {
    let sound = |body: &[u8], key: &[u8]| {
        let sum = twox_hash::XxHash3_64::oneshot_with_seed(twox_hash::XxHash3_64::oneshot(key), body) as u32;
        [body, &sum.to_le_bytes()].concat()
    };
    let record = encode_row(&row(b"k", b"value", 1));
    let body = &record[..record.len() - 4];
    assert_eq!(sound(body, b"k"), record);
    for cut in 0..body.len() {
        assert_eq!(decode_row(b"k", &sound(&body[..cut], b"k")), None, "{cut} bytes");
    }
    for (at, byte) in [(0, 2), (1, 3), (18, 0xff)] {
        let mut changed = body.to_vec();
        changed[at] = byte;
        assert_eq!(decode_row(b"k", &sound(&changed, b"k")), None, "byte {at}");
    }
    assert_eq!(decode_row(b"k", &sound(&[body, b"more"].concat(), b"k")), None);
    let many = [&[1][..], &[0; 24], &[0], &u32::MAX.to_le_bytes()].concat();
    assert_eq!(decode_table("k", &sound(&many, b"k")), None, "voids that are not there");
}
