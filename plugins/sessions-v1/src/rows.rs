//! The rows of this version: schema 1 of both tables.

use replug_plugin_api::state::State;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
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
    use replug_plugin_api::testing;

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are() {
        let session = Session { user: "ada".to_owned(), opened_ms: 1_700_000_000_000, hits: 7 };
        testing::assert_golden("tests/golden/session-v1.hex", &session);
        let tokens = Tokens { tokens: vec!["t1".to_owned(), "t2".to_owned()] };
        testing::assert_golden("tests/golden/tokens-v1.hex", &tokens);
    }
}
