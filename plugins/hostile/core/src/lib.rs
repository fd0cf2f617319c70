//! The ways in which a plugin misbehaves, chosen at run time.
//!
//! One plugin (`hostile-v1`, `-v2`, `-v3`) does everything that does not have to
//! be in the binary itself: hooks misbehave as the configuration says, calls as
//! the method says, migrations as the state says. For tests of a host only.
//!
//! # Configuration
//!
//! ```json
//! {
//!   "only_version": "2.0.0",
//!   "faults": { "activate": { "panic": "text" }, "stop": { "hang": { "ms": 500 } } },
//!   "state": { "up": { "fail": "no way up" } },
//!   "count": 7,
//!   "trace": "/tmp/hooks",
//!   "thread": true
//! }
//! ```
//!
//! All keys may be left out. `faults` names hooks ([`Hook`]) and what goes wrong
//! in each ([`Fault`]), `state` what is wrong with what is handed over
//! ([`StateFaults`]), `only_version` the one version that they concern, `count`
//! where counting begins, `trace` a file that each hook appends a line to,
//! `thread` whether `prepare` starts one.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `add` | a number as text, or nothing for 1 | the new count |
//! | `count` | ignored | the count |
//! | `version` | ignored | `hostile 1.0.0` |
//! | `fault` | a [`Fault`] as JSON, `{"panic": "bomb"}` | `survived`, if it comes to that |
//! | `panic` | ignored | none: panics with a text |
//! | `slow` | a [`Hang`] as JSON, `{"ms": 100}`, or nothing for ever | `waited` |
//! | `recurse` | a plugin's name, or nothing | none: calls itself through the host, by that plugin's `nested` if one is named, without end |
//! | `release` | ignored | `released`; ends everything that hangs in this library |

mod crash;
mod fault;
mod hang;
mod linger;
mod locals;
mod plugin;
mod reach;
mod state;

pub use crash::Crash;
pub use fault::{Fault, Payload};
pub use hang::Hang;
pub use plugin::{Config, Hook, Hostile};
pub use state::{Counted, StateFaults, Swells, V1, V2, V3};
