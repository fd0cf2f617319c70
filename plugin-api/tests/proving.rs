//! What the test kit says of chains that keep their promise, and of those that
//! do not: the latter are what it is for.

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use replug_plugin_api::{
    state::{OneWay, State, StateError, Step},
    testing,
};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct V1 {
    name: String,
    hits: u64,
}

/// Splits the name at the first blank, and knows whether there was one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
struct V2 {
    given: String,
    family: Option<String>,
    hits: u64,
}

impl Step<V1> for V2 {
    fn up(V1 { name, hits }: V1) -> Result<Self, StateError> {
        Ok(match name.split_once(' ') {
            Some((given, family)) => V2 { given: given.into(), family: Some(family.into()), hits },
            None => V2 { given: name, family: None, hits },
        })
    }

    fn down(self) -> Result<V1, StateError> {
        let name = match self.family {
            Some(family) => format!("{} {family}", self.given),
            None => self.given,
        };
        Ok(V1 { name, hits: self.hits })
    }
}

/// Knows something that no older version does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = V2, auto)]
struct V3 {
    given: String,
    family: Option<String>,
    hits: u64,
    #[serde(default)]
    misses: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 4, previous = V3, one_way)]
struct V4 {
    hits: u64,
}

impl OneWay<V3> for V4 {
    fn up(old: V3) -> Result<Self, StateError> {
        Ok(V4 { hits: old.hits })
    }
}

/// Comes from version 1 as well, and forgets large numbers.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
struct Forgetful {
    name: String,
    hits: u32,
}

impl Step<V1> for Forgetful {
    fn up(V1 { name, hits }: V1) -> Result<Self, StateError> {
        Ok(Forgetful { name, hits: u32::try_from(hits).unwrap_or(u32::MAX) })
    }

    fn down(self) -> Result<V1, StateError> {
        Ok(V1 { name: self.name, hits: self.hits.into() })
    }
}

/// Comes from that, and makes nothing worse.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = Forgetful, auto)]
struct AfterForgetful {
    name: String,
    hits: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
struct Panicking {
    name: String,
}

impl Step<V1> for Panicking {
    fn up(old: V1) -> Result<Self, StateError> {
        assert!(old.hits < 100, "the step's own panic");
        Ok(Panicking { name: old.name })
    }

    fn down(self) -> Result<V1, StateError> {
        Ok(V1 { name: self.name, hits: 0 })
    }
}

/// Serde drops what it should keep.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
struct Skipping {
    #[serde(skip)]
    hits: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = Skipping, auto)]
struct AfterSkipping {}

/// Keeps something that only the step gives it: the next start has it no more.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
struct Indexed {
    name: String,
    hits: u64,
    #[serde(skip)]
    initial: Option<char>,
}

impl Step<V1> for Indexed {
    fn up(V1 { name, hits }: V1) -> Result<Self, StateError> {
        Ok(Indexed { initial: name.chars().next(), name, hits })
    }

    fn down(self) -> Result<V1, StateError> {
        Ok(V1 { name: self.name, hits: self.hits })
    }
}

/// Comes from that, and goes by what is lost when it is written out.
#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = Indexed)]
struct AfterIndexed {
    name: String,
    hits: u64,
}

impl Step<Indexed> for AfterIndexed {
    fn up(Indexed { name, hits, initial }: Indexed) -> Result<Self, StateError> {
        let initial = initial.map_or_else(String::new, |initial| initial.to_string());
        Ok(AfterIndexed { name: format!("{initial}{name}"), hits })
    }

    fn down(self) -> Result<Indexed, StateError> {
        Indexed::up(V1 { name: self.name, hits: self.hits })
    }
}

fn v1() -> impl Strategy<Value = V1> {
    (any::<String>(), any::<u64>()).prop_map(|(name, hits)| V1 { name, hits })
}

fn v3() -> impl Strategy<Value = V3> {
    let parts = ("[^ ]*", any::<Option<String>>(), any::<u64>(), any::<u64>());
    parts.prop_map(|(given, family, hits, misses)| V3 { given, family, hits, misses })
}

/// What a test says that fails.
fn panic_of(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it fails");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).expect("it says why")
}

proptest! {
    #[test]
    fn a_chain_that_loses_nothing_passes_from_every_version(state in v1()) {
        testing::assert_round_trip::<V1, V3>(&state);
        testing::assert_row_shared::<V1, V3>(&state);
        let second: V2 = testing::upgrade(&state).expect("goes up");
        testing::assert_round_trip::<V2, V1>(&second);
        prop_assert_eq!(testing::downgrade::<V2, V1>(&second).expect("goes down"), state);
    }

    #[test]
    fn what_is_known_to_be_lost_is_left_out_of_the_comparison(state in v3()) {
        testing::assert_round_trip_but::<V3, V1>(&state, |state| state.misses = 0);
        let oldest: V1 = testing::downgrade(&state).expect("goes down");
        prop_assert_eq!(testing::upgrade::<V1, V3>(&oldest).expect("goes up"), V3 { misses: 0, ..state });
    }
}

