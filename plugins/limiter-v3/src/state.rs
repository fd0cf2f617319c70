//! The state of this version, schema 3, and of the two before.
//!
//! Schema 2 renamed a field: `tokens` became `level`. Schema 3 splits one: the
//! key became a tenant and a client. The chain is walked a step at a time, so
//! that a plugin of 1.0.0 can be followed by this one directly, and this one by
//! it.

use crate::client::Client;
use limiter_core::{Bucket, Entries};
use replug_plugin_api::state::{State, StateError, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 1)]
pub(crate) struct V1 {
    buckets: BTreeMap<String, BucketV1>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BucketV1 {
    tokens: f64,
    taken: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 2, previous = V1)]
pub(crate) struct V2 {
    buckets: Entries<BucketV2>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BucketV2 {
    level: f64,
    taken: u64,
}

impl Step<V1> for V2 {
    fn up(old: V1) -> Result<Self, StateError> {
        let buckets = old.buckets.into_iter().map(|(key, bucket)| {
            let BucketV1 { tokens, taken } = bucket;
            let level = tokens;
            (key, BucketV2 { level, taken })
        });
        Ok(V2 { buckets: buckets.collect() })
    }

    fn down(self) -> Result<V1, StateError> {
        let buckets = self.buckets.into_iter().map(|(key, bucket)| {
            let BucketV2 { level, taken } = bucket;
            let tokens = level;
            (key, BucketV1 { tokens, taken })
        });
        Ok(V1 { buckets: buckets.collect() })
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, State)]
#[state(version = 3, previous = V2)]
pub(crate) struct V3 {
    buckets: Vec<BucketV3>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BucketV3 {
    tenant: Option<String>,
    client: String,
    level: f64,
    taken: u64,
}

impl Step<V2> for V3 {
    fn up(old: V2) -> Result<Self, StateError> {
        let buckets = old.buckets.into_iter().map(|(key, BucketV2 { level, taken })| {
            BucketV3::new(Client::of_key(&key), Bucket { level, taken })
        });
        Ok(V3 { buckets: buckets.collect() })
    }

    fn down(self) -> Result<V2, StateError> {
        let buckets = self.buckets.into_iter().map(|bucket| {
            let (client, Bucket { level, taken }) = bucket.into_parts();
            (client.key(), BucketV2 { level, taken })
        });
        let buckets: Entries<BucketV2> = buckets.collect();
        // The list can say what the map cannot: one key twice. To keep either
        // would lose the takes of the other.
        let mut seen = HashSet::with_capacity(buckets.len());
        if let Some((key, _)) = buckets.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            return Err(StateError::new(format!("two buckets have the key {key:?}")));
        }
        Ok(V2 { buckets })
    }
}

impl BucketV3 {
    fn new(Client { tenant, name }: Client, Bucket { level, taken }: Bucket) -> Self {
        BucketV3 { tenant, client: name, level, taken }
    }

    fn into_parts(self) -> (Client, Bucket) {
        let BucketV3 { tenant, client: name, level, taken } = self;
        (Client { tenant, name }, Bucket { level, taken })
    }
}

impl From<Vec<(Client, Bucket)>> for V3 {
    fn from(buckets: Vec<(Client, Bucket)>) -> Self {
        let buckets = buckets.into_iter().map(|(client, bucket)| BucketV3::new(client, bucket));
        V3 { buckets: buckets.collect() }
    }
}

impl TryFrom<V3> for Vec<(Client, Bucket)> {
    type Error = StateError;

    fn try_from(state: V3) -> Result<Self, StateError> {
        let buckets = state.buckets.into_iter().map(|bucket| {
            let (client, bucket) = bucket.into_parts();
            if !bucket.level.is_finite() {
                let message = format!("{:?} has the level {}", client.key(), bucket.level);
                return Err(StateError::new(message));
            }
            Ok((client, bucket))
        });
        buckets.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use replug_plugin_api::testing;

    fn first() -> V1 {
        let bucket = |tokens, taken| BucketV1 { tokens, taken };
        V1 {
            buckets: BTreeMap::from([
                ("ada".to_owned(), bucket(0.1, u64::MAX)),
                ("acme/ada".to_owned(), bucket(3.0, 2)),
                ("/".to_owned(), bucket(0.0, 1)),
            ]),
        }
    }

    #[test]
    fn the_whole_chain_goes_up_and_down_without_loss() {
        let newest: V3 = testing::upgrade(&first()).expect("goes up");
        let acme = newest.buckets.iter().find(|bucket| bucket.taken == 2);
        let acme = acme.expect("the bucket is there");
        assert_eq!(acme.tenant.as_deref(), Some("acme"));
        assert_eq!((acme.client.as_str(), acme.level), ("ada", 3.0));
        assert_eq!(testing::downgrade::<V3, V1>(&newest).expect("goes down"), first());
    }

    /// Buckets by key; keys that have a tenant and keys that have none.
    fn buckets() -> impl Strategy<Value = BTreeMap<String, Bucket>> {
        let level = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        let bucket = (level, any::<u64>()).prop_map(|(level, taken)| Bucket { level, taken });
        prop::collection::btree_map("[ab/]{0,4}|\\PC*", bucket, 0..8)
    }

    proptest! {
        #[test]
        fn any_state_of_any_version_comes_back_as_it_was(buckets in buckets()) {
            let tokens = |Bucket { level: tokens, taken }| BucketV1 { tokens, taken };
            let first = buckets.iter().map(|(key, bucket)| (key.clone(), tokens(*bucket))).collect();
            testing::assert_round_trip::<V1, V3>(&V1 { buckets: first });
            let level = |Bucket { level, taken }| BucketV2 { level, taken };
            let second = buckets.iter().map(|(key, bucket)| (key.clone(), level(*bucket))).collect();
            let second = V2 { buckets: second };
            testing::assert_round_trip::<V2, V1>(&second);
            testing::assert_round_trip::<V2, V3>(&second);
            let third = buckets.iter().map(|(key, bucket)| (Client::of_key(key), *bucket));
            testing::assert_round_trip::<V3, V1>(&V3::from(third.collect::<Vec<_>>()));
        }
    }

    #[test]
    fn the_bytes_that_are_out_there_stay_what_they_are_and_arrive() {
        let newest: V3 = testing::upgrade(&first()).expect("goes up");
        testing::assert_golden("tests/golden/buckets-v3.hex", &newest);
        for (schema, file) in [
            (1, "../limiter-v1/tests/golden/buckets-v1.hex"),
            (2, "../limiter-v2/tests/golden/buckets-v2.hex"),
        ] {
            let old: V3 = testing::upgrade_bytes(schema, &testing::golden(file)).expect("goes up");
            let ada = old.buckets.iter().find(|bucket| bucket.client == "ada" && bucket.tenant.is_none());
            assert_eq!(ada.map(|bucket| (bucket.level, bucket.taken)), Some((0.1, u64::MAX)));
        }
    }

    #[test]
    fn one_key_twice_does_not_go_down() {
        let bucket = |taken| Bucket { level: 1.0, taken };
        let client = || Client::of_key("ada");
        let state = V3::from(vec![(client(), bucket(1)), (client(), bucket(2))]);
        assert!(state.down().is_err());
    }

    #[test]
    fn a_level_that_is_no_number_is_refused() {
        let bucket = Bucket { level: f64::NAN, taken: 1 };
        let state = V3::from(vec![(Client::of_key("ada"), bucket)]);
        assert!(Vec::try_from(state).is_err());
    }
}
