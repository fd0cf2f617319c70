//! Which hook a job is in, and whether somebody still waits for it: what the
//! thread that runs the job and the one that waits for it tell each other.

use crate::load::{Hook, HookError, HookErrorKind};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Whose hook it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// The version that is to serve.
    Candidate,
    /// The version that serves.
    Before,
}

/// Which hook a job is in, and whether somebody still waits for it.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Position>>);

#[derive(Clone, Copy, PartialEq)]
pub(super) struct Position {
    pub(super) hook: Hook,
    of: Party,
    since: Instant,
    pub(super) budget: Option<Budget>,
    pub(super) phase: Phase,
}

/// The time for all hooks of a job together.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Budget {
    pub(super) whole: Duration,
    until: Instant,
}

impl Budget {
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// The thread has not begun with it.
    Queued,
    Running,
    Finished,
    Abandoned,
}

impl Progress {
    /// A job that begins with `hook`.
    pub(crate) fn at(of: Party, hook: Hook) -> Self {
        let position = Position { hook, of, since: Instant::now(), budget: None, phase: Phase::Queued };
        Progress(Arc::new(Mutex::new(position)))
    }

    /// All hooks of the job together may take `whole`, from `begun` on.
    pub(crate) fn within(self, begun: Instant, whole: Duration) -> Self {
        self.lock().budget = Some(Budget { whole, until: begun + whole });
        self
    }

    /// The job is about to enter `hook`.
    ///
    /// # Errors
    /// Nobody waits any more: the job should end, and leave things as they are.
    pub(crate) fn enter(&self, of: Party, hook: Hook) -> Result<(), HookError> {
        let mut position = self.lock();
        if position.phase == Phase::Abandoned {
            let reason = "the job that it is part of was given up".to_owned();
            return Err(HookError { hook, kind: HookErrorKind::TimedOut, reason });
        }
        (position.of, position.hook, position.since) = (of, hook, Instant::now());
        Ok(())
    }

    /// Whose hook the job is in, or was when it was given up.
    pub(crate) fn party(&self) -> Party {
        self.lock().of
    }

    /// The thread has taken the job up; whether anybody still waits for it.
    pub(super) fn begin(&self) -> bool {
        let mut position = self.lock();
        let wanted = position.phase == Phase::Queued;
        if wanted {
            (position.phase, position.since) = (Phase::Running, Instant::now());
        }
        wanted
    }

    pub(super) fn finish(&self) {
        let mut position = self.lock();
        if position.phase == Phase::Running {
            position.phase = Phase::Finished;
        }
    }

    /// Gives the job up where it is, unless it has moved on from `seen` and
    /// may; where it was.
    pub(super) fn abandon(&self, seen: Position) -> Option<Position> {
        let mut position = self.lock();
        let over = position.budget.is_some_and(|budget| budget.is_over());
        let runs = matches!(position.phase, Phase::Queued | Phase::Running);
        if !runs || !(over || *position == seen) {
            return None;
        }
        let left = *position;
        position.phase = Phase::Abandoned;
        Some(left)
    }

    pub(super) fn position(&self) -> Position {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Position {
    /// Whether the hook was late by itself, or those before it were.
    pub(super) fn kind_of_lateness(&self) -> HookErrorKind {
        match self.budget {
            Some(budget) if budget.is_over() && self.since.elapsed() * 2 < budget.whole => {
                HookErrorKind::OutOfTime
            }
            _ => HookErrorKind::TimedOut,
        }
    }

    /// The time that is left to the hook.
    pub(super) fn left(&self, timeout: Duration) -> Duration {
        let left = timeout.saturating_sub(self.since.elapsed());
        match self.budget {
            Some(budget) => left.min(budget.until.saturating_duration_since(Instant::now())),
            None => left,
        }
    }
}