#[test]
fn the_first_version_from_which_a_state_does_not_come_back_is_named() {
    let state = V1 { name: "ada".into(), hits: u64::MAX };
    let said = panic_of(|| testing::assert_round_trip::<V1, AfterForgetful>(&state));
    assert!(said.starts_with("schema 1 to 2 and back is not what it was"), "{said}");
    assert!(said.contains("18446744073709551615") && said.contains("4294967295"), "{said}");
    let said = panic_of(|| testing::assert_row_shared::<V1, Forgetful>(&state));
    assert!(said.starts_with("a row that was written back changed"), "{said}");
    let unknown = V3 { given: "ada".into(), family: None, hits: 0, misses: 7 };
    let said = panic_of(|| testing::assert_round_trip::<V3, V1>(&unknown));
    assert!(said.starts_with("schema 3 to 2 and back"), "{said}");
}

#[test]
fn a_missing_step_is_named() {
    let state = V1 { name: String::new(), hits: 7 };
    assert_eq!(testing::upgrade::<V1, V4>(&state).expect("goes up"), V4 { hits: 7 });
    let down = testing::downgrade::<V4, V1>(&V4 { hits: 7 });
    assert!(matches!(down, Err(StateError::NoStep { from: 4, to: 3, .. })), "{down:?}");
    let wrong_way = testing::upgrade::<V4, V1>(&V4 { hits: 7 });
    assert!(matches!(wrong_way, Err(StateError::NoStep { from: 4, to: 3, .. })), "{wrong_way:?}");
    let said = panic_of(|| testing::assert_round_trip::<V1, V4>(&state));
    assert!(said.contains("schema 1 to 4 and back") && said.contains("no step from 4 to 3"), "{said}");
    let said = panic_of(|| testing::assert_row_shared::<V1, V4>(&state));
    assert!(said.starts_with("the older version reads what the newer one wrote: "), "{said}");
}

/// Once, the kit went over bytes only, and a host hands over from value to value.
#[test]
fn a_state_that_differs_once_it_was_written_out_is_shown_in_both_forms() {
    let state = V1 { name: "ada".into(), hits: 7 };
    let said = panic_of(|| drop(testing::upgrade::<V1, Indexed>(&state)));
    assert!(said.starts_with("schema 1 to 2 is another state once it was written out"), "{said}");
    assert!(said.contains("Some('a')") && said.contains("None"), "{said}");
    let said = panic_of(|| testing::assert_round_trip::<V1, AfterIndexed>(&state));
    assert!(said.starts_with("schema 1 to 3 and back, from value to value, is not what it was"), "{said}");
}

#[test]
fn a_state_that_does_not_survive_as_bytes_is_told_apart_from_a_step_that_loses() {
    let said = panic_of(|| testing::assert_round_trip::<Skipping, AfterSkipping>(&Skipping { hits: 7 }));
    assert!(said.starts_with("schema 1 does not even survive as bytes"), "{said}");
    let said = panic_of(|| testing::assert_round_trip::<V1, V1>(&V1 { name: String::new(), hits: 0 }));
    assert!(said.contains("have the same schema"), "{said}");
}

/// The smallest state for which a check fails, as proptest finds it, and what it
/// was told.
fn smallest(check: impl Fn(&V1)) -> (V1, String) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let found = runner.run(&v1(), |state| {
        check(&state);
        Ok(())
    });
    match found {
        Err(TestError::Fail(reason, state)) => (state, reason.message().to_owned()),
        other => panic!("it did not fail: {other:?}"),
    }
}

#[test]
fn random_states_shrink_to_the_smallest_that_fails() {
    let (state, said) = smallest(testing::assert_round_trip::<V1, Forgetful>);
    assert_eq!(state, V1 { name: String::new(), hits: u64::from(u32::MAX) + 1 }, "{said}");
}

#[test]
fn a_panic_of_a_step_is_not_swallowed() {
    let (state, said) = smallest(|state| drop(testing::upgrade::<V1, Panicking>(state)));
    assert_eq!(state, V1 { name: String::new(), hits: 100 });
    assert_eq!(said, "the step's own panic");
}

#[test]
fn bytes_of_any_version_reach_the_newest() {
    let old = testing::bytes_of(&V1 { name: "Ada Lovelace".into(), hits: 7 });
    let new: V3 = testing::upgrade_bytes(1, &old).expect("goes up");
    assert_eq!(new, V3 { given: "Ada".into(), family: Some("Lovelace".into()), hits: 7, misses: 0 });
    assert!(matches!(testing::upgrade_bytes::<V3>(1, b"\xff"), Err(StateError::Step { from: 1, .. })));
}
