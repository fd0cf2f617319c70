//! Files for which nobody vouches: how long they wait for their signature, and whether
//! that has changed since. Pure bookkeeping but for one look at the signature's name.

use crate::{artifact::trust, event::FailureReport, id::Digest};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Between two looks for signatures.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Files that were not trusted.
#[derive(Default)]
pub(super) struct Untrusted {
    files: BTreeMap<PathBuf, Waiting>,
    looked_at: Option<Instant>,
}

struct Waiting {
    digest: Digest,
    /// What stood in the signature's place when it was judged.
    seen: Option<trust::Seen>,
    /// Until when it waits, and why it is refused then; none once it was.
    until: Option<(Instant, FailureReport)>,
}

impl Untrusted {
    /// A file was judged with the signature that was `seen`, and is not trusted. Whether
    /// it is to be refused at once: it waits no longer than `patience` since these bytes
    /// were first judged.
    pub(super) fn put(
        &mut self,
        path: &Path,
        (digest, seen): (Digest, Option<trust::Seen>),
        patience: Duration,
        now: Instant,
        failure: &FailureReport,
    ) -> bool {
        let before = self.files.remove(path).filter(|before| before.digest == digest);
        let until = match &before {
            // It has waited, or still does.
            Some(before) => before.until.as_ref().map(|(until, _)| *until),
            None => Some(now + patience),
        };
        let until = until.filter(|until| *until > now && !patience.is_zero());
        let is_refused = until.is_none();
        let until = until.map(|until| (until, failure.clone()));
        self.files.insert(path.to_owned(), Waiting { digest, seen, until });
        is_refused
    }

    /// It is trusted, or gone.
    pub(super) fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Files whose signature is another than it was, and those that have waited long
    /// enough, with the reason.
    pub(super) fn look(&mut self, now: Instant) -> (Vec<PathBuf>, Vec<(PathBuf, FailureReport)>) {
        let (mut changed, mut overdue) = (Vec::new(), Vec::new());
        if self.files.is_empty() || self.looked_at.is_some_and(|at| now < at + LOOK_EVERY) {
            return (changed, overdue);
        }
        self.looked_at = Some(now);
        for (path, waiting) in &mut self.files {
            let seen = trust::seen(path);
            if seen != waiting.seen {
                waiting.seen = seen;
                changed.push(path.clone());
            } else if let Some((_, failure)) = waiting.until.take_if(|(until, _)| *until <= now) {
                overdue.push((path.clone(), failure));
            }
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

    #[test]
    fn a_file_waits_once_for_its_signature_and_is_judged_again_when_that_changes() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.so");
        let mut now = Instant::now();
        let mut untrusted = Untrusted::default();
        let failure = FailureReport::with_code(Code::TrustUnsigned, "nobody vouches for it".to_owned());
        let put = |untrusted: &mut Untrusted, bytes: &[u8], patience, now| {
            untrusted.put(&path, (Digest::of(bytes), trust::seen(&path)), patience, now, &failure)
        };
        assert!(!put(&mut untrusted, b"one", PATIENCE, now), "it waits");
        now += LOOK_EVERY;
        assert_eq!(untrusted.look(now).0, Vec::<PathBuf>::new());
        // Judged again without a signature: no longer than since the first time.
        assert!(!put(&mut untrusted, b"one", PATIENCE, now));
        now += PATIENCE - LOOK_EVERY;
        let (changed, overdue) = untrusted.look(now);
        assert!(changed.is_empty() && overdue.len() == 1 && overdue[0].0 == path);
        now += LOOK_EVERY;
        assert!(untrusted.look(now).1.is_empty(), "it is refused once");

        fs::write(trust::signature_of(&path), b"late").expect("writes");
        now += LOOK_EVERY;
        assert_eq!(untrusted.look(now).0, std::slice::from_ref(&path));
        now += LOOK_EVERY;
        assert!(untrusted.look(now).0.is_empty(), "it is judged once");
        assert!(put(&mut untrusted, b"one", PATIENCE, now), "it has waited");
        assert!(!put(&mut untrusted, b"two", PATIENCE, now), "another file");
        assert!(put(&mut untrusted, b"three", Duration::ZERO, now), "a bad one");
    }
}
