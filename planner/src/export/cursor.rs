//! A place in a file that is being read: takes a [`Node`] apart and names the key in every error.

use std::collections::BTreeMap;

use moecast_profiles::ids::ExpertId;
use moecast_profiles::registry::nearest;

use super::node::{Key, Node};
use crate::error::{Error, Result};

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct At<'a> {
    file: &'a str,
    key: String,
    node: Node,
}

/// The experts of one layer (or device) and the place that an error about them names.
#[derive(Debug)]
pub(crate) struct Row {
    /// Place in the file.
    pub(crate) place: String,
    /// Logical expert of every slot.
    pub(crate) experts: Vec<ExpertId>,
}

impl<'a> At<'a> {
    /// The top of a file.
    pub(crate) fn root(file: &'a str, node: Node) -> Self {
        Self { file, key: String::new(), node }
    }

    /// The value.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The place as errors name it.
    pub(crate) fn place(&self) -> String {
        match &*self.key {
            "" => "the file".to_owned(),
            key => format!("key `{key}`"),
        }
    }

    /// An error about this place.
    pub(crate) fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::invalid(self.file, self.place(), found, expected)
    }

    fn refuse(&self, expected: impl Into<String>) -> Error {
        self.error(self.node.describe(), expected)
    }

    fn child(&self, key: impl std::fmt::Display, node: Node) -> Self {
        let key = if self.key.is_empty() { key.to_string() } else { format!("{}.{key}", self.key) };
        Self { file: self.file, key, node }
    }

    fn item(&self, index: usize, node: Node) -> Self {
        Self { file: self.file, key: format!("{}[{index}]", self.key), node }
    }

    fn take_map(&mut self, expected: impl Into<String>) -> Result<BTreeMap<Key, Node>> {
        match std::mem::replace(&mut self.node, Node::Null) {
            Node::Map(map) => Ok(map),
            other => Err(self.error(other.describe(), expected)),
        }
    }

    /// The integer under `name`, if this is a map that has one: what a version check looks at
    /// before it asks for anything else.
    pub(crate) fn peek_int(&self, name: &str) -> Option<i128> {
        let Node::Map(map) = &self.node else { return None };
        match map.get(&Key::Text(name.to_owned())) {
            Some(Node::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The values under `names`, which must be exactly the keys of this map.
    pub(crate) fn fields<const N: usize>(mut self, names: [&str; N]) -> Result<[Self; N]> {
        let all = || names.map(|name| format!("`{name}`")).join(", ");
        let mut map = self.take_map(format!("a map with {}", all()))?;
        let foreign = map.keys().find(|key| match key {
            Key::Text(text) => !names.contains(&text.as_str()),
            Key::Int(_) => true,
        });
        if let Some(foreign) = foreign {
            let shown = foreign.to_string();
            let expected = nearest(&shown, &names).map_or_else(
                || format!("no keys but {}", all()),
                |name| format!("`{name}`, or no such key"),
            );
            return Err(self.error(format!("unknown key `{shown}`"), expected));
        }
        if let Some(missing) = names.iter().find(|name| !map.contains_key(&text_key(name))) {
            return Err(self.error(format!("no key `{missing}`"), format!("a map with {}", all())));
        }
        Ok(names.map(|name| {
            let node = map.remove(&text_key(name)).expect("every name was found above");
            self.child(name, node)
        }))
    }

    /// The values under `keys`, in that order, which must be exactly the keys of this map.
    /// `what` says what the keys are.
    pub(crate) fn entries(mut self, keys: &[Key], what: &str) -> Result<Vec<Self>> {
        let mut map = self.take_map(format!("a map from {what} to lists of expert ids"))?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let node = map.remove(key).ok_or_else(|| {
                let found = match key {
                    Key::Int(number) => format!("no key {number}"),
                    Key::Text(text) => format!("no key \"{text}\""),
                };
                self.error(found, format!("{what} as keys: {}", shown_keys(keys)))
            })?;
            values.push(self.child(key, node));
        }
        match map.first_key_value() {
            None => Ok(values),
            Some((foreign, _)) => {
                let expected = format!("no keys but {what}: {}", shown_keys(keys));
                Err(self.error(format!("unknown key `{foreign}`"), expected))
            }
        }
    }

    /// The name and value of every entry of this map, by name.
    pub(crate) fn named(mut self) -> Result<Vec<(String, Self)>> {
        let map = self.take_map("a map")?;
        map.into_iter()
            .map(|(key, node)| {
                let at = self.child(&key, node);
                match key {
                    Key::Text(name) => Ok((name, at)),
                    Key::Int(_) => Err(at.error("a key that is a number", "a name")),
                }
            })
            .collect()
    }

    /// The values of this list; `what` says what they are.
    pub(crate) fn items(mut self, what: &str) -> Result<Vec<Self>> {
        let nodes = match std::mem::replace(&mut self.node, Node::Null) {
            Node::List(nodes) => nodes,
            Node::Ints(ints) => ints.into_iter().map(|number| Node::Int(number.into())).collect(),
            other => return Err(self.error(other.describe(), format!("a list of {what}"))),
        };
        Ok(nodes.into_iter().enumerate().map(|(index, node)| self.item(index, node)).collect())
    }

    /// The integers of this list, each at least 0 and below `limit`; `what` names one of them.
    pub(crate) fn numbers(self, limit: u32, what: &str) -> Result<Vec<u16>> {
        let expected = || format!("{what} below {limit}");
        let ints = match &self.node {
            Node::Ints(ints) => ints,
            Node::List(nodes) => {
                let odd = nodes.iter().position(|node| match node {
                    Node::Int(number) => i64::try_from(*number).is_err(),
                    _ => true,
                });
                let index = odd.expect("a list of integers is Ints");
                return Err(self.item(index, nodes[index].clone()).refuse(expected()));
            }
            _ => return Err(self.refuse(format!("a list, each {}", expected()))),
        };
        let checked = |(index, number): (usize, &i64)| {
            u16::try_from(*number)
                .ok()
                .filter(|id| u32::from(*id) < limit)
                .ok_or_else(|| self.item(index, Node::Int((*number).into())).refuse(expected()))
        };
        ints.iter().enumerate().map(checked).collect()
    }

    /// The expert ids of this list, each below `experts`.
    pub(crate) fn row(self, experts: u16) -> Result<Row> {
        let place = self.place();
        let ids = self.numbers(experts.into(), "an expert id")?;
        Ok(Row { place, experts: ids.into_iter().map(ExpertId).collect() })
    }

    /// This integer, in the range of `T`; `what` says what it is.
    pub(crate) fn number<T: TryFrom<i128>>(&self, what: &str) -> Result<T> {
        match self.node {
            Node::Int(number) => T::try_from(number).map_err(|_| self.refuse(what)),
            _ => Err(self.refuse(what)),
        }
    }

    /// `None` for null, otherwise what `read` makes of this.
    pub(crate) fn optional<T>(self, read: impl FnOnce(Self) -> Result<T>) -> Result<Option<T>> {
        if self.node == Node::Null { Ok(None) } else { read(self).map(Some) }
    }

    /// This number.
    pub(crate) fn float(self) -> Result<f64> {
        match self.node {
            Node::Float(number) => Ok(number),
            #[expect(clippy::cast_precision_loss, reason = "figures are f64 to begin with")]
            Node::Int(number) => Ok(number as f64),
            _ => Err(self.refuse("a number")),
        }
    }

    /// True or false.
    pub(crate) fn bool(self) -> Result<bool> {
        match self.node {
            Node::Bool(value) => Ok(value),
            _ => Err(self.refuse("true or false")),
        }
    }

    /// This text.
    pub(crate) fn text(self) -> Result<String> {
        match self.node {
            Node::Text(text) => Ok(text),
            _ => Err(self.refuse("text")),
        }
    }

    /// Checks that this is the integer `wanted`; `why` says what it must agree with.
    pub(crate) fn expect_number(&self, wanted: u64, why: &str) -> Result<()> {
        if matches!(self.node, Node::Int(number) if number == i128::from(wanted)) {
            return Ok(());
        }
        Err(self.refuse(format!("{wanted}{why}")))
    }
}

fn text_key(name: &str) -> Key {
    Key::Text(name.to_owned())
}

/// The keys that a map must have, shortened in the middle.
fn shown_keys(keys: &[Key]) -> String {
    let shown = |keys: &[Key]| keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ");
    match keys {
        [first, .., last] if keys.len() > 6 => format!("{first} to {last} ({} keys)", keys.len()),
        _ => shown(keys),
    }
}
