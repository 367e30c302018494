//! The restricted unpickler: protocol 2 as `torch.save` writes it, one opcode at a time, without
//! recursion. Each opcode makes at most one value, so memory is bounded by the bytes read.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::text::short;
use super::tensor::{DataType, Storage, Tensor};
use super::value::{Global, Key, Pickle, Ref, Value};
use crate::error::{Error, Result};

const ALLOWED: &str = "only tensors, lists, dicts, strings and numbers";

/// Reads `bytes`, the entry `data.pkl` of `path`.
pub(super) fn unpickle(path: &str, bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        path,
        bytes,
        at: 0,
        opcode_at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        integers: HashMap::new(),
    };
    loop {
        machine.opcode_at = machine.at;
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { path: path.to_owned(), values: machine.values, root });
        }
        machine.step(opcode)?;
    }
}

struct Machine<'a> {
    path: &'a str,
    bytes: &'a [u8],
    /// The next byte, and the opcode that is being carried out.
    at: usize,
    opcode_at: usize,
    values: Vec<Value>,
    stack: Vec<Ref>,
    /// Heights of the stack at every open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
    /// Every int once: the tokens and positions of a long recording are lists of few ints.
    integers: HashMap<i64, Ref>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.protocol(),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a => self.integer(opcode),
            b'G' => {
                let bits = u64::from_be_bytes(self.array()?);
                self.push(Value::Float(f64::from_bits(bits)))
            }
            b'X' => self.text(),
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Dict(std::collections::BTreeMap::new())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items))
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            b'q' | b'r' => self.remember(opcode),
            b'h' | b'j' => self.recall(opcode),
            b'c' => self.global(),
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            _ => Err(self.error(format!("opcode 0x{opcode:02x}"), "what torch.save writes")),
        }
    }

    fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::invalid(self.path, format!("data.pkl, byte {}", self.opcode_at), found, expected)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.error("the end of the pickle", format!("{count} more bytes")));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        let at = u32::try_from(self.values.len())
            .map_err(|_| self.error("more than 2^32 values", "a smaller pickle"))?;
        self.values.push(value);
        self.stack.push(Ref(at));
        Ok(())
    }

    /// The lowest value that may be popped: what an open mark protects stays.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Ref>> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        match start {
            Some(start) => Ok(self.stack.split_off(start)),
            None => Err(self.error("an empty stack", format!("{count} values on it"))),
        }
    }

    fn pop(&mut self) -> Result<Ref> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Ref>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.error("no mark on the stack", "a mark")),
        }
    }

    fn value(&self, at: Ref) -> &Value {
        &self.values[at.0 as usize]
    }

    /// The value on top of the stack, to add items to.
    fn top(&mut self) -> Result<&mut Value> {
        if self.stack.len() <= self.floor() {
            return Err(self.error("an empty stack", "a list or dict on it"));
        }
        let at = self.stack[self.stack.len() - 1];
        Ok(&mut self.values[at.0 as usize])
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2 => Ok(()),
            other => Err(self.error(format!("pickle protocol {other}"), "protocol 2")),
        }
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            _ => {
                let count = usize::from(self.byte()?);
                if count > 8 {
                    return Err(self.error(format!("an int of {count} bytes"), "at most 8 bytes"));
                }
                let bytes = self.take(count)?;
                let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..count].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        if let Some(&known) = self.integers.get(&value) {
            self.stack.push(known);
            return Ok(());
        }
        self.push(Value::Int(value))?;
        self.integers.insert(value, self.stack[self.stack.len() - 1]);
        Ok(())
    }

    fn text(&mut self) -> Result<()> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        let bytes = self.take(count)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => Err(self.error("a string that is not UTF-8", "UTF-8")),
        }
    }

    fn append(&mut self, mut items: Vec<Ref>) -> Result<()> {
        match self.top()? {
            Value::List(list) => list.append(&mut items),
            other => {
                let found = other.describe();
                return Err(self.error(found, "a list to append to"));
            }
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Ref]) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.error(format!("{} keys and values", items.len()), "pairs"));
        }
        for pair in items.chunks_exact(2) {
            let key = match self.value(pair[0]) {
                Value::Int(value) => Key::Int(*value),
                Value::Text(text) => Key::Text(Rc::clone(text)),
                other => return Err(self.error(other.describe(), "a string or int as key")),
            };
            let twice = match self.top()? {
                Value::Dict(map) => map.insert(key.clone(), pair[1]).is_some(),
                other => {
                    let found = other.describe();
                    return Err(self.error(found, "a dict to set items of"));
                }
            };
            if twice {
                return Err(self.error(format!("{} twice", key.found()), "each key once"));
            }
        }
        Ok(())
    }

    /// Keys of the memo are sparse on purpose: a huge index costs one entry, not a table.
    fn memo_key(&mut self, short: bool) -> Result<u32> {
        if short { Ok(u32::from(self.byte()?)) } else { Ok(u32::from_le_bytes(self.array()?)) }
    }

    fn remember(&mut self, opcode: u8) -> Result<()> {
        let key = self.memo_key(opcode == b'q')?;
        if self.stack.len() <= self.floor() {
            return Err(self.error("an empty stack", "a value to remember"));
        }
        self.memo.insert(key, self.stack[self.stack.len() - 1]);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<()> {
        let key = self.memo_key(opcode == b'h')?;
        match self.memo.get(&key) {
            Some(&value) => {
                self.stack.push(value);
                Ok(())
            }
            None => Err(self.error(format!("memo {key}"), "a memo that was set before")),
        }
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1000).position(|&byte| byte == b'\n');
        let text = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let Some(text) = text else {
            return Err(self.error("a global without a name", "a module and a name"));
        };
        self.at += text.len() + 1;
        Ok(text)
    }

    fn global(&mut self) -> Result<()> {
        let module = self.line()?;
        let name = self.line()?;
        let storage = (module == "torch").then(|| DataType::of_storage(name)).flatten();
        let global = match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            _ => match storage {
                Some(data_type) => Global::StorageType(data_type),
                None => {
                    let found = format!("the global `{}.{}`", short(module), short(name));
                    return Err(self.error(found, ALLOWED));
                }
            },
        };
        self.push(Value::Global(global))
    }

    /// A persistent id is the tuple `("storage", type, key, location, elements)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let expected = "(\"storage\", type, key, location, elements)";
        let Value::Tuple(items) = self.value(id) else {
            return Err(self.error(self.value(id).describe(), expected));
        };
        let fields: Vec<&Value> = items.iter().map(|&item| self.value(item)).collect();
        let storage = match fields.as_slice() {
            [
                Value::Text(kind),
                Value::Global(Global::StorageType(data_type)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(elements),
            ] if &**kind == "storage" && *elements >= 0 => Storage {
                key: Rc::clone(key),
                data_type: *data_type,
                elements: elements.cast_unsigned(),
            },
            _ => return Err(self.error("another persistent id", expected)),
        };
        self.push(Value::Storage(Box::new(storage)))
    }

    fn reduce(&mut self) -> Result<()> {
        let pair = self.pop_many(2)?;
        let (Value::Global(callable), Value::Tuple(arguments)) =
            (self.value(pair[0]), self.value(pair[1]))
        else {
            return Err(self.error("a call of something else", ALLOWED));
        };
        let value = match callable {
            Global::OrderedDict if arguments.is_empty() => Value::Dict(Default::default()),
            Global::RebuildTensor => Value::Tensor(Box::new(self.tensor(arguments)?)),
            _ => return Err(self.error("a call with arguments", ALLOWED)),
        };
        self.push(value)
    }

    /// `(storage, offset, shape, strides, requires_grad, hooks)`.
    fn tensor(&self, arguments: &[Ref]) -> Result<Tensor> {
        let fields: Vec<&Value> = arguments.iter().map(|&item| self.value(item)).collect();
        let [
            Value::Storage(storage),
            Value::Int(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            Value::Bool(_),
            Value::Dict(_),
        ] = fields.as_slice()
        else {
            let expected = "(storage, offset, shape, strides, requires_grad, hooks)";
            return Err(self.error("other tensor arguments", expected));
        };
        let integers = |items: &[Ref]| -> Option<Vec<i64>> {
            items
                .iter()
                .map(|&item| match self.value(item) {
                    Value::Int(value) => Some(*value),
                    _ => None,
                })
                .collect()
        };
        let (Some(shape), Some(strides)) = (integers(shape), integers(strides)) else {
            return Err(self.error("a shape that is not made of ints", "ints"));
        };
        Tensor::new((**storage).clone(), *offset, &shape, &strides).map_err(|found| {
            self.error(format!("a tensor of {found}"), "a contiguous tensor within its storage")
        })
    }
}
