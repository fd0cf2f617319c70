//! Splits: two versions of a plugin that serve at the same time.
//!
//! [`Slot::split`] → [`Slot::set_share`] … → [`Slot::promote`] or
//! [`Slot::roll_back`]. Each is a matter of storing pointers; none waits for
//! calls. Who decides when, and what becomes of the version that comes back, is
//! the engine's business. A slot that is split has no gate: two versions cannot
//! both hand over one state.

use super::counters::Counters;
use super::gate::GateRefused;
use super::lease::{Holder, Lease};
use super::retire::{InFlight, Retired};
use super::route::{Arm, Share};
use super::slot::{Control, Gate, NotPublished, SPLIT, Slot, marker};
use super::sync::{MutexGuard, Ordering, lock};
use super::version::{Owned, Payload, Version};
use crate::failure::{Code, Failure};

/// The slot is not split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("only one version serves")]
pub struct NotSplit;

impl Failure for NotSplit {
    fn code(&self) -> Code {
        Code::RouteNotSplit
    }
}

impl<P: Payload> Slot<P> {
    /// Lets `challenger` serve a share of the calls beside the live version,
    /// from the moment that the marker is stored.
    ///
    /// `seed` decides which keys go over first: splits with different seeds
    /// choose independently of each other.
    ///
    /// # Errors
    /// [`NotPublished`] with the version: there is none to be the baseline, a
    /// hand-over holds the gate, or the slot is split already.
    pub fn split(&self, challenger: Version<P>, share: Share, seed: u64) -> Result<(), NotPublished<P>> {
        let mut control = lock(&self.control);
        let refused = match &control.version {
            _ if control.is_busy().is_err() => control.is_busy().err(),
            None => Some(GateRefused::NotActive),
            Some(baseline) => {
                self.table.set(baseline, &challenger.0, share, seed);
                None
            }
        };
        if let Some(reason) = refused {
            return Err(NotPublished { version: challenger, reason });
        }
        // Release: partner is the Acquire in `protect` and in `choose`;
        // shows the table. Nobody leaves, so no barrier follows.
        self.live.swap(marker(&SPLIT), Ordering::AcqRel);
        control.challenger = Some(challenger.0);
        Ok(())
    }

    /// Changes the challenger's share, for calls that begin from now on.
    ///
    /// # Errors
    /// [`NotSplit`].
    pub fn set_share(&self, share: Share) -> Result<(), NotSplit> {
        let _split = self.control_of_split()?;
        self.table.set_share(share);
        Ok(())
    }

    /// Makes the challenger the live version, and returns the one that was the
    /// baseline.
    ///
    /// # Errors
    /// [`NotSplit`].
    pub fn promote(&self) -> Result<Retired<P>, NotSplit> {
        self.end_split(Arm::Challenger)
    }

    /// Makes the baseline the live version again, and returns the challenger.
    ///
    /// # Errors
    /// [`NotSplit`].
    pub fn roll_back(&self) -> Result<Retired<P>, NotSplit> {
        self.end_split(Arm::Baseline)
    }

    /// A lease to look at the version in an arm, as [`look`](Self::look), which
    /// is for the baseline; none without a split.
    pub fn look_at(&self, arm: Arm, holder: Holder) -> Option<Lease<P>> {
        let control = lock(&self.control);
        control.arm(arm).map(|version| version.lease(holder))
    }

    /// The counters of the version in an arm; none without a split.
    pub fn counters_at(&self, arm: Arm) -> Option<Counters> {
        let control = lock(&self.control);
        control.arm(arm).map(Owned::counters)
    }

    /// What runs in the version in an arm, as [`in_flight`](Self::in_flight); none
    /// without a split.
    pub fn in_flight_at(&self, arm: Arm) -> Option<InFlight> {
        let control = lock(&self.control);
        control.arm(arm).map(|version| InFlight::of(version.header()))
    }

    /// Who holds leases on the version in an arm; none without a split.
    pub fn holders_at(&self, arm: Arm) -> Option<Vec<Holder>> {
        let control = lock(&self.control);
        control.arm(arm).map(Owned::holders)
    }

    fn end_split(&self, winner: Arm) -> Result<Retired<P>, NotSplit> {
        let mut control = self.control_of_split()?;
        let challenger = control.challenger.take().ok_or(NotSplit)?;
        let leaves = match winner {
            Arm::Challenger => self.replace(&mut control, Some(challenger)).expect("a split has a baseline"),
            Arm::Baseline => {
                let baseline = control.version.as_ref().map(Owned::as_header).expect("likewise");
                // Partner: `protect`, as in `replace`.
                self.live.swap(baseline.as_ptr(), Ordering::AcqRel);
                challenger
            }
        };
        // After the live pointer, and before the barrier that `Retired` issues:
        // a call that is not seen in a hazard finds its arm empty.
        self.table.clear();
        drop(control);
        Ok(Retired::now(leaves))
    }

    fn control_of_split(&self) -> Result<MutexGuard<'_, Control<P>>, NotSplit> {
        let control = lock(&self.control);
        if control.challenger.is_some() { Ok(control) } else { Err(NotSplit) }
    }
}

impl<P> Control<P> {
    fn arm(&self, arm: Arm) -> Option<&Owned<P>> {
        let challenger = self.challenger.as_ref()?;
        match arm {
            Arm::Baseline => self.version.as_ref(),
            Arm::Challenger => Some(challenger),
        }
    }

    /// Whether the one live version may be exchanged.
    pub(super) fn is_busy(&self) -> Result<(), GateRefused> {
        match (self.gate, &self.challenger) {
            (Gate::Open, None) => Ok(()),
            (Gate::Open, Some(_)) => Err(GateRefused::Split),
            _ => Err(GateRefused::Busy),
        }
    }
}
