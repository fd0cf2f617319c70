//! The end of a version that was rehearsed: stopped, dropped, unmapped, with proof.

use super::{Stage, Stopped, ran};
use crate::{
    clock::monotonic_ns,
    load::{Closed, Loaded, Pin},
    rehearse::{Said, Step},
    service::Serving,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Stage {
    /// Stops, drops and unloads the version, and proves that.
    pub(super) fn end(&mut self, serving: Serving) -> Result<(), Stopped> {
        let stop_ns = self.bounds.stop_ms.saturating_mul(1_000_000);
        self.step(Step::Stop, |_| ran(serving.stop(monotonic_ns().saturating_add(stop_ns))))?;
        self.step(Step::Drop, |_| {
            // SAFETY: it was never published, and only this thread knows of it.
            let dropped = unsafe { serving.destroy() };
            serving.tables().leave();
            ran(dropped)
        })?;
        self.step(Step::Unload, |stage| {
            let loaded = serving.into_loaded();
            // SAFETY: the instance is gone, so this thread does not enter it again.
            unsafe { loaded.detach_thread() };
            close(loaded, Duration::from_millis(stage.bounds.threads_ms)).map_err(|pins| {
                Said::Resident { pins: pins.iter().map(ToString::to_string).collect() }.into()
            })
        })
    }

    /// Nobody is left who could close them.
    pub(super) fn leaves_no_file_open(&self) -> Result<(), Stopped> {
        let files = self.open_files()?;
        if files.is_empty() { Ok(()) } else { Err(Said::Leaked { files }.into()) }
    }
}

/// Unmaps the library, and waits for what keeps it, for so long.
fn close(mut loaded: Loaded, within: Duration) -> Result<(), Vec<Pin>> {
    let begun = Instant::now();
    while begun.elapsed() < within && !(loaded.threads().count() == 0 && loaded.door().shut()) {
        thread::sleep(LOOK_EVERY); // sleep: threads of the plugin tell nobody when they have ended
    }
    loop {
        // SAFETY: the instance is destroyed and this thread has detached; threads of the
        // plugin are looked for by `close`.
        let pins = match unsafe { loaded.close() } {
            Closed::Unmapped(_) => return Ok(()),
            Closed::Lingering { pins, .. } => return Err(pins),
            Closed::Pinned { loaded: back, pins } => {
                loaded = *back;
                pins
            }
        };
        if begun.elapsed() >= within {
            // It stays mapped: the process ends.
            std::mem::forget(loaded);
            return Err(pins);
        }
        thread::sleep(LOOK_EVERY); // sleep: as above
    }
}
