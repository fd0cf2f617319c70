//! Those who call, one way each, and the one who only looks.

use crate::cast::Cast;
use replug_host::{CallError, CallFuture, CallOptions, Reply, dispatch::Refused};
use replug_tests::dice::Dice;
use serde_json::json;
use std::{
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// The deepest descent: every other step is two calls, which is within the
/// core's bound.
pub(crate) const DEPTH_MAX: u64 = 16;
const TEXT: &[u8] = b"A *short* text.";

pub(crate) fn descend(cast: &Cast, dice: &mut Dice) -> Result<(), CallError> {
    let depth = dice.below(DEPTH_MAX + 1).to_string();
    let options = CallOptions::default().sticky_key(dice.below(64).to_string());
    let reply = if dice.below(2) == 0 {
        cast.hostile.call_with("descend", depth.as_bytes(), &options)
    } else {
        cast.threads.call_with("nested", &on_hostile("descend", &depth), &options)
    };
    reply?;
    cast.counts.added.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

pub(crate) fn call_flat(cast: &Cast, dice: &mut Dice) -> Result<(), CallError> {
    match dice.below(8) {
        0 => cast.threads.call("slow", br#"{"ms": 2}"#).map(drop),
        1 => cast.threads.enter(|entered| entered.payload().id().version.major).map(drop),
        2 => {
            let lease = cast.threads.lease("the soak")?;
            descend(cast, dice)?;
            drop(lease);
            Ok(())
        }
        3 | 4 => match cast.markdown.call("render", TEXT) {
            Err(CallError::Refused { source: Refused::NotActive, .. }) => {
                cast.counts.out.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            other => other.map(drop),
        },
        _ => cast.threads.call("churn", b"someone@example.org").map(drop),
    }
}

pub(crate) fn be_born(cast: &Cast, dice: &mut Dice) -> Result<(), CallError> {
    let life = || {
        cast.counts.born.fetch_add(1, Ordering::Relaxed);
        (0..=dice.below(4)).try_for_each(|_| match dice.below(3) {
            0 => descend(cast, dice),
            _ => call_flat(cast, dice),
        })
    };
    thread::scope(|scope| scope.spawn(life).join().expect("it does not panic"))
}

pub(crate) fn call_async(cast: &Cast, dice: &mut Dice) -> Result<(), CallError> {
    let mut options = CallOptions::default().caller("the soak");
    let (method, body) = match dice.below(8) {
        0 => ("relay", on_hostile("count", "")),
        // Async, then nested in circles on the plugin's own thread.
        1 => ("relay", on_hostile("descend", "3")),
        2 => ("echo", TEXT.to_vec()),
        3 => {
            options = options.timeout(Duration::from_millis(1));
            ("sleep", br#"{"ms": 2}"#.to_vec())
        }
        _ => ("sleep", format!(r#"{{"ms": {}}}"#, dice.below(4)).into_bytes()),
    };
    let adds = body == on_hostile("descend", "3");
    let mut call = Box::pin(cast.threads.call_async(method, &body, options));
    let counts = &cast.counts;
    match poll_for(call.as_mut(), Duration::from_micros(dice.below(4_000))) {
        Some(Ok(_)) => {
            counts.added.fetch_add(u64::from(adds), Ordering::Relaxed);
        }
        Some(Err(CallError::Deadline { .. })) => {
            counts.late.fetch_add(1, Ordering::Relaxed);
        }
        Some(Err(error)) => return Err(error),
        None => {
            counts.given_up.fetch_add(1, Ordering::Relaxed);
            counts.unsure.fetch_add(u64::from(adds), Ordering::Relaxed);
            if dice.below(2) == 0 {
                counts.given_up_elsewhere.fetch_add(1, Ordering::Relaxed);
                let of_another = cast.left.lock().unwrap_or_else(PoisonError::into_inner).replace(call);
                drop(of_another);
            }
        }
    }
    Ok(())
}

fn on_hostile(method: &str, body: &str) -> Vec<u8> {
    json!({ "plugin": "hostile", "method": method, "body": body }).to_string().into_bytes()
}

/// Polls a call on this thread until it is answered or the time is over.
fn poll_for(mut call: Pin<&mut CallFuture>, time: Duration) -> Option<Result<Reply, CallError>> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let until = Instant::now() + time;
    loop {
        if let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(result);
        }
        match until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return None,
            left => thread::park_timeout(left),
        }
    }
}

pub(crate) fn read_status(cast: &Cast, _: &mut Dice) -> Result<(), CallError> {
    let status = cast.host.status();
    // All of it is looked at, the names of versions on their way out too.
    let text = serde_json::to_string(&status).expect("it is data");
    assert!(text.contains("threads@"), "{text}");
    cast.threads.version()?;
    assert!(cast.hostile.counters().errors == 0, "{text}");
    cast.counts.status.fetch_add(1, Ordering::Relaxed);
    // sleep: an operator's tool, which leaves the cores to callers.
    thread::sleep(Duration::from_micros(500));
    Ok(())
}
