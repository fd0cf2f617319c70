//! Any bytes are answered, never with a panic.

use std::path::Path;

use proptest::prelude::*;
use replug_abi::note;
use replug_host::artifact::inspect::{Manifest, inspect};

use crate::fixture::{DT_FLAGS_1, Records, dynamic, plugin};

/// Where the parts stand that are read: a flip elsewhere changes nothing.
fn place(file: &'static [u8]) -> impl Strategy<Value = usize> {
    let section = dynamic(file, DT_FLAGS_1);
    prop_oneof![
        0..64_usize,
        64..0x1200_usize,
        section.saturating_sub(256)..(section + 512).min(file.len()),
        0..file.len(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_plugin_with_flipped_bytes_is_answered(
        flips in prop::collection::vec((place(plugin()), any::<u8>()), 1..8),
        end in prop::option::weighted(0.1, 0..plugin().len()),
    ) {
        let mut bytes = plugin().to_vec();
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(end.unwrap_or(bytes.len()));
        if let Err(error) = inspect(&bytes, Path::new("flipped.so")) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_bytes_after_the_magic_are_answered(
        mut bytes in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        bytes.splice(..0, *b"\x7fELF\x02\x01\x01");
        let _ = inspect(&bytes, Path::new("random.so"));
    }

    #[test]
    fn any_note_is_answered(desc in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Manifest::parse(&desc);
    }

    #[test]
    fn a_note_with_flipped_bytes_is_answered(
        flips in prop::collection::vec((0..Records::good().desc().len(), any::<u8>()), 1..6),
    ) {
        let mut desc = Records::good().desc();
        for (at, value) in flips {
            desc[at] = value;
        }
        if let Err(error) = Manifest::parse(&desc) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn records_read_back_as_they_were_written(
        written in prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let mut desc = Vec::new();
        for (kind, value) in &written {
            desc.extend(kind.to_le_bytes());
            desc.extend((value.len() as u16).to_le_bytes());
            desc.extend(value);
            desc.resize(desc.len().next_multiple_of(4), 0);
        }
        let read: Vec<_> = note::records(&desc).map(|r| r.expect("whole")).collect();
        prop_assert_eq!(read.len(), written.len());
        for (record, (kind, value)) in read.iter().zip(&written) {
            prop_assert_eq!(record.number(), kind & !note::CRITICAL);
            prop_assert_eq!(record.is_critical(), kind & note::CRITICAL != 0);
            prop_assert_eq!(record.value(), &value[..]);
        }
    }
}
