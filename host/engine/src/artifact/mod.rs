//! From a file in the drop directory to a library that may be loaded: watch,
//! stage, inspect, trust. Nothing here runs a plugin's code.

pub mod watch;
pub mod stage;
pub mod inspect;
pub mod trust;
