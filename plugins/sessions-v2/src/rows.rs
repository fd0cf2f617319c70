//! The rows of this version, and those of the version before.
//!
//! Schema 2 of a session knows when it was used last. A session that comes from
//! schema 1 was used last when it was opened, for all that is known. Rows of
//! `by_user` have not changed.

use replug_plugin_api::state::{State, StateError, Step};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct SessionV1 {
    user: String,
    opened_ms: u64,
    hits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = SessionV1)]
pub(crate) struct Session {
    user: String,
    opened_ms: u64,
    last_used_ms: u64,
    hits: u64,
}

impl Step<SessionV1> for Session {
    fn up(SessionV1 { user, opened_ms, hits }: SessionV1) -> Result<Self, StateError> {
        Ok(Session { user, opened_ms, last_used_ms: opened_ms, hits })
    }

    fn down(self) -> Result<SessionV1, StateError> {
        let Session { user, opened_ms, hits, .. } = self;
        Ok(SessionV1 { user, opened_ms, hits })
    }
}

impl sessions_core::Session for Session {
    fn begin(user: &str, now_ms: u64) -> Self {
        Session { user: user.to_owned(), opened_ms: now_ms, last_used_ms: now_ms, hits: 0 }
    }

    fn touch(&mut self, now_ms: u64) {
        self.last_used_ms = now_ms;
        self.hits += 1;
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn hits(&self) -> u64 {
        self.hits
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct Tokens {
    tokens: Vec<String>,
}

impl sessions_core::Tokens for Tokens {
    fn tokens(&self) -> &[String] {
        &self.tokens
    }

    fn add(&mut self, token: &str) {
        if !self.tokens.iter().any(|known| known == token) {
            self.tokens.push(token.to_owned());
        }
    }

    fn remove(&mut self, token: &str) {
        self.tokens.retain(|known| known != token);
    }
}
