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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use replug_plugin_api::testing;

    proptest! {
        #[test]
        fn all_versions_can_use_any_session(user: String, opened_ms: u64, last_used_ms: u64, hits: u64) {
            let first = SessionV1 { user: user.clone(), opened_ms, hits };
            testing::assert_round_trip::<SessionV1, Session>(&first);
            testing::assert_row_shared::<SessionV1, Session>(&first);
            let second = SessionV2 { user: user.clone(), opened_ms, last_used_ms, hits };
            testing::assert_round_trip::<SessionV2, Session>(&second);
            testing::assert_row_shared::<SessionV2, Session>(&second);
            let newest = Session { user, times: Times { opened_ms, last_used_ms }, visits: hits };
            testing::assert_round_trip::<Session, SessionV2>(&newest);
            // Version 1 does not know when a session was used last.
            testing::assert_round_trip_but::<Session, SessionV1>(&newest, |row| {
                row.times.last_used_ms = row.times.opened_ms;
            });
        }

        #[test]
        fn both_versions_can_use_any_users_row(tokens: Vec<String>, newest_ms: u64) {
            let old = TokensV1 { tokens: tokens.clone() };
            testing::assert_round_trip::<TokensV1, Tokens>(&old);
            testing::assert_row_shared::<TokensV1, Tokens>(&old);
            let new = Tokens { tokens, newest_ms };
            testing::assert_round_trip_but::<Tokens, TokensV1>(&new, |row| row.newest_ms = 0);
        }
    }

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are_and_arrive() {
        for (schema, file, last_used_ms) in [
            (1, "../sessions-v1/tests/golden/session-v1.hex", 1_700_000_000_000),
            (2, "../sessions-v2/tests/golden/session-v2.hex", 1_700_000_000_001),
        ] {
            let session: Session = testing::upgrade_bytes(schema, &testing::golden(file)).expect("goes up");
            assert_eq!((session.user.as_str(), session.visits), ("ada", 7));
            assert_eq!(session.times.last_used_ms, last_used_ms);
        }
        let times = Times { opened_ms: 1_700_000_000_000, last_used_ms: 1_700_000_000_001 };
        let session = Session { user: "ada".to_owned(), times, visits: 7 };
        testing::assert_golden("tests/golden/session-v3.hex", &session);
        let old = testing::golden("../sessions-v1/tests/golden/tokens-v1.hex");
        let tokens: Tokens = testing::upgrade_bytes(1, &old).expect("goes up");
        assert_eq!(tokens, Tokens { tokens: vec!["t1".to_owned(), "t2".to_owned()], newest_ms: 0 });
        let known = Tokens { newest_ms: 1_700_000_000_000, ..tokens };
        testing::assert_golden("tests/golden/tokens-v2.hex", &known);
    }
}
