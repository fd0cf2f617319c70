//! The replug host as a library: load, swap and unload native plugins in a
//! running process.

pub mod id;

pub mod clock;

pub mod failure;

pub mod event;

pub mod artifact;

pub mod load;

pub mod state;

pub mod dispatch;

pub mod service;

mod pipeline;

pub use service::CallOptions;
