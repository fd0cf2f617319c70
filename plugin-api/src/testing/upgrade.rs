//! The steps of a chain of state types, gone in both ways in which a host has them
//! gone: from value to value, as a snapshot is handed over, and over bytes, a step
//! at a time, as rows of tables go. Of plugins and libraries it knows nothing.

use super::Host;
use crate::{
    Table,
    state::{self, State, StateError},
};
use std::{any::type_name, fmt::Debug};

/// The state of a newer version, from that of an older one, over every step in
/// between.
///
/// `Old` is one of the types that `New` comes from, or the type of the same
/// schema in the package of the older version itself.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError, Step}, testing};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct V1 { hits: u64 }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 2, previous = V1)]
/// struct V2 { total: u64 }
///
/// impl Step<V1> for V2 {
///     fn up(old: V1) -> Result<Self, StateError> {
///         Ok(V2 { total: old.hits })
///     }
///     fn down(self) -> Result<V1, StateError> {
///         Ok(V1 { hits: self.total })
///     }
/// }
///
/// let new: V2 = testing::upgrade(&V1 { hits: 7 })?;
/// assert_eq!(new, V2 { total: 7 });
/// # Ok::<(), StateError>(())
/// ```
///
/// # Errors
/// Of the first step that fails; [`StateError::NoStep`] where one is not
/// declared. A panic of a step passes through.
///
/// # Panics
/// When another state comes out where every step is written out and read again: a
/// version that takes over would then have another one than after its next
/// restart. And for any state with a NaN in it, which no state equals.
#[track_caller]
pub fn upgrade<Old: State, New: State + PartialEq + Debug>(old: &Old) -> Result<New, StateError> {
    upgrade_bytes(Old::VERSION, &state::encode(old)?)
}

/// [`upgrade`] of bytes: those of a [`golden`](super::golden) file, say, or of
/// a snapshot that a host saved.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError}, testing};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct V1 { hits: u64 }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 2, previous = V1, auto)]
/// struct V2 { hits: u64, #[serde(default)] misses: u64 }
///
/// let new: V2 = testing::upgrade_bytes(1, b"\xa1\x64hits\x07")?;
/// assert_eq!(new, V2 { hits: 7, misses: 0 });
/// # Ok::<(), StateError>(())
/// ```
///
/// # Errors
/// As [`upgrade`].
///
/// # Panics
/// As [`upgrade`].
#[track_caller]
pub fn upgrade_bytes<New: State + PartialEq + Debug>(schema: u32, bytes: &[u8]) -> Result<New, StateError> {
    let by_steps = state::decode(&state::migrate::<New>(schema, New::VERSION, bytes)?)?;
    let at_once = state::decode_from(schema, bytes)?;
    assert_same(schema, New::VERSION, &at_once, &by_steps);
    Ok(at_once)
}

/// The state that an older version is handed by a rollback, over every step in
/// between.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError}, testing};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 1)]
/// # struct V1 { hits: u64 }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 2, previous = V1, auto)]
/// # struct V2 { hits: u64, #[serde(default)] misses: u64 }
/// let old: V1 = testing::downgrade(&V2 { hits: 7, misses: 3 })?;
/// assert_eq!(old, V1 { hits: 7 });
/// # Ok::<(), StateError>(())
/// ```
///
/// # Errors
/// As [`upgrade`].
///
/// # Panics
/// As [`upgrade`].
#[track_caller]
pub fn downgrade<New: State, Old: State + PartialEq + Debug>(new: &New) -> Result<Old, StateError> {
    let (from, to, bytes) = (New::VERSION, Old::VERSION, state::encode(new)?);
    let by_steps = state::decode(&state::migrate::<New>(from, to, &bytes)?)?;
    let at_once = state::decode(&leap::<New>(from, to, &bytes)?)?;
    assert_same(from, to, &at_once, &by_steps);
    Ok(at_once)
}

/// Demands that a state comes back as it was from every version on the way to
/// another one, that one included, from value to value as well as step by step:
/// `<V1, V3>` goes from 1 to 2 and back, and to 3 and back; `<V3, V1>` goes down
/// first.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError}, testing};
/// # use serde::{Deserialize, Serialize};
/// use proptest::prelude::*;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 1)]
/// struct V1 { hits: u64 }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// #[state(version = 2, previous = V1, auto)]
/// struct V2 { hits: u64, #[serde(default)] misses: u64 }
///
/// proptest!(|(hits: u64)| testing::assert_round_trip::<V1, V2>(&V1 { hits }));
/// ```
///
/// # Panics
/// When something else comes back, or a step fails: proptest then looks for the
/// smallest state for which it does. For any state with a NaN in it, which no state
/// equals. A panic of a step passes through.
#[track_caller]
pub fn assert_round_trip<From: State + PartialEq + Debug, To: State>(state: &From) {
    assert_round_trip_but::<From, To>(state, |_| ());
}

