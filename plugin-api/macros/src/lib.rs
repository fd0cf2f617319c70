//! Derive macros of `replug-plugin-api`.
