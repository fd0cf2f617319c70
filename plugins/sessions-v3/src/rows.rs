//! The rows of this version, and those of the versions before.
//!
//! Schema 3 of a session calls its hits `visits` and keeps its times together.
//! Schema 2 of a user's row knows when the newest of the sessions was opened;
//! of older rows nobody does.

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
pub(crate) struct SessionV2 {
    user: String,
    opened_ms: u64,
    last_used_ms: u64,
    hits: u64,
}

impl Step<SessionV1> for SessionV2 {
    fn up(SessionV1 { user, opened_ms, hits }: SessionV1) -> Result<Self, StateError> {
        Ok(SessionV2 { user, opened_ms, last_used_ms: opened_ms, hits })
    }

    fn down(self) -> Result<SessionV1, StateError> {
        let SessionV2 { user, opened_ms, hits, .. } = self;
        Ok(SessionV1 { user, opened_ms, hits })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = SessionV2)]
pub(crate) struct Session {
    user: String,
    times: Times,
    visits: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Times {
    opened_ms: u64,
    last_used_ms: u64,
}

impl Step<SessionV2> for Session {
    fn up(SessionV2 { user, opened_ms, last_used_ms, hits }: SessionV2) -> Result<Self, StateError> {
        Ok(Session { user, times: Times { opened_ms, last_used_ms }, visits: hits })
    }

    fn down(self) -> Result<SessionV2, StateError> {
        let Session { user, times: Times { opened_ms, last_used_ms }, visits } = self;
        Ok(SessionV2 { user, opened_ms, last_used_ms, hits: visits })
    }
}

impl sessions_core::Session for Session {
    fn begin(user: &str, now_ms: u64) -> Self {
        let times = Times { opened_ms: now_ms, last_used_ms: now_ms };
        Session { user: user.to_owned(), times, visits: 0 }
    }

    fn touch(&mut self, now_ms: u64) {
        self.times.last_used_ms = now_ms;
        self.visits += 1;
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn hits(&self) -> u64 {
        self.visits
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct TokensV1 {
    tokens: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = TokensV1)]
pub(crate) struct Tokens {
    tokens: Vec<String>,
    /// When the newest session was opened; 0 when that is not known.
    newest_ms: u64,
}

impl Step<TokensV1> for Tokens {
    fn up(TokensV1 { tokens }: TokensV1) -> Result<Self, StateError> {
        Ok(Tokens { tokens, newest_ms: 0 })
    }

    fn down(self) -> Result<TokensV1, StateError> {
        Ok(TokensV1 { tokens: self.tokens })
    }
}

impl sessions_core::Tokens for Tokens {
    fn tokens(&self) -> &[String] {
        &self.tokens
    }

    fn add(&mut self, token: &str) {
        if !self.tokens.iter().any(|known| known == token) {
            self.tokens.push(token.to_owned());
            self.newest_ms = sessions_core::now_ms();
        }
    }

    fn remove(&mut self, token: &str) {
        self.tokens.retain(|known| known != token);
    }
}
