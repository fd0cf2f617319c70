//! The plugin `sessions`, version 3.1.0: it knows the shape of sessions in
//! 2.0.0, and that of 1.0.0 no more.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{State, StateError, Step},
};
use serde::{Deserialize, Serialize};
use sessions_core::{Sessions, TokenList};

#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 2)]
pub(crate) struct SessionV2 {
    user: String,
    opened_ms: u64,
    last_used_ms: u64,
    hits: u64,
}

#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 3, previous = SessionV2)]
pub(crate) struct Session {
    user: String,
    opened_ms: u64,
    last_used_ms: u64,
    visits: u64,
}

impl Step<SessionV2> for Session {
    fn up(SessionV2 { user, opened_ms, last_used_ms, hits }: SessionV2) -> Result<Self, StateError> {
        Ok(Session { user, opened_ms, last_used_ms, visits: hits })
    }

    fn down(self) -> Result<SessionV2, StateError> {
        let Session { user, opened_ms, last_used_ms, visits } = self;
        Ok(SessionV2 { user, opened_ms, last_used_ms, hits: visits })
    }
}

impl sessions_core::Session for Session {
    fn begin(user: &str, now_ms: u64) -> Self {
        Session { user: user.to_owned(), opened_ms: now_ms, last_used_ms: now_ms, visits: 0 }
    }

    fn touch(&mut self, now_ms: u64) {
        self.last_used_ms = now_ms;
        self.visits += 1;
    }

    fn user(&self) -> &str {
        &self.user
    }

    fn hits(&self) -> u64 {
        self.visits
    }
}

export!(Sessions<Session, TokenList>, name = "sessions", version = "3.1.0", state = tables);
