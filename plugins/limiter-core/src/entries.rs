//! A map as a list: written as a map, carried as it comes.
//!
//! State is not searched, it is carried, with callers waiting for it. To sort a
//! million keys into a tree, for nobody, takes longer than all the rest.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use std::{fmt, marker::PhantomData, vec};

/// Entries of a map, in the order in which they were put in. Nothing checks that
/// no key stands twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries<V>(Vec<(String, V)>);

/// How many entries bytes may claim before they have shown any.
const CLAIMED_MAX: usize = 4096;

impl<V> Entries<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &(String, V)> {
        self.0.iter()
    }

    /// The value of a key, looked for from the beginning.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

impl<V> FromIterator<(String, V)> for Entries<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(entries: I) -> Self {
        Entries(entries.into_iter().collect())
    }
}

impl<V> IntoIterator for Entries<V> {
    type Item = (String, V);
    type IntoIter = vec::IntoIter<(String, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V: Serialize> Serialize for Entries<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AsMap(PhantomData))
    }
}

struct AsMap<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for AsMap<V> {
    type Value = Entries<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(CLAIMED_MAX));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}
