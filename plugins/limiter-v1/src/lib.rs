//! The sample plugin `limiter`, version 1.0.0: token buckets by client key.
//!
//! Its state (schema 1, `state.rs`) is handed to the next version as a whole:
//! no take is lost or counted twice. It keeps nothing on disk and has no
//! threads of its own.
//!
//! # Methods
//!
//! | method | body | answer |
//! |---|---|---|
//! | `take` | `{"key": "ada", "cost": 1}`; `cost` may be left out | `{"allowed": true, "remaining": 99.0, "taken_total": 1}` |
//! | `count` | a key as text | takes of the key that were allowed, ever, as decimal text |
//! | `total` | ignored | the same of all keys |
//! | `stats` | ignored | `{"version": "1.0.0", "keys": 1, "taken": 1}` |
//!
//! # Configuration
//!
//! | key | default | says |
//! |---|---|---|
//! | `capacity` | 100 | tokens in a full bucket |
//! | `refill_per_s` | 10 | tokens per second; 0 for buckets that never fill again |
//! | `keys_max` | 1000000 | how many keys are accepted |

#![deny(unsafe_code)]

mod state;

use limiter_core::{Buckets, Full, Rate};
use replug_plugin_api::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;

struct Limiter {
    buckets: Buckets<String>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    capacity: f64,
    refill_per_s: f64,
    keys_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { capacity: 100.0, refill_per_s: 10.0, keys_max: 1_000_000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    key: String,
    #[serde(default = "one")]
    cost: f64,
}

#[derive(Serialize)]
struct TakeAnswer {
    allowed: bool,
    remaining: f64,
    taken_total: u64,
}

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    keys: u64,
    taken: u64,
}

impl Plugin for Limiter {
    type Config = Config;

    fn prepare(config: Config, _: &Context) -> Result<Self> {
        Limiter::new(config)
    }

    fn methods(methods: &mut Methods<Self>) {
        methods
            .method("take", "Takes tokens from a key's bucket", |limiter, call| {
                Reply::json(&limiter.take(call.json()?)?)
            })
            .method("count", "Takes of a key, ever", |limiter, call| {
                let key = call.text()?.to_owned();
                Ok(limiter.buckets.count(&key).to_string())
            })
            .method("total", "Takes of all keys, ever", |limiter, _| {
                Ok(limiter.buckets.totals().taken.to_string())
            })
            .method("stats", "Keys and takes", |limiter, call| {
                let totals = limiter.buckets.totals();
                Reply::json(&Stats {
                    version: call.context().version(),
                    keys: totals.keys,
                    taken: totals.taken,
                })
            });
    }
}

impl Snapshot for Limiter {
    type State = state::V1;

    fn export(&self) -> Result<state::V1> {
        Ok(self.buckets.copy().into())
    }

    fn restore(&mut self, state: state::V1) -> Result<()> {
        self.buckets.replace(Vec::try_from(state)?, Instant::now());
        Ok(())
    }
}

impl Limiter {
    fn new(config: Config) -> Result<Self> {
        let rate = Rate { capacity: config.capacity, refill_per_s: config.refill_per_s };
        rate.check().map_err(|reason| Error::new("config.invalid", reason))?;
        Ok(Limiter { buckets: Buckets::new(rate, config.keys_max) })
    }

    fn take(&self, Take { key, cost }: Take) -> Result<TakeAnswer> {
        // A negative cost would give tokens away.
        if !(cost.is_finite() && cost >= 0.0) {
            let message = format!("cost must be 0 or above, found {cost}");
            return Err(Error::new("limiter.bad_cost", message));
        }
        let taken = self
            .buckets
            .take(key, cost, Instant::now())
            .map_err(|Full| Error::new("limiter.full", "there are too many keys").retryable())?;
        Ok(TakeAnswer { allowed: taken.allowed, remaining: taken.remaining, taken_total: taken.taken })
    }
}

fn one() -> f64 {
    1.0
}

export!(Limiter, name = "limiter", version = "1.0.0", state = snapshot);

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(Config::default()).expect("the defaults are valid")
    }

    fn take(key: &str, cost: f64) -> Take {
        Take { key: key.into(), cost }
    }

    #[test]
    fn takes_are_counted_by_key_and_survive_a_hand_over() {
        let old = limiter();
        for key in ["ada", "ada", "bob"] {
            assert!(old.take(take(key, 1.0)).expect("take").allowed);
        }
        let mut new = limiter();
        new.restore(old.export().expect("export")).expect("restore");
        assert_eq!(new.buckets.count(&"ada".to_owned()), 2);
        assert_eq!(new.take(take("ada", 1.0)).expect("take").taken_total, 3);
    }

    #[test]
    fn a_negative_cost_is_refused() {
        let error = limiter().take(take("ada", -1.0)).err().expect("refused");
        assert_eq!(error.code(), "limiter.bad_cost");
    }
}
