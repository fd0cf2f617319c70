//! The state models, chosen by the export line.

use crate::{
    Error, Plugin, Result, Snapshot,
    state::{self, State, StateError, StepInfo},
};
use std::marker::PhantomData;

/// How the instance table treats state.
pub trait Model<P> {
    /// The schema version of the manifest; 0 without state.
    const SCHEMA_VERSION: u32;

    /// The instance's state as bytes.
    fn export(plugin: &P) -> Result<Option<Vec<u8>>>;

    /// Takes state over; `None` when this model has none.
    fn restore(plugin: &mut P, schema_version: u32, bytes: &[u8]) -> Result<Option<()>>;

    /// One migration step.
    fn migrate(from: u32, to: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The steps on offer.
    fn steps() -> Vec<StepInfo>;
}

/// `state = stateless`, the default.
pub struct StatelessModel;

impl<P: Plugin> Model<P> for StatelessModel {
    const SCHEMA_VERSION: u32 = 0;

    fn export(_: &P) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn restore(_: &mut P, _: u32, _: &[u8]) -> Result<Option<()>> {
        Ok(None)
    }

    fn migrate(_: u32, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>> {
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

    fn export(plugin: &P) -> Result<Option<Vec<u8>>> {
        Ok(Some(state::encode(&plugin.export()?).map_err(bad_state)?))
    }

    fn restore(plugin: &mut P, schema_version: u32, bytes: &[u8]) -> Result<Option<()>> {
        if schema_version != P::State::VERSION {
            let message = format!("expected state of schema {}, got {schema_version}", P::State::VERSION);
            return Err(Error::new("state.schema_mismatch", message));
        }
        plugin.restore(state::decode(bytes).map_err(bad_state)?).map(Some)
    }

    fn migrate(from: u32, to: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        match state::migrate_step::<P::State>(from, to, bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StateError::NoStep { .. }) => Ok(None),
            Err(error) => Err(bad_state(error)),
        }
    }

    fn steps() -> Vec<StepInfo> {
        state::steps::<P::State>()
    }
}

fn bad_state(error: StateError) -> Error {
    Error::new("state.bad", error.report())
}
