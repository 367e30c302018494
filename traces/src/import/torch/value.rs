//! What a pickle holds: values in one arena that refer to each other by index, so that shared and
//! cyclic structures cost nothing and nothing is walked recursively.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::text::short;
pub(in crate::import) use super::tensor::Tensor;
use super::tensor::{DataType, Storage};
use crate::error::{Error, Result};

/// A value of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref(pub(super) u32);

/// A key of a dict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::import) enum Key {
    Int(i64),
    Text(Rc<str>),
}

impl Key {
    /// The key as errors name it.
    pub(in crate::import) fn found(&self) -> String {
        match self {
            Self::Int(value) => format!("key {value}"),
            Self::Text(text) => format!("key `{}`", short(text)),
        }
    }
}

/// The only globals that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    StorageType(DataType),
}

/// One value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Vec<Ref>),
    Tuple(Vec<Ref>),
    Dict(BTreeMap<Key, Ref>),
    Global(Global),
    /// Boxed, so that the many ints of a recording are small.
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
}

impl Value {
    /// The value in words, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(value) => format!("the bool {value}"),
            Self::Int(value) => format!("the int {value}"),
            Self::Float(value) => format!("the float {value}"),
            Self::Text(_) => "a string".to_owned(),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Tuple(items) => format!("a tuple of {}", items.len()),
            Self::Dict(items) => format!("a dict of {}", items.len()),
            Self::Global(_) => "a type".to_owned(),
            Self::Storage(_) => "a storage".to_owned(),
            Self::Tensor(tensor) => format!("a tensor of shape {:?}", tensor.shape),
        }
    }
}

/// All values of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) path: String,
    pub(super) values: Vec<Value>,
    pub(super) root: Ref,
}

impl Pickle {
    /// A pickle that holds None.
    pub(super) fn none(path: &str) -> Self {
        Self { path: path.to_owned(), values: vec![Value::None], root: Ref(0) }
    }

    fn value(&self, at: Ref) -> &Value {
        &self.values[at.0 as usize]
    }

    pub(super) fn root(&self) -> Item<'_> {
        Item { pickle: self, value: self.value(self.root) }
    }

    /// Every tensor of the file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.values.iter().filter_map(|value| match value {
            Value::Tensor(tensor) => Some(&**tensor),
            _ => None,
        })
    }
}

/// A value together with the pickle that its parts live in. `place` says in errors where it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) struct Item<'a> {
    pickle: &'a Pickle,
    value: &'a Value,
}

impl<'a> Item<'a> {
    fn wrong<T>(self, place: &str, expected: &str) -> Result<T> {
        Err(Error::invalid(&self.pickle.path, place, self.value.describe(), expected))
    }

    fn item(self, at: Ref) -> Self {
        Self { value: self.pickle.value(at), ..self }
    }

    /// The entries of a dict, by key.
    pub(in crate::import) fn dict(self, place: &str) -> Result<BTreeMap<&'a Key, Self>> {
        match self.value {
            Value::Dict(map) => Ok(map.iter().map(|(key, &at)| (key, self.item(at))).collect()),
            _ => self.wrong(place, "a dict"),
        }
    }

    /// Whether this is None.
    pub(in crate::import) fn is_none(self) -> bool {
        matches!(self.value, Value::None)
    }

    /// The items of a list.
    pub(in crate::import) fn list(self, place: &str) -> Result<impl Iterator<Item = Self>> {
        match self.value {
            Value::List(items) => Ok(items.iter().map(move |&at| self.item(at))),
            _ => self.wrong(place, "a list"),
        }
    }

    /// An int from 0 to 2^63 - 1.
    pub(in crate::import) fn count(self, place: &str) -> Result<u64> {
        match self.value {
            Value::Int(value) if *value >= 0 => Ok(value.cast_unsigned()),
            _ => self.wrong(place, "an int from 0"),
        }
    }

    /// A string.
    pub(in crate::import) fn text(self, place: &str) -> Result<&'a str> {
        match self.value {
            Value::Text(text) => Ok(text),
            _ => self.wrong(place, "a string"),
        }
    }

    /// A float, an int or None.
    pub(in crate::import) fn check_number_or_none(self, place: &str) -> Result<()> {
        match self.value {
            Value::None | Value::Int(_) | Value::Float(_) => Ok(()),
            _ => self.wrong(place, "a number or None"),
        }
    }

    /// A tensor.
    pub(in crate::import) fn tensor(self, place: &str) -> Result<&'a Tensor> {
        match self.value {
            Value::Tensor(tensor) => Ok(tensor),
            _ => self.wrong(place, "a tensor"),
        }
    }
}
