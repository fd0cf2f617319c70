//! Decides when a file is taken: hints, looks and time in, reports out.
//!
//! Pure: no clock, no thread, no file system, so that every order of events can
//! be tried. A *hint* (an event, or a difference found by a scan) never proves
//! anything; it only has a file looked at. The *look* decides, by the rules in
//! `file.rs`; this file keeps the directory's looks and reports in order.
//!
//! Bounds: a file has at most one undelivered report, and there are at most
//! [`MAX_FILES`] files, so nothing has to be dropped when the reader is slow.

mod file;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Report;
use super::look::{Fingerprint, Looked};
use file::File;
pub(super) use file::Hint;

/// Files of one directory that are kept in mind.
pub(super) const MAX_FILES: usize = 65_536;
/// Undelivered notices; the oldest gives way, for each only says how things are.
const MAX_NOTICES: usize = 16;

pub(super) type Name = Arc<OsStr>;

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
        if let Some(at) = file.hint(hint, now) {
            self.plan(&name, at);
        }
    }

    /// Compares a scan with what the reader was told, and plans a look at every
    /// difference. `is_whole` says that a name that is missing is not there.
    pub(super) fn scanned(&mut self, found: &[(OsString, Fingerprint)], is_whole: bool, now: Duration) {
        for (name, fingerprint) in found {
            let known = self.files.get(&**name);
            if !known.is_some_and(|file| file.is_pending() || file.tells_of(fingerprint)) {
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
            if let Some(file) = self.files.get_mut(&name) {
                file.next_look = None;
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
        if let Some(at) = file.looked(looked, now) {
            self.plan(name, at);
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
            file.delivered();
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
        } else if file.is_forgotten() && !file.is_queued {
            self.files.remove(name);
        }
    }

    /// Plans a look, or moves the planned one forward.
    fn plan(&mut self, name: &Name, at: Duration) {
        let Some(file) = self.files.get_mut(name) else {
            return;
        };
        match file.next_look {
            Some(planned) if planned <= at => return,
            Some(planned) => drop(self.due.remove(&(planned, name.clone()))),
            None => {}
        }
        file.next_look = Some(at);
        self.due.insert((at, name.clone()));
    }
}

#[cfg(test)]
mod tests;
