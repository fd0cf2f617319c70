//! What a host says to the one who kills it: a line for each thing, written by
//! one call of the system, so that what was said before the end is heard whole.

use std::{
    fmt,
    io::{self, Write},
};

/// What is done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Open,
    Touch,
    Close,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// A version of this major serves, and so many were published until then.
    Active { major: u64, published: u64 },
    /// A session that is there.
    Row { token: String, user: String, hits: u64 },
    /// The sessions that a user's row names.
    Named { user: String, tokens: Vec<String> },
    /// What the plugin's `audit` said.
    Audit { sessions: u64, hits: u64, strays: u64 },
    /// Everything that is there has been said.
    Told,
    /// The tables are swept into these schemas; rows that could not be.
    Swept { sessions: u32, by_user: u32, failed: u64 },
    /// Writers and changes begin.
    Load,
    /// A writer is about to do something.
    Begin { writer: usize, deed: Deed, token: String },
    /// What the writer was about to do was acknowledged.
    Done { writer: usize },
    /// A decision is about to be made, after which this version may serve.
    Decide { major: u64 },
    /// It was acknowledged, and this version serves.
    Decided { major: u64 },
    /// Something happened that should not.
    Trouble(String),
    /// The host was shut down.
    End,
}

impl Word {
    /// Says it. A listener who is gone does not matter: then this ends, too.
    pub(crate) fn say(&self) {
        let line = format!("{self}\n");
        // A whole line goes straight through, under one lock.
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }
}

/// Tells of something that should not have happened.
pub(crate) fn trouble(what: impl fmt::Display) {
    Word::Trouble(what.to_string().replace('\n', " ")).say();
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Active { major, published } => write!(f, "active {major} {published}"),
            Word::Row { token, user, hits } => write!(f, "row {token} {user} {hits}"),
            Word::Named { user, tokens } => write!(f, "named {user} {}", tokens.join(",")),
            Word::Audit { sessions, hits, strays } => write!(f, "audit {sessions} {hits} {strays}"),
            Word::Told => f.write_str("told"),
            Word::Swept { sessions, by_user, failed } => write!(f, "swept {sessions} {by_user} {failed}"),
            Word::Load => f.write_str("load"),
            Word::Begin { writer, deed, token } => {
                let deed = match deed {
                    Deed::Open => "open",
                    Deed::Touch => "touch",
                    Deed::Close => "close",
                };
                write!(f, "begin {writer} {deed} {token}")
            }
            Word::Done { writer } => write!(f, "done {writer}"),
            Word::Decide { major } => write!(f, "decide {major}"),
            Word::Decided { major } => write!(f, "decided {major}"),
            Word::Trouble(what) => write!(f, "trouble {what}"),
            Word::End => f.write_str("end"),
        }
    }
}

/// What a line says; `None` if it is none of these.
pub(crate) fn read(line: &str) -> Option<Word> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut fields = rest.split(' ');
    let mut next = || fields.next();
    Some(match word {
        "active" => Word::Active { major: next()?.parse().ok()?, published: next()?.parse().ok()? },
        "row" => Word::Row { token: next()?.into(), user: next()?.into(), hits: next()?.parse().ok()? },
        "named" => {
            let (user, tokens) = (next()?.to_owned(), next()?.split(','));
            Word::Named { user, tokens: tokens.filter(|token| !token.is_empty()).map(Into::into).collect() }
        }
        "audit" => Word::Audit {
            sessions: next()?.parse().ok()?,
            hits: next()?.parse().ok()?,
            strays: next()?.parse().ok()?,
        },
        "told" => Word::Told,
        "swept" => Word::Swept {
            sessions: next()?.parse().ok()?,
            by_user: next()?.parse().ok()?,
            failed: next()?.parse().ok()?,
        },
        "load" => Word::Load,
        "begin" => {
            let writer = next()?.parse().ok()?;
            let deed = match next()? {
                "open" => Deed::Open,
                "touch" => Deed::Touch,
                "close" => Deed::Close,
                _ => return None,
            };
            Word::Begin { writer, deed, token: next()?.into() }
        }
        "done" => Word::Done { writer: next()?.parse().ok()? },
        "decide" => Word::Decide { major: next()?.parse().ok()? },
        "decided" => Word::Decided { major: next()?.parse().ok()? },
        "trouble" => Word::Trouble(rest.to_owned()),
        "end" => Word::End,
        _ => return None,
    })
}
