//! The two tables, and what calls do to them.

use crate::wire::{Audit, Config, Fill, Open};
use replug_plugin_api::prelude::*;
use replug_plugin_api::{state::State, table::TableOptions};
use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

/// A session, in the shape that a version gives it.
pub trait Session: State + Send + Sync {
    /// One that begins now.
    fn begin(user: &str, now_ms: u64) -> Self;
    /// It was used.
    fn touch(&mut self, now_ms: u64);
    /// Whose it is.
    fn user(&self) -> &str;
    /// How often it was used.
    fn hits(&self) -> u64;
}

/// The sessions of a user, in the shape that a version gives them.
pub trait Tokens: State + Default + Send + Sync {
    /// The tokens.
    fn tokens(&self) -> &[String];
    /// One more, unless it is there.
    fn add(&mut self, token: &str);
    /// One less.
    fn remove(&mut self, token: &str);
}

/// The plugin, with the rows of a version.
pub struct Sessions<S, T> {
    sessions: Table<String, S>,
    by_user: Table<String, T>,
}

impl<S: Session, T: Tokens> Plugin for Sessions<S, T> {
    type Config = Config;

    fn prepare(config: Config, context: &Context) -> Result<Self> {
        let options = TableOptions::new().durability(config.durability.into()).rows_max(config.rows_max);
        Ok(Sessions {
            sessions: context.table_with("sessions", options)?,
            by_user: context.table_with("by_user", options)?,
        })
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("open", "Opens a session", |store, call| {
                let Open { token, user } = call.json()?;
                Reply::json(&store.open(&token, &user)?)
            })
            .method("touch", "Counts a use of a session", |store, call| {
                Ok(store.touch(call.text()?)?.to_string())
            })
            .method("get", "A session", |store, call| {
                let token = call.text()?;
                Reply::json(&store.sessions.get(token)?.ok_or_else(|| unknown(token))?)
            })
            .method("close", "Closes a session", |store, call| Ok(store.close(call.text()?)?.to_string()))
            .method("of", "The sessions of a user", |store, call| {
                let row = store.by_user.get(call.text()?)?.unwrap_or_default();
                Reply::json(&row.tokens())
            })
            .method("count", "How many sessions there are", |store, _| Ok(store.sessions.len().to_string()))
            .method("fill", "Opens many sessions", |store, call| store.fill(call.json()?))
            .method("audit", "Whether the tables agree", |store, _| Reply::json(&store.audit()?));
    }
}

impl<S: Session, T: Tokens> Sessions<S, T> {
    fn open(&self, token: &str, user: &str) -> Result<S> {
        let session = S::begin(user, now_ms());
        if !self.sessions.insert(token, &session)? {
            return Err(Error::new("session.exists", format!("there is a session {token}")));
        }
        self.name(user, token)?;
        Ok(session)
    }

    /// Adds a session to those of its user.
    fn name(&self, user: &str, token: &str) -> Result<()> {
        self.by_user.update(user, |row| {
            let mut row = row.unwrap_or_default();
            row.add(token);
            Some(row)
        })?;
        Ok(())
    }

    fn touch(&self, token: &str) -> Result<u64> {
        let touched = self.sessions.update(token, |row| {
            row.map(|mut row| {
                row.touch(now_ms());
                row
            })
        })?;
        touched.map(|row| row.hits()).ok_or_else(|| unknown(token))
    }

    fn close(&self, token: &str) -> Result<bool> {
        let Some(row) = self.sessions.get(token)? else {
            return Ok(false);
        };
        let was_there = self.sessions.remove(token)?;
        self.by_user.update(row.user(), |tokens| {
            let mut tokens = tokens?;
            tokens.remove(token);
            (!tokens.tokens().is_empty()).then_some(tokens)
        })?;
        Ok(was_there)
    }

    fn fill(&self, Fill { from, count }: Fill) -> Result<String> {
        let now = now_ms();
        for number in from..from.saturating_add(count) {
            let (token, user) = (format!("t{number}"), format!("u{}", number / 4));
            self.sessions.put(&token, &S::begin(&user, now))?;
            self.name(&user, &token)?;
        }
        Ok(count.to_string())
    }

    /// Exact while nobody writes.
    fn audit(&self) -> Result<Audit> {
        let mut named = BTreeSet::new();
        for row in self.by_user.scan() {
            let (user, tokens) = row?;
            named.extend(tokens.tokens().iter().map(|token| (token.clone(), user.clone())));
        }
        let mut audit = Audit { sessions: 0, hits: 0, strays: 0 };
        for row in self.sessions.scan() {
            let (token, session) = row?;
            audit.sessions += 1;
            audit.hits += session.hits();
            if !named.remove(&(token, session.user().to_owned())) {
                audit.strays += 1;
            }
        }
        audit.strays += named.len() as u64;
        Ok(audit)
    }
}

fn unknown(token: &str) -> Error {
    Error::new("session.unknown", format!("there is no session {token}"))
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
