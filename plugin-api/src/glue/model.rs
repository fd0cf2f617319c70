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
            Err(error) => Err(bad_state(error)),
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
