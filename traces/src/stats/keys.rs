//! Maps whose keys are numbers. JSON writes the keys as text; below a flattened field serde hands
//! that text on as it is, so the numbers must be read from it here.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};

fn number<E: Error>(key: &str) -> Result<u32, E> {
    key.parse().map_err(|_| E::custom(format!("key `{key}`; expected a whole number")))
}

/// A map from numbers.
pub(super) fn read<'de, D, V>(from: D) -> Result<BTreeMap<u32, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    let map: BTreeMap<String, V> = BTreeMap::deserialize(from)?;
    map.into_iter().map(|(key, value)| Ok((number(&key)?, value))).collect()
}

/// A map from numbers to maps from numbers.
pub(super) fn read_nested<'de, D, V>(from: D) -> Result<BTreeMap<u32, BTreeMap<u32, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    let map: BTreeMap<String, BTreeMap<String, V>> = BTreeMap::deserialize(from)?;
    map.into_iter()
        .map(|(key, inner)| {
            let inner = inner.into_iter().map(|(key, value)| Ok((number(&key)?, value)));
            Ok((number(&key)?, inner.collect::<Result<_, D::Error>>()?))
        })
        .collect()
}
