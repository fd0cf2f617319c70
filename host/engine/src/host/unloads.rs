//! Versions that have left: each is unloaded on a thread of its own.

use super::control::Control;
use crate::{
    dispatch::Retired,
    failure::Code,
    id::VersionId,
    load::Hook,
    pipeline::{Left, Unloading},
    service::Serving,
};
use std::{io, sync::Arc};

impl Control {
    pub(super) fn unload(&mut self, retired: Retired<Serving>, hangs: Option<Hook>) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_version(retired, hangs, options, events, self.worker.nudge()));
    }

    pub(super) fn unload_left(&mut self, id: &VersionId, left: Left) {
        let (options, events) = (self.options.unload, Arc::clone(&self.shared.events));
        self.keep(Unloading::of_candidate(id.clone(), left, options, events, self.worker.nudge()));
    }

    fn keep(&self, unloading: io::Result<Unloading>) {
        match unloading {
            Ok(unloading) => self.shared.unloads().push(unloading),
            Err(error) => {
                self.shared.strand();
                let message = format!("no thread for an unload, so a version stays in memory: {error}");
                self.problem(Code::HostThread, message);
            }
        }
    }
}
