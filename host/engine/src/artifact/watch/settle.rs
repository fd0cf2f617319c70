//! Decides when a file is taken: hints, looks and time in, reports out.
//!
//! Pure: no clock, no thread, no file system, so that every order of events can
//! be tried. A *hint* (an event, or a difference found by a scan) never proves
//! anything; it only has a file looked at. The *look* decides:
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
//! Bounds: a file has at most one undelivered report, and there are at most
//! [`MAX_FILES`] files, so nothing has to be dropped when the reader is slow.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::look::{Fingerprint, Look, Looked, Writer};
use super::{Candidate, Report};

/// Files of one directory that are kept in mind.
pub(super) const MAX_FILES: usize = 65_536;
/// Undelivered notices; the oldest gives way, for each only says how things are.
const MAX_NOTICES: usize = 16;
/// Unchanged for so long, with no writer: complete.
const SETTLE: Duration = Duration::from_millis(20);
/// Unchanged for so long, where the kernel does not tell of writers: complete.
const QUIET: Duration = Duration::from_millis(500);
/// The first look after a writer was seen: a closing writer is announced just
/// before it is discounted.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(1);
/// The delay doubles up to this. Events look sooner; without them this is how
/// long the end of a copy goes unseen.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);
/// A writer who holds a file open for so long without changing it is reported.
const HELD_AFTER: Duration = Duration::from_secs(5);

pub(super) type Name = Arc<OsStr>;

/// Why a file should be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
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

/// The decisions for one directory.
#[derive(Debug)]
pub(super) struct Settle {
    directory: PathBuf,
    files: HashMap<Name, File>,
    /// When which file is looked at next; each at most once.
    due: BTreeSet<(Duration, Name)>,
    /// Files that may have a report, in the order in which it arose.
    outbox: VecDeque<Name>,
    notices: VecDeque<Report>,
}

#[derive(Debug, Default)]
struct File {
    /// What the reader was told last.
    told: Option<Taken>,
    pending: Option<Pending>,
    ready: Option<Ready>,
    /// Its name stands in the outbox.
    is_queued: bool,
    /// Bytes changed since the last report, whatever the times say.
    is_dirty: bool,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    fingerprint: Fingerprint,
    is_aged: bool,
}

/// A file that is looked at until it settles.
#[derive(Debug)]
struct Pending {
    noticed: Duration,
    is_complete: bool,
    /// What the last look saw, and since when.
    seen: Option<(Fingerprint, Duration)>,
    /// None while the look is under way.
    next_look: Option<Duration>,
    delay: Duration,
    is_held_told: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ready {
    Candidate { taken: Taken, noticed: Duration },
    Held { since: Duration, now: Duration },
    Gone,
}

enum Verdict {
    Take,
    Again { at: Duration, is_held: bool },
}

impl Settle {
    pub(super) fn new(directory: PathBuf) -> Self {
        Settle {
            directory,
            files: HashMap::new(),
            due: BTreeSet::new(),
            outbox: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// Takes note of an event at `now`. A name beyond the limit of files is
    /// left for a scan to find.
    pub(super) fn hint(&mut self, name: &OsStr, hint: Hint, now: Duration) {
        let name = match self.files.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None if self.files.len() >= MAX_FILES => return,
            None => Name::from(name),
        };
        let file = self.files.entry(name.clone()).or_default();
        file.is_dirty |= matches!(hint, Hint::Modified | Hint::Again);
        if let (Hint::Again, Some(told)) = (hint, &mut file.told) {
            told.is_aged = false;
        }
        let is_new = file.pending.is_none();
        let pending = file.pending.get_or_insert_with(|| Pending::new(now));
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
        // A long copy is thousands of writes; they wait for the look that is
        // planned already.
        if is_new || hint != Hint::Modified {
            let at = if hint == Hint::Again {
                now + SETTLE
            } else {
                now
            };
            self.plan(&name, at);
        }
    }

    /// Compares a scan with what the reader was told, and plans a look at every
    /// difference. `is_whole` says that a name that is missing is not there.
    pub(super) fn scanned(
        &mut self,
        found: &[(OsString, Fingerprint)],
        is_whole: bool,
        now: Duration,
    ) {
        for (name, fingerprint) in found {
            let known = self.files.get(&**name);
            let is_told = known
                .and_then(File::tells)
                .is_some_and(|taken| taken.fingerprint == *fingerprint);
            let is_pending = known.is_some_and(|file| file.pending.is_some());
            if !is_told && !is_pending {
                self.hint(name, Hint::Attributes, now);
            }
        }
        if is_whole {
            let found: HashSet<&OsStr> = found.iter().map(|(name, _)| &**name).collect();
            let missing = self.files.keys().filter(|name| !found.contains(&***name));
            for name in missing.cloned().collect::<Vec<_>>() {
                self.hint(&name, Hint::Removed, now);
            }
        }
    }

    /// Up to `max` files to look at now; each answer goes to [`Self::looked`].
    pub(super) fn take_due(&mut self, now: Duration, max: usize) -> Vec<Name> {
        let mut names = Vec::new();
        while names.len() < max && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.due.pop_first() else {
                break;
            };
            if let Some(pending) = self.files.get_mut(&name).and_then(|f| f.pending.as_mut()) {
                pending.next_look = None;
            }
            names.push(name);
        }
        names
    }

