//! The steps of a chain of state types, walked as a host walks them: over bytes,
//! a step at a time. Of plugins and libraries it knows nothing.

use super::Host;
use crate::{
    Table,
    state::{self, State, StateError},
};
use std::{any::type_name, borrow::Cow, fmt::Debug};

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
pub fn upgrade<Old: State, New: State>(old: &Old) -> Result<New, StateError> {
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
pub fn upgrade_bytes<New: State>(schema: u32, bytes: &[u8]) -> Result<New, StateError> {
    state::decode(&state::migrate::<New>(schema, New::VERSION, bytes)?)
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
pub fn downgrade<New: State, Old: State>(new: &New) -> Result<Old, StateError> {
    let bytes = state::encode(new)?;
    state::decode(&state::migrate::<New>(New::VERSION, Old::VERSION, &bytes)?)
}

/// Demands that a state comes back as it was from every version on the way to
/// another one, that one included: `<V1, V3>` goes from 1 to 2 and back, and to
/// 3 and back; `<V3, V1>` goes down first.
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
/// smallest state for which it does. A panic of a step passes through.
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
        let trip = format_args!("schema {from} to {turn} and back");
        let there = must(migrate::<From, To>(from, turn, &bytes), trip);
        let back = must(migrate::<From, To>(turn, from, &there), trip);
        let mut back: From = must(state::decode(&back), trip);
        forget(&mut back);
        assert!(back == original, "{trip} is not what it was\n  it was: {original:?}\n  now is: {back:?}");
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
/// row. A panic of a step passes through.
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

/// By the steps of the newer of two types.
fn migrate<A: State, B: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Cow<'_, [u8]>, StateError> {
    if A::VERSION > B::VERSION {
        state::migrate::<A>(from, to, bytes)
    } else {
        state::migrate::<B>(from, to, bytes)
    }
}

/// What there is, or the end of the test with all the causes.
#[track_caller]
pub(super) fn must<T>(result: Result<T, impl Into<crate::Error>>, what: impl std::fmt::Display) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {}", error.into().message()),
    }
}
