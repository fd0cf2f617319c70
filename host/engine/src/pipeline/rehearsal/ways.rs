//! The ways of state and rows into a version, and back.

use super::{Stage, Stopped, ran};
use crate::{
    load::StepInfo,
    pipeline::{
        error::DeployError,
        state::{self, Converted},
    },
    rehearse::{Record, RowsWay, StateWay, Step, WayBack},
    service::Serving,
    state::{
        chain::{self, MigratePolicy, NoPath, Plan},
        envelope::Envelope,
    },
    table::{SampleRow, VALUE_BYTES_MAX},
};
use std::cmp::Ordering::{Equal, Greater, Less};

impl Stage {
    /// What a new instance of the version before gives.
    pub(super) fn first_state_of(&self, old: &Serving) -> Result<Option<Envelope>, Stopped> {
        if !old.manifest().state.snapshot {
            return Ok(None);
        }
        let bytes_max = usize::try_from(self.bounds.state_bytes).unwrap_or(usize::MAX);
        Ok(Some(state::envelope(old, ran(old.export(bytes_max))?)))
    }

    /// The way of the state into the version, and back. `old`, the version before, converts
    /// it on the way down, and reads it when it has come back.
    pub(super) fn rehearse_state(
        &mut self,
        new: &Serving,
        old: Option<&Serving>,
        state: &Envelope,
    ) -> Result<(), Stopped> {
        let bytes_max = usize::try_from(self.bounds.state_bytes).unwrap_or(usize::MAX);
        let (from, to) = (state.schema_version, new.manifest().schema_version);
        let bytes_before = state.payload.len() as u64;
        let mut way = StateWay {
            from_schema: from,
            to_schema: to,
            bytes_before,
            bytes_after: None,
            way_back: WayBack::NotReached,
        };
        // Also if it goes no further.
        self.say(&Record::State { way: way.clone() });
        let converter = old.filter(|_| from > to).unwrap_or(new);
        let is_down = from > to;
        let (schema, payload) = self.take(Step::Migrate, is_down, |_| {
            let plan = plan(from, to, converter.steps()).map_err(DeployError::from)?;
            Ok(converted(converter, &plan, (from, to), &state.payload, bytes_max)?)
        })?;
        // As the host tries it beside calls.
        self.step(Step::Read, |_| {
            ran(new.loaded().read(schema, payload.as_deref().unwrap_or(&state.payload)))
        })?;
        // With callers waiting, a version that can makes the steps as it restores.
        let by_itself = !is_down && payload.is_some() && new.loaded().restores_earlier_schemas();
        let (schema, payload) = if by_itself { (from, None) } else { (schema, payload) };
        let payload = payload.as_deref().unwrap_or(&state.payload);
        self.step(Step::Restore, |_| ran(new.restore(schema, payload)))?;
        let after = self.step(Step::Export, |_| ran(new.export(bytes_max)))?;
        way.bytes_after = Some(after.len() as u64);
        self.say(&Record::State { way: way.clone() });
        way.way_back = match (from.cmp(&to), plan(to, from, new.steps())) {
            (Equal, _) => WayBack::Unchanged,
            (Greater, _) => WayBack::NotTried,
            (Less, Err(none)) => WayBack::None { reason: none.to_string() },
            (Less, Ok(plan)) => self.step(Step::MigrateBack, |_| {
                let (_, back) = converted(new, &plan, (to, from), &after, bytes_max)?;
                let back = back.as_deref().unwrap_or(&after);
                if let Some(old) = old.filter(|old| old.manifest().schema_version == from) {
                    ran(old.loaded().read(from, back))?;
                }
                Ok(WayBack::Steps { bytes: back.len() as u64, same: back == state.payload })
            })?,
        };
        self.say(&Record::State { way });
        Ok(())
    }

    /// Has the version bring rows of earlier schemas to its own, and give what an earlier
    /// version reads of them. A row that it cannot convert refuses it: it would stay as it
    /// is, and be an error to whoever reads it.
    pub(super) fn rehearse_rows(
        &mut self,
        new: &Serving,
        tables: &[(String, Vec<SampleRow>)],
    ) -> Result<(), Stopped> {
        for (table, rows) in tables {
            let Some(own) = new.table_schema(table) else { continue };
            let mut way =
                RowsWay { table: table.clone(), rows: rows.len() as u64, converted: 0, way_back: 0 };
            for SampleRow { schema, value } in rows.iter().filter(|row| row.schema < own) {
                let convert = |image| ran(new.convert_row(table, value, (*schema, image), VALUE_BYTES_MAX));
                let with_image = convert(*schema)?;
                way.way_back += u64::from(with_image.is_some());
                let converted = with_image.map_or_else(|| convert(0), |row| Ok(Some(row)))?;
                way.converted += u64::from(converted.is_some());
            }
            self.say(&Record::Rows { rows: way });
        }
        Ok(())
    }
}

fn plan(from: u32, to: u32, steps: &[StepInfo]) -> Result<Plan, NoPath> {
    let policy = MigratePolicy::Migrate;
    chain::plan(&chain::Request { from, to, steps, policy, has_older_snapshot: false, allow_loss: false })
}

/// The schema and the bytes that state has after its way; none where they are the same.
fn converted(
    converter: &Serving,
    plan: &Plan,
    (from, to): (u32, u32),
    bytes: &[u8],
    bytes_max: usize,
) -> Result<(u32, Option<Vec<u8>>), DeployError> {
    Ok(match state::convert(converter, plan, from, to, bytes, bytes_max)? {
        Converted::AsItIs(schema) => (schema, None),
        Converted::Bytes(schema, bytes) => (schema, Some(bytes)),
        Converted::Left => (from, None),
    })
}
