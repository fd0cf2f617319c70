//! Models of calls beside a version that leaves.

use super::*;

/// The hot path: hazard, barrier, second look.
///
/// Mutations: no `light`; no `heavy`; `heavy` before the pointer is stored; a
/// Relaxed store when the frame is dropped; a Relaxed load in `frames`.
#[test]
fn a_version_that_is_found_drained_is_in_no_call() {
    model("hot call", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        run(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let publisher = spawn(move || plugin.unload_if_drained(&replace(&theirs)));
        run(&slot).expect("live");
        join(publisher);
    });
}

/// The same by the cold path, on a record that the publisher may not know yet.
///
/// Mutations: no `light` in `Symmetric`; a record that is pushed, or a list that
/// is read, with Relaxed.
#[test]
fn the_first_call_of_a_thread_is_seen_or_finds_the_new_version() {
    model("first call", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        let theirs = Arc::clone(&slot);
        let caller = spawn(move || run(&theirs).expect("live"));
        plugin.unload_if_drained(&replace(&slot));
        join(caller);
    });
}

/// A hazard that is overwritten says as much as one that is empty.
///
/// Mutation: a Relaxed store of the hazard in `protect`.
#[test]
fn a_call_on_the_new_version_hides_none_on_the_old() {
    model("overwritten hazard", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        run(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let publisher = spawn(move || plugin.unload_if_drained(&replace(&theirs)));
        run(&slot).expect("live");
        run(&slot).expect("live");
        join(publisher);
    });
}

/// Mutations: a nested call that overwrites the hazard of its caller; a walk
/// that stops after the first frame.
#[test]
fn a_nested_call_keeps_both_versions_that_it_is_in() {
    model("nesting", None, || {
        let (outer, inner) = (Plugin::new(0), Plugin::new(0));
        let (slot, nested) = (outer.slot(), inner.slot());
        let call = |slot: &Slot<Plugin>, nested: &Slot<Plugin>| {
            let both = slot.enter(|call| {
                let below = run(nested);
                call.payload().run();
                below
            });
            // By now either may have been withdrawn.
            assert!(matches!(both, Ok(Ok(()) | Err(Refused::NotActive)) | Err(Refused::NotActive)));
        };
        call(&slot, &nested);
        let theirs = (Arc::clone(&slot), Arc::clone(&nested));
        let publisher = spawn(move || {
            outer.unload_if_drained(&theirs.0.withdraw().expect("live"));
            inner.unload_if_drained(&theirs.1.withdraw().expect("live"));
        });
        call(&slot, &nested);
        join(publisher);
    });
}

/// A version in an arm is published there, so it leaves by the arm.
///
/// Mutation: a table that is not cleared.
#[test]
fn a_version_that_leaves_a_split_is_in_no_call() {
    for leaves in [Arm::Challenger, Arm::Baseline] {
        model("split", None, move || {
            let (baseline, challenger) = (Plugin::new(0), Plugin::new(0));
            let slot = baseline.slot();
            slot.split(challenger.version(), Share::NONE, 0).expect("live");
            let call = |arm| slot.enter_routed(Route::Arm(arm), |call| call.payload().run());
            call(Arm::Baseline).expect("live");
            call(Arm::Challenger).expect("live");
            let theirs = Arc::clone(&slot);
            let publisher = spawn(move || match leaves {
                Arm::Challenger => challenger.unload_if_drained(&theirs.roll_back().expect("split")),
                Arm::Baseline => baseline.unload_if_drained(&theirs.promote().expect("split")),
            });
            call(leaves).expect("live");
            join(publisher);
        });
    }
}

/// The barrier is issued once, by one of those who look.
///
/// Mutation: a Relaxed flag in `HeavyOnce`.
#[test]
fn a_barrier_serves_every_thread_that_finds_it_issued() {
    model("shared barrier", Some(3), || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        run(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let publisher = spawn(move || {
            let retired = Arc::new(replace(&theirs));
            let hint = Hint::new();
            let (other, hinted) = (Arc::clone(&retired), hint.clone());
            let settling = spawn(move || {
                other.settle();
                hinted.written();
            });
            hint.about_to_read();
            plugin.unload_if_drained(&retired);
            join(settling);
        });
        run(&slot).expect("live");
        join(publisher);
    });
}
