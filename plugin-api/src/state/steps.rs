//! The chain of state types, and one step along it at a time.
//!
//! Each type knows the one before; a chain is walked from the newest down. A
//! step takes bytes and returns bytes: so go rows of tables, which are small, of
//! many schemas, and written back when they are read. A whole state goes over all
//! steps at once, from value to value, since callers may wait for it.

#[cfg(test)]
mod tests;

use super::{HandOn, StateError, decode, encode, encode_in_parts};
use serde::{Serialize, de::DeserializeOwned};
use std::any::{Any, type_name};
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

/// The state that bytes of an earlier schema hold, over every step in between.
/// Unlike with [`migrate`], a value of one type becomes one of the next; only a
/// step by field name still goes through bytes.
///
/// # Errors
/// As [`migrate_step`].
pub(crate) fn decode_from<S: State>(from: u32, bytes: &[u8]) -> Result<S, StateError> {
    let (type_name, version) = (type_name::<S>(), S::VERSION);
    let no_step = || StateError::NoStep { type_name, version, from, to: version };
    match const { &S::PREVIOUS } {
        _ if from == version => decode(bytes),
        // A link that a macro made gives what it was asked for.
        Some(link) if from < version => {
            (link.raise)(from, bytes)?.downcast().map(|state| *state).map_err(|_| no_step())
        }
        // By field name, from a version that no type is declared for any more.
        None if from < version => {
            decode(bytes).map_err(|source| StateError::Step { from, to: version, source: Box::new(source) })
        }
        _ => Err(no_step()),
    }
}

/// Hands on the bytes of `state` in an earlier schema, over every step in between,
/// again from value to value.
///
/// # Errors
/// As [`migrate_step`]; what was handed on until then is to be forgotten.
pub(crate) fn encode_as<S: State>(state: S, to: u32, hand_on: &mut HandOn<'_>) -> Result<(), StateError> {
    let (type_name, version) = (type_name::<S>(), S::VERSION);
    if to == version {
        return encode_in_parts(&state, hand_on);
    }
    let link = const { &S::PREVIOUS }.as_ref().filter(|_| to < version);
    match link.and_then(|link| link.lower) {
        Some(lower) => lower(&mut Some(state), to, hand_on),
        None => Err(StateError::NoStep { type_name, version, from: version, to }),
    }
}

/// Hands on the bytes of schema `to`, from those of schema `from`, over every step
/// in between: the way of [`decode_from`] where it goes up, and that of
/// [`encode_as`] where it goes down.
///
/// # Errors
/// As [`migrate_step`]; what was handed on until then is to be forgotten.
pub(crate) fn leap<S: State>(
    from: u32,
    to: u32,
    bytes: &[u8],
    hand_on: &mut HandOn<'_>,
) -> Result<(), StateError> {
    let (type_name, version) = (type_name::<S>(), S::VERSION);
    let no_step = || StateError::NoStep { type_name, version, from, to };
    let in_step = |source| match source {
        StateError::Step { .. } => source,
        _ => StateError::Step { from, to, source: Box::new(source) },
    };
    match const { &S::PREVIOUS } {
        _ if from < to && to == version => {
            let state: S = decode_from(from, bytes).map_err(in_step)?;
            encode_in_parts(&state, hand_on).map_err(in_step)
        }
        _ if to < from && from == version && leads_down::<S>(to) => {
            encode_as(decode::<S>(bytes).map_err(in_step)?, to, hand_on).map_err(in_step)
        }
        // Between two types that are both older.
        Some(link) if from != to && from.max(to) < version => {
            (link.leap)(from, to, bytes, hand_on).map_err(|error| match error {
                StateError::NoStep { .. } => no_step(),
                error => error,
            })
        }
        _ => Err(no_step()),
    }
}

