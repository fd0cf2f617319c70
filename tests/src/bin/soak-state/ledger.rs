//! What has to be there, from what was acknowledged; and what may be, from what
//! was begun when the host was killed.

use crate::{
    names,
    words::{Deed, Word},
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of all sessions, and of the version that has to serve.
#[derive(Default)]
pub(crate) struct Ledger {
    sessions: BTreeMap<String, Session>,
    /// Sessions that were being opened or closed at a kill: one of the tables may
    /// know them and the other not.
    torn: BTreeSet<String>,
    /// The versions that may serve: one, but for a decision in flight.
    majors: BTreeSet<u64>,
    is_deciding: bool,
    in_flight: BTreeMap<usize, (Deed, String)>,
    told: Told,
    pub(crate) faults: Faults,
    pub(crate) sums: Sums,
}

/// A session.
#[derive(Debug, Clone, Default)]
struct Session {
    there: There,
    /// Touches that were acknowledged, and that were begun.
    touched: u64,
    attempted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum There {
    #[default]
    No,
    Yes,
    /// It was being opened or closed.
    Either,
}

/// What a host says that it found.
#[derive(Default)]
struct Told {
    rows: BTreeMap<String, u64>,
    named: BTreeSet<String>,
    misnamed: u64,
    audit: Option<[u64; 3]>,
}

/// What must not be. All are to be zero.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost_opens: u64,
    pub(crate) lost_closes: u64,
    pub(crate) wrong_hits: u64,
    pub(crate) strays: u64,
    pub(crate) disagreeing_scans: u64,
    pub(crate) wrong_versions: u64,
    pub(crate) detours: u64,
    pub(crate) troubles: u64,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) acknowledged: u64,
    pub(crate) decisions: u64,
    pub(crate) told: u64,
    pub(crate) rows_told: u64,
    pub(crate) killed_while_writing: u64,
    pub(crate) killed_while_deciding: u64,
    pub(crate) torn: u64,
}

impl Ledger {
    /// One that knows what a first host does before anything else.
    pub(crate) fn new() -> Ledger {
        let there = |token| (token, Session { there: There::Yes, ..Session::default() });
        let sessions = (0..names::FILLED).map(names::filled).map(there).collect();
        // Whichever file was read first serves until one is chosen.
        Ledger { sessions, majors: BTreeSet::from([1, 2, 3]), ..Ledger::default() }
    }

    /// Takes a word of the host.
    pub(crate) fn hear(&mut self, word: Word) {
        match word {
            Word::Active { major, published } => {
                let is_chosen = self.sums.decisions > 0;
                self.faults.detours += u64::from(is_chosen && published > 1);
                if !self.majors.contains(&major) {
                    self.fault(format!("{major}.0.0 serves, and one of {:?} was chosen", self.majors));
                    self.faults.wrong_versions += 1;
                }
                // The first host has not been told yet what to serve.
                if is_chosen {
                    self.majors = BTreeSet::from([major]);
                }
            }
            Word::Row { token, user, hits } => {
                if user != names::user_of(&token) {
                    self.fault(format!("{token} is said to be of {user}"));
                    self.faults.disagreeing_scans += 1;
                }
                self.told.rows.insert(token, hits);
            }
            Word::Named { user, tokens } => {
                let wrong = tokens.iter().filter(|token| names::user_of(token) != user);
                self.told.misnamed += wrong.count() as u64;
                self.told.named.extend(tokens);
            }
            Word::Audit { sessions, hits, strays } => self.told.audit = Some([sessions, hits, strays]),
            Word::Told => self.compare(),
            Word::Begin { writer, deed, token } => self.begin(writer, deed, token),
            Word::Done { writer } => self.done(writer),
            Word::Decide { major } => {
                self.is_deciding = true;
                self.majors.insert(major);
            }
            // None serves when the host ends, and the answer came just before.
            Word::Decided { major: 0 } => {}
            Word::Decided { major } => {
                self.sums.decisions += 1;
                self.is_deciding = false;
                self.majors = BTreeSet::from([major]);
            }
            Word::Trouble(what) => {
                self.fault(what);
                self.faults.troubles += 1;
            }
            Word::Swept { .. } | Word::Load | Word::End => {}
        }
    }

    /// The host is dead: what was in flight is done, or not.
    pub(crate) fn killed(&mut self) {
        self.told = Told::default();
        self.sums.killed_while_writing += u64::from(!self.in_flight.is_empty());
        self.sums.killed_while_deciding += u64::from(std::mem::take(&mut self.is_deciding));
        for (deed, token) in std::mem::take(&mut self.in_flight).into_values() {
            if deed != Deed::Touch {
                self.torn.insert(token);
            }
        }
    }

    /// How many sessions there are, when that is known.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions.values().filter(|session| session.there == There::Yes).count() as u64
    }

    fn begin(&mut self, writer: usize, deed: Deed, token: String) {
        let session = self.sessions.entry(token.clone()).or_default();
        match deed {
            Deed::Open => *session = Session { there: There::Either, ..Session::default() },
            Deed::Touch => session.attempted += 1,
            Deed::Close => session.there = There::Either,
        }
        self.in_flight.insert(writer, (deed, token));
    }

    fn done(&mut self, writer: usize) {
        let Some((deed, token)) = self.in_flight.remove(&writer) else {
            return self.fault(format!("writer {writer} is done with nothing"));
        };
        self.sums.acknowledged += 1;
        let session = self.sessions.entry(token).or_default();
        match deed {
            Deed::Open => session.there = There::Yes,
            Deed::Touch => session.touched += 1,
            Deed::Close => *session = Session::default(),
        }
    }

    /// Holds what the host found against what is known, and believes it then.
    fn compare(&mut self) {
        let Told { rows, named, misnamed, audit } = std::mem::take(&mut self.told);
        self.sums.told += 1;
        self.sums.rows_told += rows.len() as u64;
        for token in names::tokens() {
            let known = self.sessions.remove(&token).unwrap_or_default();
            match (known.there, rows.get(&token)) {
                (There::Yes, None) => {
                    self.fault(format!("{token} was opened and is gone"));
                    self.faults.lost_opens += 1;
                }
                (There::No, Some(_)) => {
                    self.fault(format!("{token} was closed and is there"));
                    self.faults.lost_closes += 1;
                }
                (_, Some(hits)) if !(known.touched..=known.attempted).contains(hits) => {
                    self.fault(format!("{token} has {hits} hits of {known:?}"));
                    self.faults.wrong_hits += 1;
                }
                _ => {}
            }
            if let Some(hits) = rows.get(&token) {
                let session = Session { there: There::Yes, touched: *hits, attempted: *hits };
                self.sessions.insert(token, session);
            }
        }
        let there: BTreeSet<String> = rows.keys().cloned().collect();
        let strays: BTreeSet<String> = there.symmetric_difference(&named).cloned().collect();
        let unexplained = strays.difference(&self.torn).cloned().collect::<Vec<_>>();
        if misnamed > 0 || !unexplained.is_empty() {
            self.fault(format!("{unexplained:?} are in one table only, and {misnamed} with another user"));
            self.faults.strays += misnamed + unexplained.len() as u64;
        }
        let expected = [there.len() as u64, rows.values().sum(), strays.len() as u64];
        if audit != Some(expected) {
            self.fault(format!("the scans say {audit:?}, row by row it is {expected:?}"));
            self.faults.disagreeing_scans += 1;
        }
        self.sums.torn += strays.len() as u64;
        self.torn = strays;
    }

    fn fault(&self, what: String) {
        eprintln!("start {}: {what}", self.sums.told + 1);
    }
}
