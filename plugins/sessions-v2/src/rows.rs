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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use replug_plugin_api::testing;

    proptest! {
        #[test]
        fn both_versions_can_use_any_row(user: String, opened_ms: u64, last_used_ms: u64, hits: u64) {
            let old = SessionV1 { user: user.clone(), opened_ms, hits };
            testing::assert_round_trip::<SessionV1, Session>(&old);
            testing::assert_row_shared::<SessionV1, Session>(&old);
            // Version 1 does not know when a session was used last.
            let new = Session { user, opened_ms, last_used_ms, hits };
            testing::assert_round_trip_but::<Session, SessionV1>(&new, |row| {
                row.last_used_ms = row.opened_ms;
            });
        }
    }

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are_and_arrive() {
        let old = testing::golden("../sessions-v1/tests/golden/session-v1.hex");
        let new: Session = testing::upgrade_bytes(1, &old).expect("goes up");
        assert_eq!((new.user.as_str(), new.last_used_ms, new.hits), ("ada", 1_700_000_000_000, 7));
        let used = Session { last_used_ms: new.opened_ms + 1, ..new };
        testing::assert_golden("tests/golden/session-v2.hex", &used);
        // Of the same schema still.
        let tokens = Tokens { tokens: vec!["t1".to_owned(), "t2".to_owned()] };
        testing::assert_golden("../sessions-v1/tests/golden/tokens-v1.hex", &tokens);
    }
}
