//! The plugin `sessions`, version 2.3.0: with a snapshot beside its rows, which
//! cannot go back to the shape of 1.3.0.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{OneWay, State, StateError},
};
use serde::{Deserialize, Serialize};
use sessions_core::Tallied;

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

sessions_core::brief_session!(Session);

export!(Tallied<Session, 0>, name = "sessions", version = "2.3.0", state = snapshot + tables);