/// [`assert_round_trip`], but for what is known to be lost: `forget` sets that
/// to some fixed value, before what came back is compared.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError}, testing};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 1)]
/// # struct V1 { hits: u64 }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 2, previous = V1, auto)]
/// # struct V2 { hits: u64, #[serde(default)] misses: u64 }
/// // Version 1 has no field for misses.
/// testing::assert_round_trip_but::<V2, V1>(&V2 { hits: 7, misses: 3 }, |state| state.misses = 0);
/// ```
///
/// # Panics
/// As [`assert_round_trip`].
#[track_caller]
pub fn assert_round_trip_but<From: State + PartialEq + Debug, To: State>(
    state: &From,
    forget: impl Fn(&mut From),
) {
    let (from, to) = (From::VERSION, To::VERSION);
    assert_ne!(from, to, "{} and {} have the same schema", type_name::<From>(), type_name::<To>());
    let bytes = must(state::encode(state), format_args!("schema {from}"));
    let mut original: From = must(state::decode(&bytes), format_args!("schema {from}"));
    assert!(
        original == *state,
        "schema {from} does not even survive as bytes\n  it was: {state:?}\n  now is: {original:?}"
    );
    forget(&mut original);
    let mut turn = from;
    while turn != to {
        turn = if turn < to { turn + 1 } else { turn - 1 };
        for (go, way) in [(migrate::<From, To> as Go, ""), (leap_along::<From, To>, ", from value to value,")]
        {
            let trip = format_args!("schema {from} to {turn} and back{way}");
            let there = must(go(from, turn, &bytes), trip);
            let back = must(go(turn, from, &there), trip);
            let mut back: From = must(state::decode(&back), trip);
            forget(&mut back);
            assert!(
                back == original,
                "{trip} is not what it was\n  it was: {original:?}\n  now is: {back:?}"
            );
        }
    }
}

/// Demands that a newer version can use a row of an older one while that still
/// uses it: what the newer one reads and writes back, the older one finds as it
/// left it. In tables of a [`Host`], through all that a plugin's calls of
/// [`Table`] go through.
///
/// ```
/// # use replug_plugin_api::{state::{State, StateError}, testing};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 1)]
/// # struct V1 { hits: u64 }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, State)]
/// # #[state(version = 2, previous = V1, auto)]
/// # struct V2 { hits: u64, #[serde(default)] misses: u64 }
/// testing::assert_row_shared::<V1, V2>(&V1 { hits: 7 });
/// ```
///
/// # Panics
/// When the older version finds something else, or one of them cannot read the
/// row. For any row with a NaN in it, which no row equals. A panic of a step passes
/// through.
#[track_caller]
pub fn assert_row_shared<Old: State + PartialEq + Debug, New: State>(row: &Old) {
    const CONVERTED: &u8 = &0;
    const WRITTEN: &u8 = &1;
    let host = Host::new();
    let old: Table<u8, Old> = must(host.context().table("rows"), "opening the table");
    host.commit("rows", Old::VERSION);
    must(old.put(CONVERTED, row), "the older version writes");
    let new: Table<u8, New> = must(host.context().table("rows"), "opening the table");
    let found = must(new.get(CONVERTED), "the newer version reads").expect("nobody removes it");
    let left = must(old.get(CONVERTED), "the older version reads what the newer one has read");
    assert!(left.as_ref() == Some(row), "a row that was only read changed from {row:?} to {left:?}");
    // Beside it, where no value of the older version can stand in.
    must(new.put(WRITTEN, &found), "the newer version writes");
    let left = must(old.get(WRITTEN), "the older version reads what the newer one wrote");
    assert!(left.as_ref() == Some(row), "a row that was written back changed from {row:?} to {left:?}");
    host.commit("rows", New::VERSION);
    let alone = must(new.get(WRITTEN), "the newer version reads, alone");
    assert!(alone.is_some(), "the row went with the commit");
}

/// From the bytes of one schema to those of another.
type Go = fn(u32, u32, &[u8]) -> Result<Vec<u8>, StateError>;

/// Step by step, by those of the newer of two types.
fn migrate<A: State, B: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    let newer = if A::VERSION > B::VERSION { state::migrate::<A> } else { state::migrate::<B> };
    newer(from, to, bytes).map(Into::into)
}

/// From value to value, likewise.
fn leap_along<A: State, B: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    if A::VERSION > B::VERSION { leap::<A>(from, to, bytes) } else { leap::<B>(from, to, bytes) }
}

/// From value to value.
fn leap<S: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    if from == to {
        return Ok(bytes.to_vec());
    }
    let mut all = Vec::new();
    state::leap::<S>(from, to, bytes, &mut |part: &[u8]| {
        all.extend_from_slice(part);
        true
    })?;
    Ok(all)
}

#[track_caller]
fn assert_same<S: PartialEq + Debug>(from: u32, to: u32, at_once: &S, by_steps: &S) {
    assert!(
        at_once == by_steps,
        "schema {from} to {to} is another state once it was written out\n  from value to value: {at_once:?}\n  written out and read: {by_steps:?}"
    );
}

/// What there is, or the end of the test with all the causes.
#[track_caller]
pub(super) fn must<T>(result: Result<T, impl Into<crate::Error>>, what: impl std::fmt::Display) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {}", error.into().message()),
    }
}
