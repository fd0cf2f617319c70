//! Rows of versions that are about their steps and nothing else: sessions that
//! keep a user and a count, and the tokens of a user as they were at first.

use replug_plugin_api::state::State;
use serde::{Deserialize, Serialize};

/// The tokens of a user's sessions, schema 1.
#[derive(Debug, Default, Serialize, Deserialize, State)]
#[state(version = 1)]
pub struct TokenList {
    tokens: Vec<String>,
}

impl crate::Tokens for TokenList {
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

/// Makes a [`Session`](crate::Session) of a row type of the caller's, which has the
/// fields `user` and `hits` and no others.
#[macro_export]
macro_rules! brief_session {
    ($row:ident) => {
        impl $crate::Session for $row {
            fn begin(user: &str, _: u64) -> Self {
                $row { user: user.to_owned(), hits: 0 }
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
    };
}
