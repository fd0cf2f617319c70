//! One file, from the first hint of it to the report: the rules.
//!
//! | the look says                         | then                                |
//! |---------------------------------------|-------------------------------------|
//! | not a regular file                    | taken, so that staging refuses it   |
//! | a writer has it open                  | not taken; looked at again          |
//! | none has, and it was closed or moved in | taken now                         |
//! | none has, and it has several names    | taken now: a hard link              |
//! | none has                              | taken when unchanged for 20 ms      |
//! | nobody knows, closed or moved in      | taken now                           |
//! | nobody knows                          | taken when unchanged for 500 ms     |
//!
//! The 20 ms cover a file that has just been created and whose writer the kernel
//! does not count yet (`IN_CREATE` is sent before), or that `truncate` made.
//!
//! Knows of no other file, and of no queue.

use std::path::PathBuf;
use std::time::Duration;

use crate::artifact::watch::look::{Fingerprint, Look, Looked, Writer};
use crate::artifact::watch::{Candidate, Report};

/// Unchanged for so long, with no writer: complete.
pub(super) const SETTLE: Duration = Duration::from_millis(20);
/// Unchanged for so long, where the kernel does not tell of writers: complete.
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// The first look after a writer was seen: a closing writer is announced just
/// before it is discounted.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(1);
/// The delay doubles up to this. Events look sooner; without them this is how
/// long the end of a copy goes unseen.
pub(super) const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);
/// A writer who holds a file open for so long without changing it is reported.
pub(super) const HELD_AFTER: Duration = Duration::from_secs(5);

/// Why a file should be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::artifact::watch) enum Hint {
    /// A name appeared: a hard link, or a copy that has just begun.
    Appeared,
    /// Bytes changed.
    Modified,
    /// Permissions, owner, times or links changed.
    Attributes,
    /// A writer closed it, or it was moved here: as complete as it will be.
    Complete,
    /// The name was removed or moved away.
    Removed,
    /// The reader asks for it again.
    Again,
}

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What the reader was told last.
    told: Option<Taken>,
    pending: Option<Pending>,
    /// The report that waits for the reader.
    pub(super) ready: Option<Ready>,
    /// Its name stands in the outbox.
    pub(super) is_queued: bool,
    /// When it is looked at next, if that is planned.
    pub(super) next_look: Option<Duration>,
    /// Bytes changed since the last report, whatever the times say.
    is_dirty: bool,
}

/// A state of the file that was, or is to be, reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) fingerprint: Fingerprint,
    is_aged: bool,
}

/// A file that is looked at until it settles.
#[derive(Debug)]
struct Pending {
    noticed: Duration,
    is_complete: bool,
    /// What the last look saw, and since when.
    seen: Option<(Fingerprint, Duration)>,
    delay: Duration,
    is_held_told: bool,
}

/// A report that waits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Candidate { taken: Taken, noticed: Duration },
    Held { since: Duration, now: Duration },
    Gone,
}

enum Verdict {
    Take,
    Again {
        at: Duration,
        /// Since when a writer holds it unchanged, if that should be told.
        held_since: Option<Duration>,
    },
}

impl File {
    /// Takes note of an event; says when to look, if that is not planned yet.
    pub(super) fn hint(&mut self, hint: Hint, now: Duration) -> Option<Duration> {
        self.is_dirty |= matches!(hint, Hint::Modified | Hint::Again);
        if let (Hint::Again, Some(told)) = (hint, &mut self.told) {
            told.is_aged = false;
        }
        let is_new = self.pending.is_none();
        let pending = self.pending.get_or_insert_with(|| Pending::new(now));
        match hint {
            Hint::Complete => {
                pending.is_complete = true;
                pending.noticed = now;
                pending.delay = LOOK_AGAIN_FIRST;
            }
            Hint::Attributes => {}
            Hint::Appeared | Hint::Modified | Hint::Removed | Hint::Again => {
                pending.is_complete = false;
            }
        }
        match hint {
            Hint::Again => Some(now + SETTLE),
            // A long copy is thousands of writes; they wait for the look that is
            // planned already.
            Hint::Modified if !is_new => None,
            _ => Some(now),
        }
    }

    /// Takes the answer of a look; says when to look again, if it has to be.
    pub(super) fn looked(&mut self, looked: Looked, now: Duration) -> Option<Duration> {
        let mut pending = self.pending.take()?;
        let look = match looked {
            Looked::File(look) => look,
            Looked::Gone => {
                self.vanish();
                return None;
            }
            // Nothing is known; the next event or scan asks again.
            Looked::Unknown => return None,
        };
        match pending.verdict(&look, now) {
            Verdict::Take => {
                self.take(&look, pending.noticed);
                None
            }
            Verdict::Again { at, held_since } => {
                self.withdraw();
                if let Some(since) = held_since {
                    self.ready = Some(Ready::Held { since, now });
                }
                self.pending = Some(pending);
                Some(at)
            }
        }
    }

