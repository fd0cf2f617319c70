//! The plugin `sessions`, version 2.2.0: its step up panics at one user
//! and refuses another, and its step down refuses a third.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{State, StateError, Step},
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
#[state(version = 2, previous = SessionV1)]
pub(crate) struct Session {
    user: String,
    hits: u64,
}

impl Step<SessionV1> for Session {
    fn up(SessionV1 { user, hits, .. }: SessionV1) -> Result<Self, StateError> {
        assert_ne!(user, "panics", "nobody said what to do with this user");
        if user == "refused" {
            return Err(StateError::new("this user is not wanted"));
        }
        Ok(Session { user, hits })
    }

    fn down(self) -> Result<SessionV1, StateError> {
        let Session { user, hits } = self;
        if user == "stays" {
            return Err(StateError::new("this user does not go back"));
        }
        Ok(SessionV1 { user, opened_ms: 0, hits })
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

export!(Sessions<Session, Tokens>, name = "sessions", version = "2.2.0", state = tables);
