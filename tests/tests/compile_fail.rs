//! What borrows memory of a plugin cannot leave the call, and what could outlive
//! it cannot cross: programs that must not compile, each with the compiler's
//! words beside it.
//!
//! After a change of the words: `TRYBUILD=overwrite scripts/test -p replug-tests
//! --test compile_fail`, and read what changed.

#[test]
fn what_could_outlive_a_plugin_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
