//! The frozen form, what growth it allows, and every way to damage it.

use super::*;
use ciborium::Value;
use proptest::prelude::*;

fn sample() -> Envelope {
    Envelope {
        plugin: "rate-limit".into(),
        schema_version: 2,
        plugin_version: Version::new(1, 4, 0),
        taken_at_unix_ms: 1_732_150_000_123,
        payload: b"\xa1\x64hits\x07".to_vec(),
    }
}

const LIMIT: u64 = 1024 * 1024;

fn open(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
    Envelope::open(bytes, LIMIT)
}

/// One whose payload is worth packing.
fn packable() -> Envelope {
    let payload = b"\x78\xc8".iter().copied().chain(b"state ".repeat(50)).take(202).collect();
    Envelope { payload, ..sample() }
}

/// An envelope of other fields, with a right digest.
fn sealed(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut fields: Vec<_> = fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
    fields.push((Value::from("sha256"), Value::Bytes(vec![0; DIGEST_BYTES])));
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Map(fields), &mut bytes).expect("memory");
    let before = bytes.len() - DIGEST_BYTES;
    let sha256 = digest(&bytes[..before]);
    bytes[before..].copy_from_slice(&sha256);
    bytes
}

fn fields() -> Vec<(&'static str, Value)> {
    vec![
        ("format", 1.into()),
        ("plugin", "rate-limit".into()),
        ("schema_version", 2.into()),
        ("plugin_version", "1.4.0".into()),
        ("taken_at_unix_ms", 1_732_150_000_123_u64.into()),
        ("encoding", "identity".into()),
        ("length", 7.into()),
        ("payload", Value::Bytes(sample().payload)),
    ]
}

fn with(name: &str, value: Value) -> Vec<u8> {
    let mut fields = fields();
    for field in &mut fields {
        if field.0 == name {
            field.1 = value.clone();
        }
    }
    sealed(&fields)
}

/// The contract. If this fails, files that operators have can no longer be
/// read: take a new format and keep reading this one, do not edit the test.
#[test]
fn the_form_of_the_envelope_is_frozen() {
    let golden = concat!(
        "a9",
        "66666f726d6174",
        "01",
        "66706c7567696e",
        "6a726174652d6c696d6974",
        "6e736368656d615f76657273696f6e",
        "02",
        "6e706c7567696e5f76657273696f6e",
        "65312e342e30",
        "7074616b656e5f61745f756e69785f6d73",
        "1b000001934c2f79fb",
        "68656e636f64696e67",
        "686964656e74697479",
        "666c656e677468",
        "07",
        "677061796c6f6164",
        "47a1646869747307",
        "66736861323536",
        "5820",
        "d29ae9a1588a73115f188abf8a9be77eb313f760f030a46c8cdaf4012e776269",
    );
    let bytes = sample().seal().bytes;
    assert_eq!(hex(&bytes), golden);
    assert_eq!(open(&bytes), Ok(sample()));
}

#[test]
fn fields_of_a_later_version_are_skipped_and_still_under_the_digest() {
    let mut later = fields();
    later.insert(3, ("signed_by", Value::Array(vec!["someone".into()])));
    let mut bytes = sealed(&later);
    assert_eq!(open(&bytes), Ok(sample()));
    let place = bytes.windows(7).position(|text| text == b"someone").expect("is there");
    bytes[place] ^= 1;
    assert!(matches!(open(&bytes), Err(EnvelopeError::Digest { .. })));
}

#[test]
fn every_check_has_its_own_error() {
    use EnvelopeError as E;
    let whole = sample().seal().bytes;
    let error = |bytes: &[u8]| open(bytes).expect_err("must be refused");
    assert!(matches!(error(&whole[..whole.len() - 1]), E::Incomplete { .. }));
    assert!(matches!(error(b""), E::Incomplete { length: 0 }));
    assert!(matches!(error(&with("format", 2.into())), E::Format { found: 2, supported: 1 }));
    assert!(matches!(error(&sealed(&[("format", 9.into())])), E::Format { found: 9, .. }));
    assert!(matches!(error(&sealed(&[("format", 1.into())])), E::Malformed { .. }));
    assert!(matches!(error(&with("length", 8.into())), E::Length { declared: 8, actual: 7 }));
    assert!(matches!(error(&with("plugin_version", "1".into())), E::Malformed { .. }));
    assert!(matches!(error(&with("payload", "text".into())), E::Malformed { .. }));
    let E::Encoding { found } = error(&with("encoding", "lz4".into())) else {
        panic!("an unknown encoding must be named");
    };
    assert_eq!(found, "lz4");
    assert_eq!(error(&with("encoding", "lz4".into())).code(), Code::StateFormat);
    assert_eq!(error(&with("length", 8.into())).code(), Code::StateCorrupt);
}

