//! Loading a library, shaking hands with it, and unloading it with proof: the
//! only foreign-function interface of the engine.
//!
//! ```text
//! PrivateCopy ──► Library ──► Handshake ──► Loaded ──► close ──► Unmapped
//!                 dlopen      layouts       hooks          └───► Resident
//! ```
//!
//! It decides nothing: when a library is opened, which hook runs and when it is
//! closed is the pipeline's business. It never drops a library by accident:
//! only [`Loaded::close`] unmaps, and what is not closed stays mapped.

mod answer;
mod hooks;
mod layout;
mod proof;
mod segments;
mod library;
mod handshake;
mod threads;
mod door;
mod remains;
mod loaded;
mod calls;
mod rows;
mod interfaces;

pub use answer::{Answer, AnswerLimits};
pub use handshake::{HandshakeError, InterfaceRow};
pub use hooks::{Hook, HookError, HookErrorKind, StepInfo, StepKind};
pub use library::{Kept, Library, OpenError};
pub use loaded::{Closed, LoadError, Loaded, NotLoaded};
pub use proof::{Pin, Residue};
pub use remains::Remains;
pub use rows::Converted;
pub use threads::ThreadBooks;

pub(crate) use answer::hand_on;
pub(crate) use calls::ExportedDown;
pub(crate) use door::Door;
pub(crate) use interfaces::{INTERFACES_MAX, InterfaceIndex, Interfaces, Vtables};
