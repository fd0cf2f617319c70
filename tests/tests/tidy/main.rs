//! The tidy test: rules of the tree that no compiler checks.
//!
//! Each rule is a function from a [`tree::Tree`] to its faults, with two kinds
//! of tests: the project keeps the rule, and a bad sample breaks it. A fault
//! names file and line, what is wrong and how to mend it. No rule looks at
//! anything but the text of the files.

mod tree;

mod tokens;

mod codes;
mod documents;
mod imports;
mod packages;
mod sources;
mod unsafety;
