//! Token buckets: how many calls a client may make.
//!
//! The part of the sample plugin `limiter` that is the same in every version;
//! what a version's state looks like, and how it becomes another's, stands in
//! the version itself. Generic over the key, because that is what version 3
//! changes. It knows nothing of plugins and reads no clock.

#![deny(unsafe_code)]

mod bucket;
mod buckets;
mod entries;

pub use bucket::{Bucket, Rate};
pub use buckets::{Buckets, Full, Taken, Totals};
pub use entries::Entries;
