//! A value of JSON or YAML. Every map refuses a duplicate key, no list passes for a map, and
//! integers, other numbers and text stay apart, as they do in the engines.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Longest piece of a file that an error message repeats, in characters.
const QUOTE_MAX: usize = 80;

/// A key of a map. YAML has integer keys, and an engine that looks for `3` does not find `"3"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A plain number.
    Int(i64),
    /// Text; every key in JSON.
    Text(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&one_line(text)),
        }
    }
}

/// A value of either format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// A map without duplicate keys.
    Map(BTreeMap<Key, Node>),
    /// A list of integers, or an empty one: apart from [`Node::List`] because plans consist of it.
    Ints(Vec<i64>),
    /// A list that holds something else.
    List(Vec<Node>),
    /// An integer.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// Nothing.
    Null,
}

impl Node {
    /// What an error says was found.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Map(_) => "a map".to_owned(),
            Self::Ints(_) | Self::List(_) => "a list".to_owned(),
            Self::Int(number) => number.to_string(),
            // As a float, so that 2.0 does not look like the integer that was asked for.
            Self::Float(number) => format!("{number:?}"),
            Self::Text(text) => format!("text \"{}\"", one_line(text)),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_owned(),
        }
    }
}

/// Text from a file, fit for one line of an error message.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(QUOTE_MAX)
        .flat_map(|char| {
            let escape = char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
            let plain = (!escape).then_some(char);
            plain.into_iter().chain(escape.then(|| char.escape_default()).into_iter().flatten())
        })
        .collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        line.push_str("...");
    }
    line
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list, a number, text, true, false or null")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut ints = Vec::new();
        while let Some(node) = items.next_element()? {
            if let Node::Int(number) = node
                && let Ok(number) = i64::try_from(number)
            {
                ints.push(number);
                continue;
            }
            let mut list: Vec<Node> =
                ints.into_iter().map(|number| Node::Int(number.into())).collect();
            list.push(node);
            while let Some(node) = items.next_element()? {
                list.push(node);
            }
            return Ok(Node::List(list));
        }
        Ok(Node::Ints(ints))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<Key>()? {
            let value = entries.next_value()?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key `{key}`")));
            }
            map.insert(key, value);
        }
        Ok(Node::Map(map))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text or an integer")
    }
    fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
        Ok(Key::Int(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Key, E> {
        i64::try_from(value)
            .map(Key::Int)
            .map_err(|_| E::custom(format!("key {value} is too large")))
    }
    fn visit_str<E>(self, value: &str) -> Result<Key, E> {
        Ok(Key::Text(value.to_owned()))
    }
}