/// Reading this is the contract; that other bytes are written is none, as the
/// packing gets better.
#[test]
fn a_packed_envelope_of_the_first_release_is_read() {
    let frame = "28b52ffd20ca7d00004078c87374617465200100bf50850b";
    let packed = (0..frame.len()).step_by(2).map(|at| u8::from_str_radix(&frame[at..at + 2], 16));
    let packed: Vec<u8> = packed.collect::<Result<_, _>>().expect("hexadecimal");
    let mut packed_fields = fields();
    packed_fields[5].1 = "zstd".into();
    packed_fields[6].1 = 202.into();
    packed_fields[7].1 = Value::Bytes(packed);
    assert_eq!(open(&sealed(&packed_fields)), Ok(packable()));
}

#[test]
fn a_payload_is_packed_only_where_that_makes_it_smaller() {
    let encoding = |payload: &[u8]| Packed::of(payload).encoding;
    assert_eq!(encoding(&[0; 127]), "identity");
    assert_eq!(encoding(&[0; 128]), "zstd");
    let mut noise: Vec<u8> = Vec::new();
    while noise.len() < 10_000 {
        noise.extend(digest(&noise));
    }
    assert_eq!(encoding(&noise), "identity");
    assert!(packable().seal().bytes.len() < packable().payload.len());
}

#[test]
fn every_flipped_byte_and_every_missing_end_is_found() {
    for envelope in [sample(), packable()] {
        let whole = envelope.seal().bytes;
        assert_eq!(open(&whole), Ok(envelope));
        for place in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] ^= flip;
                assert!(open(&bytes).is_err(), "byte {place} ^ {flip:#x}");
            }
            assert!(open(&whole[..place]).is_err(), "cut at {place}");
        }
    }
}

/// With a right digest, as who makes a bomb can give it one.
#[test]
fn packed_bytes_never_become_more_than_was_declared_and_allowed() {
    let bomb = |declared: u64| {
        let packed = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 1).expect("packs");
        assert!(packed.len() < 10_000, "it is small");
        let mut fields = fields();
        fields[5].1 = "zstd".into();
        fields[6].1 = declared.into();
        fields[7].1 = Value::Bytes(packed);
        open(&sealed(&fields)).expect_err("must be refused")
    };
    assert!(matches!(bomb(1000), EnvelopeError::Packing { declared: 1000, .. }));
    let above = bomb(64 * 1024 * 1024);
    assert_eq!(above, EnvelopeError::TooLarge { declared: 64 * 1024 * 1024, limit: LIMIT });
    assert_eq!(above.code(), Code::StateTooLarge);
    assert!(matches!(bomb(u64::MAX), EnvelopeError::TooLarge { .. }));
}

#[test]
fn a_packed_payload_that_is_shorter_than_declared_or_no_frame_is_refused() {
    let refused = |payload: &[u8]| {
        let mut fields = fields();
        fields[5].1 = "zstd".into();
        fields[7].1 = Value::Bytes(payload.to_vec());
        open(&sealed(&fields)).expect_err("must be refused")
    };
    let short = zstd::bulk::compress(b"short", 1).expect("packs");
    assert_eq!(refused(&short), EnvelopeError::Length { declared: 7, actual: 5 });
    assert_eq!(refused(b""), EnvelopeError::Length { declared: 7, actual: 0 });
    for broken in [&short[..short.len() - 1], b"none at all"] {
        let error = refused(broken);
        assert!(matches!(error, EnvelopeError::Packing { declared: 7, .. }), "{error}");
        assert_eq!(error.code(), Code::StateCorrupt);
    }
}

/// Bytes of any kind, and such as are worth packing.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..300);
    let repeated = (prop::collection::vec(any::<u8>(), 1..40), 0..2000_usize)
        .prop_map(|(part, length)| part.into_iter().cycle().take(length).collect());
    prop_oneof![any_bytes, repeated]
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened_and_no_flipped_bit_goes_unseen(
        plugin in ".{1,40}",
        schema_version in any::<u32>(),
        taken_at_unix_ms in any::<u64>(),
        payload in payloads(),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let plugin_version = Version::new(1, 2, 3);
        let envelope =
            Envelope { plugin, schema_version, plugin_version, taken_at_unix_ms, payload };
        let mut bytes = envelope.seal().bytes;
        prop_assert_eq!(open(&bytes), Ok(envelope));
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&bytes).is_err());
    }
}
