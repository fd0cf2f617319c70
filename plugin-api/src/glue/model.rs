//! The state models, chosen by the export line.

use crate::{
    Error, Plugin, Result, Snapshot,
    state::{self, HandOn, State, StateError, StepInfo},
};
use replug_abi::{Part, Sink, Status, interface::STEP_FAILED};
use std::marker::PhantomData;

/// How the instance table treats state.
pub trait Model<P> {
    /// The schema version of the manifest; 0 without state.
    const SCHEMA_VERSION: u32;

    /// Writes the instance's state to the sink's body, and says what the sink said;
    /// `None` when this model has none.
    fn export(plugin: &P, sink: &Sink) -> Result<Option<Status>>;

    /// The same, and the state in an earlier schema to the sink's image; `None`
    /// where a step is missing.
    fn export_down(plugin: &P, to: u32, sink: &Sink) -> Result<Option<Status>>;

    /// Takes state over, of the current schema or of one that steps lead up from;
    /// `None` when this model has none.
    fn restore(plugin: &mut P, schema_version: u32, bytes: &[u8]) -> Result<Option<()>>;

    /// Writes state of schema `from` in schema `to` to the sink's body, the way of
    /// `restore` or of `export_down`, or reads it where both are the same; `None`
    /// where no steps lead there.
    fn migrate(from: u32, to: u32, bytes: &[u8], sink: &Sink) -> Result<Option<Status>>;

    /// The steps on offer.
    fn steps() -> Vec<StepInfo>;
}

/// `state = stateless`, the default.
pub struct StatelessModel;

impl<P: Plugin> Model<P> for StatelessModel {
    const SCHEMA_VERSION: u32 = 0;

    fn export(_: &P, _: &Sink) -> Result<Option<Status>> {
        Ok(None)
    }

    fn export_down(_: &P, _: u32, _: &Sink) -> Result<Option<Status>> {
        Ok(None)
    }

    fn restore(_: &mut P, _: u32, _: &[u8]) -> Result<Option<()>> {
        Ok(None)
    }

    fn migrate(_: u32, _: u32, _: &[u8], _: &Sink) -> Result<Option<Status>> {
        Ok(None)
    }

    fn steps() -> Vec<StepInfo> {
        Vec::new()
    }
}

/// `state = snapshot`.
pub struct SnapshotModel<P>(PhantomData<P>);

impl<P: Snapshot> Model<P> for SnapshotModel<P> {
    const SCHEMA_VERSION: u32 = P::State::VERSION;

    fn export(plugin: &P, sink: &Sink) -> Result<Option<Status>> {
        let state = plugin.export()?;
        let status = written(sink, Part::BODY, |hand_on| state::encode_in_parts(&state, hand_on));
        status.map(Some).map_err(bad_state)
    }

    fn export_down(plugin: &P, to: u32, sink: &Sink) -> Result<Option<Status>> {
        let state = plugin.export()?;
        let status = written(sink, Part::BODY, |hand_on| state::encode_in_parts(&state, hand_on));
        let status = status.map_err(bad_state)?;
        if !status.is_ok() {
            return Ok(Some(status));
        }
        match written(sink, Part::IMAGE, |hand_on| state::encode_as(state, to, hand_on)) {
            Ok(status) => Ok(Some(status)),
            Err(StateError::NoStep { .. }) => Ok(None),
            Err(error @ StateError::Step { .. }) => Err(bad_state(error)),
            // What the last step gave cannot be written out: so it is the step that failed.
            Err(error) => {
                let (from, source) = (P::State::VERSION, Box::new(error));
                Err(bad_state(StateError::Step { from, to, source }))
            }
        }
    }

    fn restore(plugin: &mut P, schema_version: u32, bytes: &[u8]) -> Result<Option<()>> {
        match state::decode_from(schema_version, bytes) {
            Ok(state) => plugin.restore(state).map(Some),
            Err(StateError::NoStep { .. }) => {
                let message = format!("expected state of schema {}, got {schema_version}", P::State::VERSION);
                Err(Error::new("state.schema_mismatch", message))
            }
            Err(error) => Err(bad_state(error)),
        }
    }

    fn migrate(from: u32, to: u32, bytes: &[u8], sink: &Sink) -> Result<Option<Status>> {
        if from == to && to == P::State::VERSION {
            return state::decode::<P::State>(bytes).map(|_| Some(Status::OK)).map_err(bad_state);
        }
        match written(sink, Part::BODY, |hand_on| state::leap::<P::State>(from, to, bytes, hand_on)) {
            Ok(status) => Ok(Some(status)),
            Err(StateError::NoStep { .. }) => Ok(None),
            Err(error) => Err(bad_state(error)),
        }
    }