    /// When the next look is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the answer of a look that was made at `now`.
    pub(super) fn looked(&mut self, name: &Name, looked: Looked, now: Duration) {
        let Some(file) = self.files.get_mut(name) else {
            return;
        };
        let Some(mut pending) = file.pending.take() else {
            return;
        };
        match looked {
            Looked::Gone => file.vanish(),
            // Nothing is known; the next event or scan asks again.
            Looked::Unknown => {}
            Looked::File(look) => match pending.verdict(&look, now) {
                Verdict::Take => file.take(&look, pending.noticed),
                Verdict::Again { at, is_held } => {
                    file.ready = match (file.ready, pending.seen) {
                        (_, Some((_, since))) if is_held => Some(Ready::Held { since, now }),
                        (Some(held @ Ready::Held { .. }), _) => Some(held),
                        // What is being written is no longer offered.
                        _ => None,
                    };
                    file.pending = Some(pending);
                    self.plan(name, at);
                }
            },
        }
        self.queue_or_forget(name);
    }

    /// Adds a notice, which goes before the files' reports.
    pub(super) fn notice(&mut self, notice: Report) {
        if self.notices.len() == MAX_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// The report to deliver next; it stays until [`Self::delivered`].
    pub(super) fn front(&mut self) -> Option<Report> {
        if let Some(notice) = self.notices.front() {
            return Some(notice.clone());
        }
        while let Some(name) = self.outbox.front() {
            if let Some(ready) = self.files.get(name).and_then(|file| file.ready) {
                return Some(ready.report(self.directory.join(&**name)));
            }
            // Taken back since it was queued.
            let name = self.outbox.pop_front()?;
            self.unqueue(&name);
        }
        None
    }

    /// Says that the report of [`Self::front`] is on its way.
    pub(super) fn delivered(&mut self) {
        if self.notices.pop_front().is_some() {
            return;
        }
        let Some(name) = self.outbox.pop_front() else {
            return;
        };
        if let Some(file) = self.files.get_mut(&name) {
            match file.ready.take() {
                Some(Ready::Candidate { taken, .. }) => file.told = Some(taken),
                Some(Ready::Gone) => file.told = None,
                Some(Ready::Held { .. }) | None => {}
            }
        }
        self.unqueue(&name);
    }

    fn unqueue(&mut self, name: &Name) {
        if let Some(file) = self.files.get_mut(name) {
            file.is_queued = false;
        }
        self.queue_or_forget(name);
    }

    fn queue_or_forget(&mut self, name: &Name) {
        let Some(file) = self.files.get_mut(name) else {
            return;
        };
        if file.ready.is_some() && !file.is_queued {
            file.is_queued = true;
            self.outbox.push_back(name.clone());
        } else if file.told.is_none() && file.pending.is_none() && !file.is_queued {
            self.files.remove(name);
        }
    }

    /// Plans a look, or moves the planned one forward.
    fn plan(&mut self, name: &Name, at: Duration) {
        let pending = self
            .files
            .get_mut(name)
            .and_then(|file| file.pending.as_mut());
        let Some(pending) = pending else { return };
        match pending.next_look {
            Some(planned) if planned <= at => return,
            Some(planned) => drop(self.due.remove(&(planned, name.clone()))),
            None => {}
        }
        pending.next_look = Some(at);
        self.due.insert((at, name.clone()));
    }
}

impl File {
    /// What the reader knows once it has the report that is ready.
    fn tells(&self) -> Option<Taken> {
        match self.ready {
            Some(Ready::Candidate { taken, .. }) => Some(taken),
            Some(Ready::Gone) => None,
            Some(Ready::Held { .. }) | None => self.told,
        }
    }

    fn take(&mut self, look: &Look, noticed: Duration) {
        let taken = Taken {
            fingerprint: look.fingerprint,
            is_aged: look.is_aged,
        };
        let known = match self.ready {
            Some(Ready::Gone) => self.told,
            _ => self.tells(),
        };
        // Equal times prove equal bytes unless a write was seen that may have
        // fallen into the same tick of the file system's clock.
        let is_same = known.is_some_and(|known| {
            known.fingerprint == taken.fingerprint && (known.is_aged || !self.is_dirty)
        });
        self.is_dirty = false;
        if !is_same {
            self.ready = Some(Ready::Candidate { taken, noticed });
        } else if !matches!(self.ready, Some(Ready::Candidate { .. })) {
            // It went and came back, or was only held open: nothing to tell.
            self.ready = None;
        }
    }

    fn vanish(&mut self) {
        self.is_dirty = false;
        self.ready = self.told.map(|_| Ready::Gone);
    }
}

impl Pending {
    fn new(now: Duration) -> Self {
        Pending {
            noticed: now,
            is_complete: false,
            seen: None,
            next_look: None,
            delay: LOOK_AGAIN_FIRST,
            is_held_told: false,
        }
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
            Writer::Open => return self.wait_for_the_writer(now, unchanged_for),
            _ if self.is_complete => Duration::ZERO,
            Writer::None if look.links > 1 => Duration::ZERO,
            Writer::None => SETTLE,
            Writer::Unknown => QUIET,
        };
        if unchanged_for >= needed {
            Verdict::Take
        } else {
            Verdict::Again {
                at: since + needed,
                is_held: false,
            }
        }
    }

    fn wait_for_the_writer(&mut self, now: Duration, unchanged_for: Duration) -> Verdict {
        let at = now + self.delay;
        self.delay = (self.delay * 2).min(LOOK_AGAIN_MAX);
        let is_held = unchanged_for >= HELD_AFTER && !self.is_held_told;
        self.is_held_told |= is_held;
        Verdict::Again { at, is_held }
    }
}

impl Ready {
    fn report(self, path: PathBuf) -> Report {
        match self {
            Ready::Candidate { taken, noticed } => Report::Candidate(Candidate {
                path,
                size_bytes: taken.fingerprint.size_bytes,
                noticed,
            }),
            Ready::Held { since, now } => Report::Held {
                path,
                unchanged_for: now.saturating_sub(since),
            },
            Ready::Gone => Report::Gone { path },
        }
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
