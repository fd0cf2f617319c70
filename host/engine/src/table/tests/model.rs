//! The table against a model that does everything at once and at any cost.
