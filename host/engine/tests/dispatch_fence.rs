//! Dispatch under load, without membarrier: as on an old kernel, or under a
//! seccomp filter that refuses it.

mod dispatch_scenarios;

use dispatch_scenarios as scenario;
use replug_host::dispatch::barrier::{self, BarrierKind};

fn without_membarrier(scenario: fn()) {
    assert!(barrier::force_fence(), "the first question decides, and this is it");
    assert_eq!(barrier::kind(), BarrierKind::Fence);
    scenario();
}

#[test]
fn every_call_runs_on_a_version_in_memory_and_is_counted_once() {
    without_membarrier(scenario::every_call_runs_on_a_version_in_memory_and_is_counted_once);
}

#[test]
fn no_update_is_lost_when_state_is_handed_over() {
    without_membarrier(scenario::no_update_is_lost_when_state_is_handed_over);
}

#[test]
fn a_thread_is_detached_or_abandoned_but_never_both() {
    without_membarrier(scenario::a_thread_is_detached_or_abandoned_but_never_both);
}

#[test]
fn a_version_is_drained_only_when_nobody_can_still_enter_it() {
    without_membarrier(scenario::a_version_is_drained_only_when_nobody_can_still_enter_it);
}
