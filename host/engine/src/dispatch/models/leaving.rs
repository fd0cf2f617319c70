//! Models of what follows the drain: leases, threads that detach or end,
//! counters.

use super::*;

/// Mutations: leases read before hazards; a hazard that is cleared before the
/// lease is counted, or with Relaxed; Relaxed when a lease is dropped or read.
#[test]
fn a_lease_or_the_call_that_takes_it_is_seen() {
    model("lease", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        run(&slot).expect("live");
        let theirs = Arc::clone(&slot);
        let publisher = spawn(move || plugin.unload_if_drained(&theirs.withdraw().expect("live")));
        if let Ok(lease) = slot.lease(Holder::new("model", 0)) {
            lease.run();
        }
        join(publisher);
    });
}

/// A thread's counts are plain stores of its own; the drain orders them all.
///
/// Mutation: a Relaxed store when the frame is dropped.
#[test]
fn a_drained_version_has_every_call_in_its_counters() {
    model("counters", None, || {
        let slot = Plugin::new(0).slot();
        slot.enter(|call| call.fail()).expect("live");
        let theirs = Arc::clone(&slot);
        let publisher = spawn(move || {
            let retired = theirs.withdraw().expect("live");
            retired.is_drained().then(|| retired.counters())
        });
        let second = u64::from(slot.enter(|call| call.fail()).is_ok());
        if let Some(counters) = join(publisher) {
            assert_eq!(counters, Counters { calls: 1 + second, errors: 1 + second });
        }
    });
}

/// A thread that ends moves its counts to the version while others add up.
///
/// Mutation: adding up without the lock.
#[test]
fn counts_are_neither_lost_nor_doubled_while_a_thread_ends() {
    model("counts of a thread that ends", None, || {
        let slot = Plugin::new(0).slot();
        let theirs = Arc::clone(&slot);
        let caller = spawn(move || u64::from(run(&theirs).is_ok()));
        let retired = slot.withdraw().expect("live");
        let seen = retired.is_drained().then(|| retired.counters().calls);
        let calls = join(caller);
        assert!(seen.is_none_or(|seen| seen == calls), "{seen:?} of {calls}");
        assert_eq!(retired.counters().calls, calls);
    });
}

/// Detaching belongs to the thread, abandoning to whoever unloads: one of them
/// gets it, and the other waits or has nothing to do.
///
/// Mutations: a claim by a load and a store; a thread that calls unattached.
#[test]
fn a_thread_that_ends_detaches_or_is_abandoned_and_never_both() {
    model("end of a thread", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        let theirs = Arc::clone(&slot);
        let caller = spawn(move || u64::from(run(&theirs).is_ok()));
        let Ok(drained) = slot.withdraw().expect("live").try_drained() else {
            join(caller);
            return;
        };
        let abandoned = drained.abandon() as u64;
        let (finished, calls) = match drained.finish() {
            Ok(finished) => {
                plugin.0.locals.unload();
                (finished, join(caller))
            }
            Err(attached) => {
                let calls = join(caller);
                (attached.finish().expect("its thread has ended"), calls)
            }
        };
        assert_eq!((finished.counters.calls, finished.destructors + abandoned), (calls, calls));
    });
}

/// Whoever is kicked finds what it was kicked for.
///
/// Mutations: Relaxed in `kick` and `settle`; `table` changed after looking for
/// versions instead of before; Relaxed when an entry is given back, or when others
/// look at it.
#[test]
fn a_thread_that_passes_by_after_a_kick_detaches() {
    model("kick", None, || {
        let plugin = Plugin::new(0);
        let slot = plugin.slot();
        run(&slot).expect("live");
        let hint = Hint::new();
        let (theirs, hinted) = (Arc::clone(&slot), hint.clone());
        let publisher = spawn(move || {
            let drained = theirs.withdraw().expect("live").try_drained().expect("nobody calls");
            drained.detach_threads();
            hinted.about_to_read();
            if drained.detach_threads() == 0 {
                plugin.0.locals.unload();
            }
            drained.finish().err()
        });
        pass_by();
        hint.written();
        if let Some(attached) = join(publisher) {
            pass_by();
            assert_eq!(attached.finish().expect("it was kicked").destructors, 1);
        }
    });
}

/// A kick that meets a call is in force when that call has ended: the next one comes
/// by the cold path.
///
/// Mutation: a call at the bottom that counts in `own`, whatever `table` says.
#[test]
fn a_kick_that_meets_a_call_is_not_lost() {
    model("kick of a thread in a call", None, || {
        let (left, called) = (Plugin::new(0).slot(), Plugin::new(0).slot());
        run(&left).expect("live");
        run(&called).expect("live");
        let publisher = spawn(move || {
            let drained = left.withdraw().expect("live").try_drained().expect("nobody calls");
            drained.detach_threads();
            drained
        });
        run(&called).expect("live");
        let drained = join(publisher);
        run(&called).expect("live");
        assert_eq!(drained.finish().expect("it was kicked").destructors, 1);
    });
}

/// The next thread takes the record over as its last one left it.
///
/// Mutations: Relaxed when the record is given back, or when it is taken.
#[test]
fn a_record_changes_threads_only_when_the_last_one_is_done_with_it() {
    model("record", Some(3), || {
        let slot = Plugin::new(0).slot();
        let threads = [(); 2].map(|()| {
            let theirs = Arc::clone(&slot);
            // Its own frame at least; none if it began at a wrong depth.
            let looks = move || theirs.enter(|_| assert!(theirs.in_flight().stack > 0));
            spawn(move || looks().expect("live"))
        });
        threads.into_iter().for_each(join);
        let drained = slot.withdraw().expect("live").try_drained().expect("all returned");
        let finished = drained.finish().expect("all ended");
        assert_eq!((finished.counters.calls, finished.destructors), (2, 2));
    });
}
