//! Which choice of a version outlives the host while one is being carried out, and
//! which of two does where a host before has left that open.

use super::choices::{Before, TableCommit};
use semver::Version;
use std::collections::BTreeMap;

/// What stands beside the choice that was made last of a plugin's versions.
#[derive(Default)]
pub(super) struct Standing {
    /// The choice before, until whoever made the later one is answered.
    before: Option<Held>,
    /// A choice for which rows may be committed on the disk, and which does not stand:
    /// it is not carried out yet, or was refused and is being undone.
    in_doubt: Option<Doubt>,
    /// The choice before the one that is kept, if a host before has left it open which
    /// of them it is, and this one has not looked yet.
    found: Option<Before>,
}

/// What a choice took the place of.
struct Held {
    chosen: Option<Version>,
    /// No version was let in since: it outlives the host.
    stands: bool,
}

/// See [`Before`].
struct Doubt {
    chosen: Option<Version>,
    commits: BTreeMap<String, TableCommit>,
    /// It could not be undone: the next start looks what is on the disk.
    lasts: bool,
}

impl Standing {
    /// What a host before has left.
    pub(super) fn found(found: Option<Before>) -> Self {
        Standing { found, ..Standing::default() }
    }

    /// A choice is being carried out: as long as it is open whether it can be had, the
    /// one `before` outlives the host. If that was not carried out yet, it is the one
    /// before it, unless a version was let in since.
    pub(super) fn hold(&mut self, before: Option<Version>) {
        let chosen = match self.before.take() {
            Some(held) if held.stands => held.chosen,
            _ => before,
        };
        self.before = Some(Held { chosen, stands: true });
    }

    /// The choice is not being carried out any more. What it took the place of.
    pub(super) fn release(&mut self) -> Option<Version> {
        self.before.take().and_then(|held| held.chosen)
    }

    /// One version was gone back from, to another.
    pub(super) fn leave(&mut self, from: &Version, to: &Version) {
        if let Some(Held { chosen: Some(before), .. }) = &mut self.before
            && before == from
        {
            before.clone_from(to);
        }
    }

    /// A version is let in: its rows are what counts, and nothing of another choice is in
    /// doubt. The choice may still be answered with a failure, if it was for the highest.
    pub(super) fn take(&mut self) {
        (self.in_doubt, self.found) = (None, None);
        if let Some(held) = &mut self.before {
            held.stands = false;
        }
    }

    /// Rows are about to be committed for this choice: from now on both outlive the
    /// host, until it is clear [which of them](Self::settle) stands. Whoever finds rows
    /// committed for it is to find it, too.
    pub(super) fn doubt(&mut self, chosen: Option<Version>, commits: BTreeMap<String, TableCommit>) {
        self.in_doubt = Some(Doubt { chosen, commits, lasts: false });
    }

    /// All rows are as the choice that stands has them, but for what
    /// [lasts](Self::keep_doubt). Whether that was in doubt.
    pub(super) fn settle(&mut self) -> bool {
        self.in_doubt.take_if(|doubt| !doubt.lasts).is_some()
    }

    /// What was done for the choice could not be undone: nothing that is undone later
    /// settles it.
    pub(super) fn keep_doubt(&mut self) {
        if let Some(doubt) = &mut self.in_doubt {
            doubt.lasts = true;
        }
    }

    /// Whether a choice that does not stand outlives the host yet.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// What a host before has left in doubt.
    pub(super) fn found_in_doubt(&self) -> Option<&Before> {
        self.found.as_ref()
    }

    /// That is decided: the choice that is kept was carried out, or else the one before
    /// it stands, in its place in `chosen` or behind a later one. What stood before the
    /// later one then, if there is one.
    pub(super) fn decide(&mut self, is_carried_out: bool, chosen: &mut Option<Version>) -> Option<Before> {
        let found = self.found.take()?;
        if !is_carried_out {
            let stands = self.before.as_mut().map_or(chosen, |held| &mut held.chosen);
            stands.clone_from(&found.chosen);
        }
        Some(found)
    }