    /// The report that was ready has reached the reader.
    pub(super) fn delivered(&mut self) {
        match self.ready.take() {
            Some(Ready::Candidate { taken, .. }) => self.told = Some(taken),
            Some(Ready::Gone) => self.told = None,
            Some(Ready::Held { .. }) | None => {}
        }
    }

    /// Whether it is being looked at until it settles.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the reader knows this state once it has the report that is ready.
    pub(super) fn tells_of(&self, fingerprint: &Fingerprint) -> bool {
        self.tells().is_some_and(|taken| taken.fingerprint == *fingerprint)
    }

    /// Whether nothing about it has to be kept.
    pub(super) fn is_forgotten(&self) -> bool {
        self.told.is_none() && self.pending.is_none() && self.ready.is_none()
    }

    /// What the reader knows once it has the report that is ready.
    fn tells(&self) -> Option<Taken> {
        match self.ready {
            Some(Ready::Candidate { taken, .. }) => Some(taken),
            Some(Ready::Gone) => None,
            Some(Ready::Held { .. }) | None => self.told,
        }
    }

    fn take(&mut self, look: &Look, noticed: Duration) {
        let taken = Taken { fingerprint: look.fingerprint, is_aged: look.is_aged };
        let known = match self.ready {
            Some(Ready::Gone) => self.told,
            _ => self.tells(),
        };
        // Equal times prove equal bytes unless a write was seen that may have
        // fallen into the same tick of the file system's clock.
        let is_same = known
            .is_some_and(|known| known.fingerprint == taken.fingerprint && (known.is_aged || !self.is_dirty));
        self.is_dirty = false;
        if !is_same {
            self.ready = Some(Ready::Candidate { taken, noticed });
        } else if !matches!(self.ready, Some(Ready::Candidate { .. })) {
            // It went and came back, or was only held open: nothing to tell.
            self.ready = None;
        }
    }

    /// What is being written is no longer offered.
    fn withdraw(&mut self) {
        match self.ready {
            // It was a change, and that is not forgotten with the offer.
            Some(Ready::Candidate { .. }) => self.is_dirty = true,
            Some(Ready::Held { .. }) => return,
            Some(Ready::Gone) | None => {}
        }
        self.ready = None;
    }

    fn vanish(&mut self) {
        self.is_dirty = false;
        self.ready = self.told.map(|_| Ready::Gone);
    }
}

impl Pending {
    fn new(now: Duration) -> Self {
        Pending { noticed: now, is_complete: false, seen: None, delay: LOOK_AGAIN_FIRST, is_held_told: false }
    }

    /// The table at the top of this file.
    fn verdict(&mut self, look: &Look, now: Duration) -> Verdict {
        let since = match self.seen {
            Some((fingerprint, since)) if fingerprint == look.fingerprint => since,
            _ => now,
        };
        self.seen = Some((look.fingerprint, since));
        let unchanged_for = now.saturating_sub(since);
        let needed = match look.writer {
            _ if !look.is_regular => Duration::ZERO,
            Writer::Open => return self.wait_for_the_writer(now, since),
            _ if self.is_complete => Duration::ZERO,
            Writer::None if look.links > 1 => Duration::ZERO,
            Writer::None => SETTLE,
            Writer::Unknown => QUIET,
        };
        if unchanged_for >= needed {
            Verdict::Take
        } else {
            Verdict::Again { at: since + needed, held_since: None }
        }
    }

    fn wait_for_the_writer(&mut self, now: Duration, since: Duration) -> Verdict {
        let at = now + self.delay;
        self.delay = (self.delay * 2).min(LOOK_AGAIN_MAX);
        let is_held = now.saturating_sub(since) >= HELD_AFTER && !self.is_held_told;
        self.is_held_told |= is_held;
        let held_since = is_held.then_some(since);
        Verdict::Again { at, held_since }
    }
}

impl Ready {
    pub(super) fn report(self, path: PathBuf) -> Report {
        match self {
            Ready::Candidate { taken, noticed } => {
                Report::Candidate(Candidate { path, size_bytes: taken.fingerprint.size_bytes, noticed })
            }
            Ready::Held { since, now } => Report::Held { path, unchanged_for: now.saturating_sub(since) },
            Ready::Gone => Report::Gone { path },
        }
    }
}
