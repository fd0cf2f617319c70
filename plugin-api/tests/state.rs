//! Versioned state as a plugin's author uses it: through the derive macro and
//! the crate's own serde, without a dependency on any other.

use proptest::prelude::*;
use replug_plugin_api::serde::{Deserialize, Serialize};
use replug_plugin_api::state::{
    MAX_DEPTH, OneWay, State, StateError, Step, StepInfo, StepKind, decode, encode, migrate_step, steps,
};
use std::collections::BTreeMap;

/// Version 1: one number per client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 1)]
struct BucketsV1 {
    tokens: BTreeMap<String, u64>,
    rate: u32,
    name: String,
}

/// Version 2: `tokens` is renamed, and `name` is split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 2, previous = BucketsV1)]
struct BucketsV2 {
    available: BTreeMap<String, u64>,
    rate: u32,
    tenant: String,
    zone: String,
}

impl Step<BucketsV1> for BucketsV2 {
    fn up(old: BucketsV1) -> Result<Self, StateError> {
        let (tenant, zone) = old
            .name
            .split_once('/')
            .ok_or_else(|| StateError::new(format!("the name {:?} has no zone", old.name)))?;
        Ok(BucketsV2 { tenant: tenant.into(), zone: zone.into(), available: old.tokens, rate: old.rate })
    }

    fn down(self) -> Result<BucketsV1, StateError> {
        Ok(BucketsV1 {
            name: format!("{}/{}", self.tenant, self.zone),
            tokens: self.available,
            rate: self.rate,
        })
    }
}

/// Version 3: a field with a default is added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 3, previous = BucketsV2, auto)]
struct BucketsV3 {
    available: BTreeMap<String, u64>,
    rate: u32,
    tenant: String,
    zone: String,
    #[serde(default)]
    burst: Option<u32>,
}

/// Version 4: the zone is dropped for good.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 4, previous = BucketsV3, one_way)]
struct BucketsV4 {
    available: BTreeMap<String, u64>,
    rate: u32,
}

impl OneWay<BucketsV3> for BucketsV4 {
    fn up(old: BucketsV3) -> Result<Self, StateError> {
        Ok(BucketsV4 { available: old.available, rate: old.rate })
    }
}

/// Version 5 of a line whose types before it were deleted; `limit` is new.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 5)]
struct Trimmed {
    rate: u32,
    #[serde(default)]
    limit: u32,
}

/// Version 6 over it renames `limit`.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 6, previous = Trimmed)]
struct Renamed {
    rate: u32,
    ceiling: u32,
}

impl Step<Trimmed> for Renamed {
    fn up(old: Trimmed) -> Result<Self, StateError> {
        Ok(Renamed { rate: old.rate, ceiling: old.limit })
    }
    fn down(self) -> Result<Trimmed, StateError> {
        Ok(Trimmed { rate: self.rate, limit: self.ceiling })
    }
}

/// A type that can nest without bound.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[serde(crate = "replug_plugin_api::serde")]
#[state(version = 1)]
struct Tree {
    children: Vec<Tree>,
}

fn sample() -> BucketsV1 {
    BucketsV1 {
        tokens: BTreeMap::from([("alice".into(), 3), ("bob".into(), u64::MAX)]),
        rate: 10,
        name: "acme/eu".into(),
    }
}

fn walk<S: State>(versions: &[u32], mut bytes: Vec<u8>) -> Result<Vec<u8>, StateError> {
    for pair in versions.windows(2) {
        bytes = migrate_step::<S>(pair[0], pair[1], &bytes)?;
    }
    Ok(bytes)
}

#[test]
fn a_renamed_and_a_split_field_are_carried_by_the_hook() -> Result<(), StateError> {
    let up = migrate_step::<BucketsV2>(1, 2, &encode(&sample())?)?;
    let new: BucketsV2 = decode(&up)?;
    assert_eq!(new.available, sample().tokens);
    assert_eq!((new.tenant.as_str(), new.zone.as_str()), ("acme", "eu"));
    Ok(())
}

#[test]
fn a_chain_is_walked_over_several_versions_up_and_down() -> Result<(), StateError> {
    let old = encode(&sample())?;
    let up = walk::<BucketsV3>(&[1, 2, 3], old.clone())?;
    assert_eq!(decode::<BucketsV3>(&up)?.burst, None);
    assert_eq!(decode::<BucketsV3>(&up)?.zone, "eu");
    assert_eq!(walk::<BucketsV3>(&[3, 2, 1], up)?, old);
    Ok(())
}

#[test]
fn an_auto_step_drops_what_the_older_version_does_not_know() -> Result<(), StateError> {
    let v3 = BucketsV3 {
        available: BTreeMap::new(),
        rate: 1,
        tenant: "acme".into(),
        zone: "eu".into(),
        burst: Some(5),
    };
    let down: BucketsV2 = decode(&migrate_step::<BucketsV3>(3, 2, &encode(&v3)?)?)?;
    assert_eq!(down.tenant, "acme");
    let up: BucketsV3 = decode(&migrate_step::<BucketsV3>(2, 3, &encode(&down)?)?)?;
    assert_eq!(up, BucketsV3 { burst: None, ..v3 });
    Ok(())
}

#[test]
fn the_steps_are_listed_without_running_them() {
    let step = |from, to, kind| StepInfo { from, to, kind };
    assert_eq!(
        steps::<BucketsV4>(),
        [
            step(3, 4, StepKind::Hook),
            step(2, 3, StepKind::Auto),
            step(3, 2, StepKind::Auto),
            step(1, 2, StepKind::Hook),
            step(2, 1, StepKind::Hook),
        ]
    );
    assert_eq!(steps::<BucketsV1>(), []);
}

