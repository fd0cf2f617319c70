//! The plugin `sessions`, version 1.3.0: with a snapshot beside its rows, and
//! slow to stop.

#![deny(unsafe_code)]

use replug_plugin_api::{export, state::State};
use serde::{Deserialize, Serialize};
use sessions_core::Tallied;

#[derive(Debug, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct Session {
    user: String,
    opened_ms: u64,
    hits: u64,
}

impl sessions_core::Session for Session {
    fn begin(user: &str, now_ms: u64) -> Self {
        Session { user: user.to_owned(), opened_ms: now_ms, hits: 0 }
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

export!(Tallied<Session, 3_000>, name = "sessions", version = "1.3.0", state = snapshot + tables);
