//! The plugin `sessions`, version 2.2.0: its step up panics at one user
//! and refuses another, and its step down refuses a third.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{State, StateError, Step},
};
use serde::{Deserialize, Serialize};
use sessions_core::{Sessions, TokenList};

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

sessions_core::brief_session!(Session);

export!(Sessions<Session, TokenList>, name = "sessions", version = "2.2.0", state = tables);
