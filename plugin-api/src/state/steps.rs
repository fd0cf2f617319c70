//! The chain of state types, and one step along it at a time.
//!
//! Each type knows the one before; a chain is walked from the newest down. A
//! step takes bytes and returns bytes, so that the host can plan, time and
//! report each one without knowing any type.

use super::{StateError, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use std::any::type_name;
use std::{borrow::Cow, iter};

/// A type that is one version of a plugin's state, or of a table's rows.
///
/// Derive it; the [module](super) says how.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state type",
    note = "derive it: `#[derive(Serialize, Deserialize, State)] #[state(version = 1)]`"
)]
pub trait State: Serialize + DeserializeOwned + 'static {
    /// The schema version, from 1 up. Change it with the shape of the type.
    const VERSION: u32;

    /// The step from and to the version before.
    #[doc(hidden)]
    const PREVIOUS: Option<Link>;
}

/// The step between the state type `P` and this one, in both directions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no step from and to `{P}`",
    note = "write `impl Step<{P}> for {Self}` with `up` and `down`",
    note = "or add to `#[state(…)]`: `auto` to go both ways by field name, or `one_way` to give up the way back"
)]
pub trait Step<P: State>: State {
    /// This version's state, from that of the version before.
    ///
    /// # Errors
    /// Any [`StateError`] refuses the data: the swap is abandoned and the old
    /// version serves on.
    fn up(old: P) -> Result<Self, StateError>;

    /// The previous version's state, from this one's, for a rollback.
    ///
    /// # Errors
    /// As for [`Step::up`].
    fn down(self) -> Result<P, StateError>;
}

/// The step from the state type `P` to this one, with no way back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no step from `{P}`",
    note = "`one_way` in `#[state(…)]` asks for `impl OneWay<{P}> for {Self}` with `up`"
)]
pub trait OneWay<P: State>: State {
    /// This version's state, from that of the version before.
    ///
    /// # Errors
    /// As for [`Step::up`].
    fn up(old: P) -> Result<Self, StateError>;
}

/// How a step is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// By the author's code.
    Hook,
    /// By field name.
    Auto,
}

/// A step that a plugin offers; `from` and `to` differ by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct StepInfo {
    /// The schema version that the bytes have.
    pub from: u32,
    /// The schema version that they get.
    pub to: u32,
    /// How.
    pub kind: StepKind,
}

/// Every step that `S` and the types before it declare, newest first, each way
/// up followed by its way down if it has one. Runs none of them.
pub fn steps<S: State>() -> Vec<StepInfo> {
    let mut steps = Vec::new();
    for link in links::<S>() {
        let Link { older, newer, kind, .. } = *link;
        steps.push(StepInfo { from: older, to: newer, kind });
        if link.down.is_some() {
            steps.push(StepInfo { from: newer, to: older, kind });
        }
    }
    steps
}

/// Makes one step: the bytes of schema `to`, from those of schema `from`.
///
/// The step is one that [`steps`] lists, or one that goes up by field name from
/// any version older than the oldest declared type to that type.
///
/// # Errors
/// [`StateError::NoStep`] if `S` declares no such step, and
/// [`StateError::Step`] if it failed. A panic of a hook passes through; the
/// plugin's glue contains it.
pub fn migrate_step<S: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    let step = find_step::<S>(from, to).ok_or(StateError::NoStep {
        type_name: type_name::<S>(),
        version: S::VERSION,
        from,
        to,
    })?;
    step(bytes).map_err(|source| StateError::Step { from, to, source: Box::new(source) })
}

/// The bytes of schema `to`, from those of schema `from`, over every step in
/// between.
///
/// # Errors
/// As [`migrate_step`].
pub(crate) fn migrate<S: State>(from: u32, to: u32, bytes: &[u8]) -> Result<Cow<'_, [u8]>, StateError> {
    let oldest = links::<S>().last().map_or(S::VERSION, |link| link.older);
    let (mut at, mut bytes) = (from, Cow::Borrowed(bytes));
    while at != to {
        let next = match at < to {
            true if at < oldest && oldest <= to => oldest,
            true => at + 1,
            false => at - 1,
        };
        bytes = Cow::Owned(migrate_step::<S>(at, next, &bytes)?);
        at = next;
    }
    Ok(bytes)
}

fn find_step<S: State>(from: u32, to: u32) -> Option<Run> {
    let (mut oldest, mut by_field_name): (u32, Run) = (S::VERSION, adopt::<S>);
    for link in links::<S>() {
        if (link.older, link.newer) == (from, to) {
            return Some(link.up);
        }
        if (link.newer, link.older) == (from, to) {
            return link.down;
        }
        (oldest, by_field_name) = (link.older, link.adopt);
    }
    (from < to && to == oldest).then_some(by_field_name)
}

fn links<S: State>() -> impl Iterator<Item = &'static Link> {
    iter::successors(const { &S::PREVIOUS }.as_ref(), |link| link.next.as_ref())
}

/// From bytes to bytes: one step.
type Run = fn(&[u8]) -> Result<Vec<u8>, StateError>;

/// A type's step from and to the version before; the derive macro makes it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Link {
    older: u32,
    newer: u32,
    kind: StepKind,
    up: Run,
    down: Option<Run>,
    /// Reads the bytes of any version as the older type.
    adopt: Run,
    /// The older type's own link.
    next: &'static Option<Link>,
}

impl Link {
    /// Both ways by the author's code.
    pub const fn hook<S: Step<P>, P: State>() -> Self {
        Self::new::<S, P>(
            StepKind::Hook,
            |bytes| encode(&S::up(decode(bytes)?)?),
            Some(|bytes| encode(&decode::<S>(bytes)?.down()?)),
        )
    }

    /// Up by the author's code; no way down.
    pub const fn one_way<S: OneWay<P>, P: State>() -> Self {
        Self::new::<S, P>(StepKind::Hook, |bytes| encode(&S::up(decode(bytes)?)?), None)
    }

    /// Both ways by field name.
    pub const fn auto<S: State, P: State>() -> Self {
        Self::new::<S, P>(StepKind::Auto, recode::<P, S>, Some(recode::<S, P>))
    }

    const fn new<S: State, P: State>(kind: StepKind, up: Run, down: Option<Run>) -> Self {
        Link {
            older: P::VERSION,
            newer: S::VERSION,
            kind,
            up,
            down,
            adopt: adopt::<P>,
            next: const { &P::PREVIOUS },
        }
    }
}

/// By field name, over the `From` type, so that a state that is not of its
/// schema is found here.
fn recode<From: State, To: State>(bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    encode(&decode::<To>(&adopt::<From>(bytes)?)?)
}

/// By field name, from whatever the bytes are.
fn adopt<S: State>(bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    encode(&decode::<S>(bytes)?)
}