#[test]
fn a_missing_step_down_is_an_error_and_never_a_guess() -> Result<(), StateError> {
    let v4 = encode(&BucketsV4 { available: BTreeMap::new(), rate: 1 })?;
    let error = migrate_step::<BucketsV4>(4, 3, &v4).expect_err("one way");
    assert!(matches!(error, StateError::NoStep { from: 4, to: 3, version: 4, .. }));
    // Versions below the oldest declared type: up by field name, never down.
    let error = migrate_step::<Trimmed>(5, 4, &v4).expect_err("not declared");
    assert!(matches!(error, StateError::NoStep { from: 5, to: 4, .. }));
    // A step that is not one step.
    let error = migrate_step::<BucketsV3>(1, 3, &v4).expect_err("two steps at once");
    assert!(matches!(error, StateError::NoStep { from: 1, to: 3, .. }));
    Ok(())
}

#[test]
fn state_older_than_every_type_is_read_as_the_oldest_and_goes_on_from_there() -> Result<(), StateError> {
    let old = encode(&sample())?;
    let at_5 = migrate_step::<Renamed>(1, 5, &old)?;
    assert_eq!(decode::<Trimmed>(&at_5)?, Trimmed { rate: 10, limit: 0 });
    let at_6 = migrate_step::<Renamed>(5, 6, &at_5)?;
    assert_eq!(decode::<Renamed>(&at_6)?, Renamed { rate: 10, ceiling: 0 });
    // The newest type is not read directly: its renamed field has no default.
    assert!(migrate_step::<Renamed>(1, 6, &old).is_err());
    Ok(())
}

#[test]
fn errors_name_the_step_and_the_field() -> Result<(), StateError> {
    let refused = encode(&BucketsV1 { name: "acme".into(), ..sample() })?;
    let error = migrate_step::<BucketsV3>(1, 2, &refused).expect_err("refused by the hook");
    assert_eq!(error.report(), "the state step from schema 1 to 2 failed: the name \"acme\" has no zone");
    let missing = encode(&Trimmed { rate: 1, limit: 2 })?;
    let report = migrate_step::<BucketsV3>(1, 2, &missing).expect_err("not a V1").report();
    assert!(report.contains("from schema 1 to 2") && report.contains("BucketsV1"), "{report}");
    assert!(report.contains("missing field `tokens`"), "{report}");
    Ok(())
}

#[test]
fn bombs_of_nesting_and_of_length_are_refused_without_memory_or_stack() {
    // {"children": [{"children": [ … a million levels.
    let level = b"\xa1\x68children\x81";
    let nested = level.repeat(1_000_000);
    let report = decode::<Tree>(&nested).expect_err("too deep").report();
    assert!(report.contains("too many levels of nesting"), "{report}");
    // {"children": [2^60 items …
    let long = b"\xa1\x68children\x9b\x10\x00\x00\x00\x00\x00\x00\x00";
    let report = decode::<Tree>(long).expect_err("too long").report();
    assert!(report.contains("more items are claimed"), "{report}");
}

#[test]
fn state_that_could_not_be_read_back_is_refused_when_it_is_written() {
    let mut tree = Tree { children: Vec::new() };
    for _ in 0..MAX_DEPTH {
        tree = Tree { children: vec![tree] };
    }
    let report = encode(&tree).expect_err("too deep").report();
    assert!(report.contains("Tree (schema 1) cannot be encoded: too many levels"), "{report}");
}

#[test]
fn bytes_after_the_state_and_items_that_the_type_leaves_unread_are_refused() -> Result<(), StateError> {
    #[derive(Debug, Serialize, Deserialize, State)]
    #[serde(crate = "replug_plugin_api::serde")]
    #[state(version = 1)]
    struct Three(u8, u8, u8);
    #[derive(Debug, Serialize, Deserialize, State)]
    #[serde(crate = "replug_plugin_api::serde")]
    #[state(version = 2, previous = Three, auto)]
    struct Two(u8, u8);

    let mut trailing = encode(&sample())?;
    trailing.push(0);
    assert!(decode::<BucketsV1>(&trailing).is_err());
    let report = migrate_step::<Two>(1, 2, &encode(&Three(1, 2, 3))?).expect_err("shorter").report();
    assert!(report.contains("more than the type reads at byte 3"), "{report}");
    Ok(())
}

prop_compose! {
    fn any_v1()(
        tokens in prop::collection::btree_map(".{0,12}", any::<u64>(), 0..16),
        rate in any::<u32>(),
        tenant in "[^/]{0,8}",
        zone in ".{0,8}",
    ) -> BucketsV1 {
        BucketsV1 { tokens, rate, name: format!("{tenant}/{zone}") }
    }
}

proptest! {
    #[test]
    fn lossless_steps_up_and_down_give_back_the_same_bytes(old in any_v1()) {
        let bytes = encode(&old)?;
        let there_and_back = walk::<BucketsV3>(&[1, 2, 3, 2, 1], bytes.clone())?;
        prop_assert_eq!(&there_and_back, &bytes);
        prop_assert_eq!(decode::<BucketsV1>(&there_and_back)?, old);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode::<BucketsV1>(&bytes);
        let _ = decode::<Tree>(&bytes);
        for (from, to) in [(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (0, 1)] {
            let _ = migrate_step::<BucketsV4>(from, to, &bytes);
        }
    }

    #[test]
    fn damaged_state_is_an_error_or_a_state_and_never_a_panic(
        old in any_v1(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let mut bytes = encode(&old)?;
        for (place, mask) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
        }
        if let Ok(state) = decode::<BucketsV1>(&bytes) {
            prop_assert_eq!(decode::<BucketsV1>(&encode(&state)?)?, state);
        }
    }
}
