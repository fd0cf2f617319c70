//! Files for which nobody vouches: how long they wait for their signature, and whether
//! what stands beside them has changed since. Pure bookkeeping but for a look at that.

use crate::{artifact::trust, event::FailureReport, id::Digest};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Between two looks at what stands beside files that wait, and beside refused ones.
const WAITING_EVERY: Duration = Duration::from_millis(100);
const REFUSED_EVERY: Duration = Duration::from_secs(2);

/// How long a file whose signature has changed may take to be judged again.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);

/// Files that were not trusted.
#[derive(Default)]
pub(super) struct Untrusted {
    files: BTreeMap<PathBuf, Waiting>,
}

/// What was judged, as told from the same file dropped again: its bytes, and when its
/// inode changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) digest: Digest,
    pub(super) changed: (i64, i64),
}

struct Waiting {
    judged: Judged,
    seen: trust::Seen,
    look_at: Instant,
    /// Until when it waits, and why it is refused then; none once it was.
    until: Option<(Instant, FailureReport)>,
}

/// What is to be done with a file that is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Refuse,
    /// For so long, from now on.
    Wait(Duration),
    /// It waits already.
    GoOn,
}

impl Untrusted {
    /// A file was judged with what was `seen` beside it, and is not trusted. It waits no
    /// longer than `patience` since it was first judged.
    pub(super) fn put(
        &mut self,
        path: &Path,
        (judged, seen): (Judged, trust::Seen),
        patience: Duration,
        now: Instant,
        failure: &FailureReport,
    ) -> Verdict {
        let before = self.files.remove(path).filter(|before| before.judged == judged);
        let (until, verdict) = match &before {
            _ if patience.is_zero() => (None, Verdict::Refuse),
            // It has waited, or still does.
            Some(Waiting { until: None, .. }) => (None, Verdict::Refuse),
            Some(Waiting { until: Some((until, _)), .. }) => (Some(*until), Verdict::GoOn),
            None => (Some(now + patience), Verdict::Wait(patience)),
        };
        let every = if until.is_some() { WAITING_EVERY } else { REFUSED_EVERY };
        let until = until.map(|until| (until, failure.clone()));
        self.files.insert(path.to_owned(), Waiting { judged, seen, look_at: now + every, until });
        verdict
    }

    /// It is trusted, gone, or refused for another reason. Whether it was not trusted.
    pub(super) fn forget(&mut self, path: &Path) -> bool {
        self.files.remove(path).is_some()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Files beside which something has changed, and those that have waited long enough,
    /// with the reason.
    pub(super) fn look(&mut self, now: Instant) -> (Vec<PathBuf>, Vec<(PathBuf, FailureReport)>) {
        let (mut changed, mut overdue) = (Vec::new(), Vec::new());
        for (path, waiting) in self.files.iter_mut().filter(|(_, waiting)| waiting.look_at <= now) {
            let seen = trust::seen(path);
            if seen != waiting.seen {
                waiting.seen = seen;
                if let Some((until, _)) = &mut waiting.until {
                    *until = (*until).max(now + JUDGED_WITHIN);
                }
                changed.push(path.clone());
            } else if let Some((_, failure)) = waiting.until.take_if(|(until, _)| *until <= now) {
                overdue.push((path.clone(), failure));
            }
            waiting.look_at = now + if waiting.until.is_some() { WAITING_EVERY } else { REFUSED_EVERY };
        }
        (changed, overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;
    use std::fs;

    const PATIENCE: Duration = Duration::from_secs(10);

    struct Folder {
        folder: tempfile::TempDir,
        untrusted: Untrusted,
    }

    impl Folder {
        fn new() -> Folder {
            Folder { folder: tempfile::tempdir().expect("a directory"), untrusted: Untrusted::default() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("a.so")
        }

        fn sign(&self, text: &str) {
            fs::write(trust::signature_of(&self.path()), text).expect("writes");
        }

        fn put(&mut self, bytes: &[u8], patience: Duration, now: Instant) -> Verdict {
            let judged = Judged { digest: Digest::of(bytes), changed: (1, 0) };
            let failure = FailureReport::with_code(Code::TrustUnsigned, "nobody vouches for it".to_owned());
            let path = self.path();
            self.untrusted.put(&path, (judged, trust::seen(&path)), patience, now, &failure)
        }

        /// How many have changed, and how many are overdue.
        fn look(&mut self, now: Instant) -> (usize, usize) {
            let (changed, overdue) = self.untrusted.look(now);
            (changed.len(), overdue.len())
        }
    }

    #[test]
    fn a_file_waits_once_for_its_signature_and_is_refused_once() {
        let (mut folder, begun) = (Folder::new(), Instant::now());
        assert_eq!(folder.put(b"one", PATIENCE, begun), Verdict::Wait(PATIENCE));
        assert_eq!(folder.look(begun + WAITING_EVERY), (0, 0));
        assert_eq!(folder.put(b"one", PATIENCE, begun + PATIENCE / 2), Verdict::GoOn);
        assert_eq!(folder.look(begun + PATIENCE), (0, 1), "since it was first judged");
        assert_eq!(folder.look(begun + PATIENCE * 2), (0, 0), "once");
        assert_eq!(folder.put(b"one", PATIENCE, begun + PATIENCE * 2), Verdict::Refuse, "it has waited");
        assert_eq!(folder.put(b"two", PATIENCE, begun + PATIENCE * 2), Verdict::Wait(PATIENCE), "another");
        assert_eq!(folder.put(b"two", Duration::ZERO, begun + PATIENCE * 2), Verdict::Refuse);
    }

    #[test]
    fn a_file_is_judged_again_when_its_signature_has_changed_and_not_refused_meanwhile() {
        let (mut folder, begun) = (Folder::new(), Instant::now());
        folder.put(b"one", PATIENCE, begun);
        folder.sign("late");
        assert_eq!(folder.look(begun + PATIENCE), (1, 0));
        assert_eq!(folder.look(begun + PATIENCE + WAITING_EVERY), (0, 0), "it is being judged");
        assert_eq!(folder.look(begun + PATIENCE + JUDGED_WITHIN), (0, 1));
        folder.sign("later still");
        assert_eq!(folder.look(begun + PATIENCE + JUDGED_WITHIN + REFUSED_EVERY), (1, 0));
    }

    #[test]
    fn a_refused_file_is_judged_again_when_its_folder_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let (mut folder, begun) = (Folder::new(), Instant::now());
        let allow = |folder: &Folder, mode| {
            fs::set_permissions(folder.folder.path(), fs::Permissions::from_mode(mode)).expect("is ours");
        };
        allow(&folder, 0o777);
        assert_eq!(folder.put(b"one", Duration::ZERO, begun), Verdict::Refuse);
        assert_eq!(folder.look(begun + REFUSED_EVERY), (0, 0));
        allow(&folder, 0o755);
        assert_eq!(folder.look(begun + REFUSED_EVERY * 2), (1, 0));
    }
}
