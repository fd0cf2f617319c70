//! The plugin `sessions`, version 2.1.0: its sessions cannot go back to
//! the shape of 1.0.0, because it forgets when they were opened.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{OneWay, State, StateError},
};
use serde::{Deserialize, Serialize};
use sessions_core::Sessions;

#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct SessionV1 {
    user: String,
    opened_ms: u64,
    hits: u64,
}

#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 2, previous = SessionV1, one_way)]
pub(crate) struct Session {
    user: String,
    hits: u64,
}

impl OneWay<SessionV1> for Session {
    fn up(SessionV1 { user, hits, .. }: SessionV1) -> Result<Self, StateError> {
        Ok(Session { user, hits })
    }
}

impl sessions_core::Session for Session {
    fn begin(user: &str, _: u64) -> Self {
        Session { user: user.to_owned(), hits: 0 }
    }

    fn touch(&mut self, _: u64) {
        self.hits += 1;
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn hits(&self) -> u64 {
        self.hits
    }
}

#[derive(Debug, Default, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct Tokens {
    tokens: Vec<String>,
}

impl sessions_core::Tokens for Tokens {
    fn tokens(&self) -> &[String] {
        &self.tokens
    }

    fn add(&mut self, token: &str) {
        self.tokens.push(token.to_owned());
    }

    fn remove(&mut self, token: &str) {
        self.tokens.retain(|known| known != token);
    }
}

export!(Sessions<Session, Tokens>, name = "sessions", version = "2.1.0", state = tables);