/// Whether every step down to schema `to` is declared.
fn leads_down<S: State>(to: u32) -> bool {
    let mut at = S::VERSION;
    for link in links::<S>().take_while(|link| link.newer > to && link.lower.is_some()) {
        at = link.older;
    }
    at == to
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

/// From bytes of a schema to a value of a type that only the caller knows.
type Raise = fn(u32, &[u8]) -> Result<Box<dyn Any>, StateError>;

/// Hands on in an earlier schema what an option holds of a type that only the
/// caller knows.
type Lower = fn(&mut dyn Any, u32, &mut HandOn<'_>) -> Result<(), StateError>;

/// Hands on in one schema what bytes of another hold.
type Leap = fn(u32, u32, &[u8], &mut HandOn<'_>) -> Result<(), StateError>;

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
    /// Reads the bytes of any version, and gives a value of the newer type.
    raise: Raise,
    /// Hands on a value of the newer type as the older one, or one before that.
    lower: Option<Lower>,
    /// Between the older type and those before it.
    leap: Leap,
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
            |from, bytes| raise::<S, P>(from, bytes, S::up),
            Some(|state, to, hand_on| lower::<S, P>(state, to, hand_on, S::down)),
        )
    }

    /// Up by the author's code; no way down.
    pub const fn one_way<S: OneWay<P>, P: State>() -> Self {
        Self::new::<S, P>(
            StepKind::Hook,
            |bytes| encode(&S::up(decode(bytes)?)?),
            None,
            |from, bytes| raise::<S, P>(from, bytes, S::up),
            None,
        )
    }

    /// Both ways by field name.
    pub const fn auto<S: State, P: State>() -> Self {
        Self::new::<S, P>(
            StepKind::Auto,
            recode::<P, S>,
            Some(recode::<S, P>),
            |from, bytes| raise::<S, P>(from, bytes, |old| decode(&encode(&old)?)),
            Some(|state, to, hand_on| lower::<S, P>(state, to, hand_on, |new| decode(&encode(&new)?))),
        )
    }

    const fn new<S: State, P: State>(
        kind: StepKind,
        up: Run,
        down: Option<Run>,
        raise: Raise,
        lower: Option<Lower>,
    ) -> Self {
        Link {
            older: P::VERSION,
            newer: S::VERSION,
            kind,
            up,
            down,
            adopt: adopt::<P>,
            raise,
            lower,
            leap: leap::<P>,
            next: const { &P::PREVIOUS },
        }
    }
}

/// By field name, over the `From` type, so that a state that is not of its
/// schema is found here.
fn recode<From: State, To: State>(bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    encode(&decode::<To>(&adopt::<From>(bytes)?)?)
}

/// One step up from what the bytes of schema `from` hold, as the older type.
fn raise<S: State, P: State>(
    from: u32,
    bytes: &[u8],
    up: fn(P) -> Result<S, StateError>,
) -> Result<Box<dyn Any>, StateError> {
    let in_step = |source| StateError::Step { from: P::VERSION, to: S::VERSION, source: Box::new(source) };
    let old = match from == P::VERSION {
        true => decode(bytes).map_err(in_step)?,
        false => decode_from::<P>(from, bytes)?,
    };
    Ok(Box::new(up(old).map_err(in_step)?))
}

/// One step down from what the option holds, and on from there.
fn lower<S: State, P: State>(
    state: &mut dyn Any,
    to: u32,
    hand_on: &mut HandOn<'_>,
    down: fn(S) -> Result<P, StateError>,
) -> Result<(), StateError> {
    let (from, older) = (S::VERSION, P::VERSION);
    let state = state.downcast_mut::<Option<S>>().and_then(Option::take);
    let state =
        state.ok_or(StateError::NoStep { type_name: type_name::<S>(), version: from, from, to: older })?;
    let state =
        down(state).map_err(|source| StateError::Step { from, to: older, source: Box::new(source) })?;
    encode_as(state, to, hand_on)
}

/// By field name, from whatever the bytes are.
fn adopt<S: State>(bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    encode(&decode::<S>(bytes)?)
}
