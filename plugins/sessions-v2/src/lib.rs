//! The sample plugin `sessions`, version 2.0.0: a store of user sessions in
//! tables of the host. `sessions-core` lists its methods; this crate says what
//! its rows look like, and how they come from and go back to those of the
//! versions before.

#![deny(unsafe_code)]

mod rows;

use replug_plugin_api::export;
use sessions_core::Sessions;

export!(
    Sessions<rows::Session, rows::Tokens>,
    name = "sessions",
    version = "2.0.0",
    state = tables
);
