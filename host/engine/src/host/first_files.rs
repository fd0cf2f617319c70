//! The files that a host finds when it starts, and how long it waits for them.
//!
//! Nothing is deployed before all of them are read: the version that is wanted
//! may be in the last one, and those in the others may not be able to read its
//! rows. Nothing is read here; the watch says what there is.

use crate::artifact::watch::{Report, RescanCause};
use std::time::{Duration, Instant};

/// How long a host that starts waits for a file that is still being written.
const FIRST_FILES_PATIENCE: Duration = Duration::from_secs(2);

/// The files that a host finds when it starts.
#[derive(Debug)]
pub(super) struct FirstFiles {
    /// How many have not been heard of; none before the directory was scanned.
    left: Option<usize>,
    until: Instant,
    gave_up: bool,
}

impl FirstFiles {
    /// Of a host that starts now.
    pub(super) fn of_start_at(now: Instant) -> Self {
        FirstFiles { left: None, until: now + FIRST_FILES_PATIENCE, gave_up: false }
    }

    /// Whether there is nothing more to wait for.
    pub(super) fn are_read(&self, now: Instant) -> bool {
        self.left == Some(0) || now >= self.until
    }

    /// Ends the waiting when it took too long; whether it did so now.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        let is_late = !self.gave_up && !self.are_all_heard_of() && now >= self.until;
        self.gave_up |= is_late;
        is_late
    }

    /// Whether all of them are read, those too that were not waited for.
    pub(super) fn are_all_heard_of(&self) -> bool {
        self.left == Some(0)
    }

    /// Takes notice of what the watch says.
    pub(super) fn hear(&mut self, report: &Report) {
        match report {
            Report::Rescanned { cause: RescanCause::Start, files } => self.left = Some(*files),
            Report::Candidate(_) | Report::Held { .. } | Report::Gone { .. } => {
                self.left = self.left.map(|left| left.saturating_sub(1));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::watch::Candidate;
    use std::path::PathBuf;

    /// Once, a host deployed whichever file it read first when it started, and
    /// refused an older version because it could not read the rows.
    #[test]
    fn nothing_is_deployed_before_all_files_of_the_start_are_read() {
        let now = Instant::now();
        let candidate = || {
            let (path, noticed) = (PathBuf::new(), Duration::ZERO);
            Report::Candidate(Candidate { path, size_bytes: 0, noticed })
        };
        let mut files = FirstFiles::of_start_at(now);
        assert!(!files.are_read(now), "the directory has not been scanned");
        files.hear(&Report::Rescanned { cause: RescanCause::Start, files: 2 });
        files.hear(&candidate());
        assert!(!files.are_read(now) && !files.give_up(now));
        files.hear(&candidate());
        assert!(files.are_read(now));

        let mut files = FirstFiles::of_start_at(now);
        files.hear(&Report::Rescanned { cause: RescanCause::Start, files: 1 });
        let late = now + FIRST_FILES_PATIENCE;
        assert!(files.give_up(late), "it is still being written");
        assert!(files.are_read(late) && !files.give_up(late) && !files.are_all_heard_of());
        files.hear(&candidate());
        assert!(files.are_all_heard_of());
    }
}