    /// What outlives the host if this is chosen now: the choice, and the one before it
    /// if it is open which of them it is.
    pub(super) fn outlives(&self, chosen: &Option<Version>) -> (Option<Version>, Option<Before>) {
        let held = self.before.as_ref().filter(|held| held.stands);
        let stands = held.map_or(chosen, |held| &held.chosen).clone();
        match (&self.in_doubt, &self.found) {
            (Some(doubt), _) if doubt.chosen != stands => {
                let before = Before { chosen: stands, commits: doubt.commits.clone() };
                (doubt.chosen.clone(), Some(before))
            }
            (None, Some(found)) => (stands, Some(found.clone())),
            _ => (stands, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u64) -> Option<Version> {
        Some(Version::new(major, 0, 0))
    }

    fn commits() -> BTreeMap<String, TableCommit> {
        BTreeMap::from([("rows".to_owned(), TableCommit { schema: 1, generation: 7 })])
    }

    fn left_open(chosen: Option<Version>) -> Before {
        Before { chosen, commits: commits() }
    }

    #[test]
    fn a_choice_outlives_the_host_when_it_is_carried_out_and_beside_the_one_before_while_in_doubt() {
        let mut standing = Standing::default();
        standing.hold(version(1));
        assert_eq!(standing.outlives(&version(2)), (version(1), None));
        standing.doubt(version(2), commits());
        assert_eq!(standing.outlives(&version(2)), (version(2), Some(left_open(version(1)))));
        standing.take();
        assert_eq!(standing.outlives(&version(2)), (version(2), None));
    }

    #[test]
    fn a_refused_choice_stays_in_doubt_until_it_is_undone() {
        let mut standing = Standing::default();
        standing.hold(version(1));
        standing.doubt(version(2), commits());
        assert_eq!(standing.release(), version(1));
        assert_eq!(standing.outlives(&version(1)), (version(2), Some(left_open(version(1)))));
        assert!(standing.settle() && !standing.settle());
        assert_eq!(standing.outlives(&version(1)), (version(1), None));
    }

    /// Once, the next attempt of all settled it, whose own end says nothing of what is on
    /// the disk.
    #[test]
    fn what_could_not_be_undone_stays_in_doubt_until_another_version_is_let_in() {
        let mut standing = Standing::default();
        standing.doubt(version(2), commits());
        standing.keep_doubt();
        standing.hold(version(1));
        assert_eq!(standing.release(), version(1), "another choice, of what serves already");
        assert!(!standing.settle() && standing.is_in_doubt());
        assert_eq!(standing.outlives(&version(1)), (version(2), Some(left_open(version(1)))));
        standing.take();
        assert!(!standing.is_in_doubt());
    }

    #[test]
    fn what_a_host_before_has_left_open_is_kept_until_it_is_decided() {
        for (is_carried_out, stands) in [(true, version(2)), (false, version(1))] {
            let mut chosen = version(2);
            let mut standing = Standing::found(Some(left_open(version(1))));
            assert_eq!(standing.outlives(&chosen), (version(2), Some(left_open(version(1)))));
            assert_eq!(standing.decide(is_carried_out, &mut chosen), Some(left_open(version(1))));
            assert_eq!((standing.outlives(&chosen), &chosen), ((stands.clone(), None), &stands));
            assert_eq!(standing.decide(!is_carried_out, &mut chosen), None, "once");
            assert_eq!(chosen, stands);
        }
    }

    /// Once, it was kept in two places, and what was found out reached one of them.
    #[test]
    fn what_a_choice_took_the_place_of_is_known_until_it_is_answered() {
        let mut standing = Standing::found(Some(left_open(None)));
        standing.hold(version(1));
        standing.decide(false, &mut version(3));
        standing.hold(version(3));
        assert_eq!(standing.outlives(&version(4)), (None, None), "a later one took its place");
        standing.take();
        assert_eq!(standing.outlives(&version(4)), (version(4), None), "a version was let in");
        standing.hold(version(4));
        assert_eq!(standing.outlives(&version(5)), (version(4), None), "its rows are what counts");
        assert_eq!((standing.release(), standing.release()), (version(4), None));
        standing.hold(version(1));
        standing.leave(&Version::new(1, 0, 0), &Version::new(2, 0, 0));
        assert_eq!(standing.release(), version(2));
    }

    /// Once, it was forgotten: a later choice that was refused left the undecided one
    /// standing, although that had never been carried out.
    #[test]
    fn what_was_left_open_is_decided_behind_a_later_choice_too() {
        let mut chosen = version(3);
        let mut standing = Standing::found(Some(left_open(version(1))));
        standing.hold(version(2));
        assert_eq!(standing.outlives(&chosen), (version(2), Some(left_open(version(1)))));
        assert!(standing.decide(false, &mut chosen).is_some());
        assert_eq!((standing.outlives(&chosen), &chosen), ((version(1), None), &version(3)));
        standing.doubt(version(3), commits());
        assert_eq!(standing.outlives(&chosen), (version(3), Some(left_open(version(1)))));
    }
}