    fn steps() -> Vec<StepInfo> {
        state::steps::<P::State>()
    }
}

/// Writes to a part of the sink what is handed on; what the sink said.
fn written(
    sink: &Sink,
    part: Part,
    write: impl FnOnce(&mut HandOn<'_>) -> Result<(), StateError>,
) -> Result<Status, StateError> {
    let mut status = Status::OK;
    write(&mut |bytes| {
        status = sink.write(part, bytes);
        status.is_ok()
    })?;
    Ok(status)
}

fn bad_state(error: StateError) -> Error {
    let code = if matches!(error, StateError::Step { .. }) { STEP_FAILED } else { "state.bad" };
    Error::new(code, error.report())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Context,
        glue::answer::Answer,
        state::{Link, Step, encode},
    };
    use serde::{Deserialize, Serialize, Serializer, ser::Error as _};

    /// Cannot be written out with every count.
    #[derive(Deserialize)]
    struct V1 {
        count: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct V2 {
        count: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct V3 {
        count: u64,
    }

    const UNLUCKY: u64 = 13;
    const UNWRITABLE: u64 = 14;

    impl Serialize for V1 {
        fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            match self.count {
                UNWRITABLE => Err(S::Error::custom("cannot be written out")),
                count => V2 { count }.serialize(serializer),
            }
        }
    }

    impl State for V1 {
        const VERSION: u32 = 1;
        const PREVIOUS: Option<Link> = None;
    }

    impl State for V2 {
        const VERSION: u32 = 2;
        const PREVIOUS: Option<Link> = Some(Link::hook::<V2, V1>());
    }

    impl State for V3 {
        const VERSION: u32 = 3;
        const PREVIOUS: Option<Link> = Some(Link::hook::<V3, V2>());
    }

    impl Step<V1> for V2 {
        fn up(old: V1) -> std::result::Result<Self, StateError> {
            Ok(V2 { count: old.count })
        }
        fn down(self) -> std::result::Result<V1, StateError> {
            if self.count == UNLUCKY { Err(StateError::new("unlucky")) } else { Ok(V1 { count: self.count }) }
        }
    }

    impl Step<V2> for V3 {
        fn up(old: V2) -> std::result::Result<Self, StateError> {
            Ok(V3 { count: old.count })
        }
        fn down(self) -> std::result::Result<V2, StateError> {
            Ok(V2 { count: self.count })
        }
    }

    struct Counter {
        count: u64,
    }

    impl Plugin for Counter {
        type Config = ();
        fn prepare((): (), _: &Context) -> Result<Self> {
            Ok(Counter { count: 0 })
        }
    }

    impl Snapshot for Counter {
        type State = V3;
        fn export(&self) -> Result<V3> {
            Ok(V3 { count: self.count })
        }
        fn restore(&mut self, state: V3) -> Result<()> {
            self.count = state.count;
            Ok(())
        }
    }

    /// What `ask` says to a sink.
    fn asked(ask: impl FnOnce(&Sink) -> Result<Option<Status>>) -> Result<Option<Status>> {
        let mut outcome = Ok(None);
        let _ = Answer::collect(|sink| {
            outcome = ask(sink);
            Status::OK
        });
        outcome
    }

    /// `export_down`, and the way that it is tried by.
    fn both_ways(count: u64, to: u32) -> [Result<Option<Status>>; 2] {
        let bytes = encode(&V3 { count }).expect("has bytes");
        [
            asked(|sink| SnapshotModel::export_down(&Counter { count }, to, sink)),
            asked(|sink| SnapshotModel::<Counter>::migrate(3, to, &bytes, sink)),
        ]
    }

    /// When its outcome could not be written out, it was told as a hook that
    /// failed: not as the step that has to be mended.
    #[test]
    fn a_step_down_that_fails_or_gives_what_cannot_be_written_out_is_told_as_one() {
        for outcome in both_ways(7, 1) {
            assert_eq!(outcome.expect("goes down"), Some(Status::OK));
        }
        for (count, message) in [
            (UNLUCKY, "the state step from schema 2 to 1 failed: unlucky"),
            (UNWRITABLE, "the state step from schema 3 to 1 failed: "),
        ] {
            for outcome in both_ways(count, 1) {
                let error = outcome.expect_err("does not go down");
                assert_eq!(error.code(), STEP_FAILED, "{error}");
                assert!(error.message().starts_with(message), "{error}");
            }
        }
        for outcome in both_ways(UNWRITABLE, 0) {
            assert_eq!(outcome.expect("is no failure"), None, "no step leads there");
        }
    }
}
