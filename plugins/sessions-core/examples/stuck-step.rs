//! The plugin `sessions`, version 2.4.0: both its steps wait at a user who is
//! named after a file, for as long as there is such a file.

#![deny(unsafe_code)]

use replug_plugin_api::{
    export,
    state::{State, StateError, Step},
};
use serde::{Deserialize, Serialize};
use sessions_core::{Sessions, TokenList};
use std::{path::Path, thread, time::Duration};

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
        wait(&user);
        Ok(Session { user, hits })
    }

    fn down(self) -> Result<SessionV1, StateError> {
        let Session { user, hits } = self;
        wait(&user);
        Ok(SessionV1 { user, opened_ms: 0, hits })
    }
}

fn wait(user: &str) {
    while user.starts_with('/') && Path::new(user).exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

sessions_core::brief_session!(Session);

export!(Sessions<Session, TokenList>, name = "sessions", version = "2.4.0", state = tables);
