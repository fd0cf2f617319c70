//! All that the author of a replug plugin depends on.
