//! The one who changes what serves: chooses versions, tries them, goes back,
//! commits, and takes files out and puts them back. And the one who pauses what
//! goes over rows for that, and lets it go on.

use crate::{
    victim::{Victim, drop_in, file_name, major_of},
    words::Word,
};
use replug_host::{HostError, PluginStatus, dispatch::Share, failure::Failure, id::PluginName};
use replug_tests::{dice::Dice, harness::wait_until};
use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

pub(crate) struct Changes {
    victim: Arc<Victim>,
    name: PluginName,
    dice: Dice,
}

/// Pauses sweeps and what waits for one until the host ends.
///
/// A thread of its own: a change waits for rows that nobody would bring on.
pub(crate) fn pause_now_and_then(victim: &Victim, mut dice: Dice) {
    for paused in [true, false].into_iter().cycle() {
        if victim.is_ending.load(Ordering::Acquire) {
            return;
        }
        victim.host.pause_sweep(victim.sessions.name(), paused);
        let longest = if paused { 30_000 } else { 200_000 };
        // sleep: what is paused, or goes on, does so for a while.
        thread::sleep(Duration::from_micros(dice.below(longest)));
    }
}

impl Changes {
    pub(crate) fn new(victim: Arc<Victim>, dice: Dice) -> Self {
        let name = victim.sessions.name().clone();
        Changes { victim, name, dice }
    }

    /// Goes on until something fails, which nothing but the end of the host may
    /// do.
    pub(crate) fn make(mut self) {
        while !self.victim.is_ending.load(Ordering::Acquire) {
            if let Err(error) = self.change() {
                return self.victim.failed("a change", error);
            }
            // sleep: what was changed works for a while.
            thread::sleep(Duration::from_micros(self.dice.below(15_000)));
        }
    }

    fn change(&mut self) -> Result<(), HostError> {
        match self.dice.below(11) {
            0..=4 => {
                let major = self.other();
                self.decide(major, |changes| {
                    changes.victim.host.activate(&changes.name, Some(version(major))).wait().map(drop)
                })
            }
            5..=7 => self.have_a_trial(),
            8 => self.go_back(),
            9 => match self.victim.host.commit(&self.name).wait() {
                Err(error) if error.code().as_str() == "rollback.not_warm" => Ok(()),
                other => other.map(drop),
            },
            _ => {
                self.take_out_and_put_back();
                Ok(())
            }
        }
    }

    /// A decision after which this version serves, or the one before if it came
    /// too late.
    fn decide(
        &self,
        major: u64,
        decision: impl FnOnce(&Self) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        Word::Decide { major }.say();
        decision(self)?;
        Word::Decided { major: self.active() }.say();
        Ok(())
    }

    fn have_a_trial(&mut self) -> Result<(), HostError> {
        let (before, major) = (self.active(), self.other());
        let share = Share::from_basis_points(self.dice.below(10_001) as u16).expect("at most the whole");
        match self.victim.host.try_version(&self.name, version(major), share).wait() {
            // What is older than the committed version cannot serve beside it.
            Err(error) if error.code().as_str() == "route.shared_state" => return Ok(()),
            other => drop(other?),
        }
        // sleep: both serve for a while.
        thread::sleep(Duration::from_micros(self.dice.below(20_000)));
        match self.dice.below(2) {
            0 => self.decide(major, |changes| changes.victim.host.promote(&changes.name).wait().map(drop)),
            _ => self.decide(before, |changes| changes.victim.host.roll_back(&changes.name, None).map(drop)),
        }
    }

    /// Goes back to what is kept ready, if anything still is.
    fn go_back(&self) -> Result<(), HostError> {
        let Some(ready) = self.plugin().standby.as_deref().map(major_of) else { return Ok(()) };
        self.decide(ready, |changes| match changes.victim.host.roll_back(&changes.name, None) {
            // Its probation has just ended.
            Err(error) if error.code().as_str() == "rollback.not_warm" => Ok(()),
            other => other.map(drop),
        })
    }

    /// One that nobody has a use for.
    fn take_out_and_put_back(&mut self) {
        let plugin = self.plugin();
        let major = self.other();
        if plugin.standby.as_deref().map(major_of) == Some(major) {
            return;
        }
        let file = self.victim.home.join("plugins").join(file_name(major));
        fs::remove_file(file).expect("it is there");
        let is_there =
            |major: u64| self.plugin().versions.iter().any(|version| major_of(&version.id) == major);
        let is_ending = || self.victim.is_ending.load(Ordering::Acquire);
        wait_until("the version being out", || !is_there(major) || is_ending());
        drop_in(&self.victim.home, major).expect("it is dropped");
        wait_until("the version being back", || is_there(major) || is_ending());
    }

    fn plugin(&self) -> PluginStatus {
        self.victim.status().plugin("sessions").expect("it is known").clone()
    }

    fn active(&self) -> u64 {
        // While the host ends, none serves; then nothing that is said counts.
        self.plugin().active.as_deref().map_or(0, major_of)
    }

    /// A version that does not serve.
    fn other(&mut self) -> u64 {
        1 + (self.active() + self.dice.below(2)) % 3
    }
}

fn version(major: u64) -> semver::Version {
    semver::Version::new(major, 0, 0)
}
