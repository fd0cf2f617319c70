//! Dispatch under load, with the barrier that this machine has.

mod dispatch_scenarios;

use dispatch_scenarios as scenario;

#[test]
fn every_call_runs_on_a_version_in_memory_and_is_counted_once() {
    scenario::every_call_runs_on_a_version_in_memory_and_is_counted_once();
}

#[test]
fn no_update_is_lost_when_state_is_handed_over() {
    scenario::no_update_is_lost_when_state_is_handed_over();
}

#[test]
fn a_thread_is_detached_or_abandoned_but_never_both() {
    scenario::a_thread_is_detached_or_abandoned_but_never_both();
}

#[test]
fn a_version_is_drained_only_when_nobody_can_still_enter_it() {
    scenario::a_version_is_drained_only_when_nobody_can_still_enter_it();
}
