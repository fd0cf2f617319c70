//! What the versions of the sample plugin `sessions` share: a store of user
//! sessions in two tables of the host, whatever shape their rows have.
//!
//! `sessions` has a row for each session, by its token; `by_user` has one for
//! each user, with the tokens of that user's sessions. A version says what its
//! rows look like (`rows.rs`); all that they are used for is here. Nothing is
//! kept in the plugin itself, so versions follow each other without a pause and
//! serve side by side.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `open` | `{"token": "t1", "user": "ada"}` | the session; `session.exists` if there is one |
//! | `touch` | a token | the hits of the session, one more than before |
//! | `get` | a token | the session, as this version stores it |
//! | `close` | a token | `true`, or `false` if there was none |
//! | `of` | a user | the tokens of the user's sessions |
//! | `count` | ignored | sessions |
//! | `fill` | `{"from": 0, "count": 1000}` | opens sessions `t<n>` of users `u<n / 4>` |
//! | `audit` | ignored | `{"sessions": 1, "hits": 7, "strays": 0}`, from a scan of both tables |
//!
//! # Configuration
//!
//! | key | default | says |
//! |---|---|---|
//! | `durability` | `"memory"` | when writes are acknowledged: `memory`, `process`, `disk` |
//! | `rows_max` | 2000000 | rows of each table |

#![deny(unsafe_code)]

mod brief;
mod store;
mod tallied;
mod wire;

pub use brief::TokenList;
pub use store::{Session, Sessions, Tokens, now_ms};
pub use tallied::{Tallied, Tally};
