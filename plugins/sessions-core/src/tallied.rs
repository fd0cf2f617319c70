//! Rows and a snapshot in one plugin, for tests of what happens to both.
//!
//! | method | body | answer |
//! |---|---|---|
//! | `touch` | a token | how often that session was used; it is opened if there is none |
//! | `tally` | ignored | calls of `touch`, ever, as decimal text |

use crate::{
    store::{Session, now_ms},
    wire::Config,
};
use replug_plugin_api::prelude::*;
use replug_plugin_api::state::State;
use serde::{Deserialize, Serialize};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// The plugin, with the rows of a version, which takes so long to stop.
pub struct Tallied<S, const STOP_MS: u64> {
    sessions: Table<String, S>,
    tally: AtomicU64,
}

/// What goes over as a whole.
#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 1)]
pub struct Tally {
    calls: u64,
}

impl<S: Session, const STOP_MS: u64> Plugin for Tallied<S, STOP_MS> {
    type Config = Config;

    fn prepare(_: Config, context: &Context) -> Result<Self> {
        Ok(Tallied { sessions: context.table("sessions")?, tally: AtomicU64::new(0) })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("touch", "Counts a use of a session", |tallied, call| {
                // Relaxed: a count that orders nothing.
                tallied.tally.fetch_add(1, Ordering::Relaxed);
                let touched = tallied.sessions.update(call.text()?, |row| {
                    let mut row = row.unwrap_or_else(|| S::begin("nobody", now_ms()));
                    row.touch(now_ms());
                    Some(row)
                })?;
                Ok(touched.map_or(0, |row| row.hits()).to_string())
            })
            .method("tally", "Uses of all sessions, ever", |tallied, _| {
                Ok(tallied.tally.load(Ordering::Relaxed).to_string())
            });
    }

    fn stop(&self) -> Result<()> {
        // sleep: it is what this plugin is for.
        thread::sleep(Duration::from_millis(STOP_MS));
        Ok(())
    }
}

impl<S: Session, const STOP_MS: u64> Snapshot for Tallied<S, STOP_MS> {
    type State = Tally;

    fn export(&self) -> Result<Tally> {
        Ok(Tally { calls: self.tally.load(Ordering::Relaxed) })
    }

    fn restore(&mut self, Tally { calls }: Tally) -> Result<()> {
        self.tally = AtomicU64::new(calls);
        Ok(())
    }
}
