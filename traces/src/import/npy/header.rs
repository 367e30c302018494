//! The header of an array: a Python dict with the keys `descr`, `fortran_order` and `shape`.

use super::super::text::short;
use super::DataType;

/// What is wrong with a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) found: String,
    pub(super) expected: &'static str,
}

type Result<T> = std::result::Result<T, Fault>;

fn fault<T>(found: impl Into<String>, expected: &'static str) -> Result<T> {
    Err(Fault { found: found.into(), expected })
}

const KEYS: &str = "the keys descr, fortran_order and shape";

/// Element type and shape.
pub(super) fn parse(text: &str) -> Result<(DataType, Vec<i64>)> {
    let mut rest = Rest(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    rest.take("{")?;
    while !rest.skips("}") {
        let key = rest.string()?;
        rest.take(":")?;
        let fresh = match key {
            "descr" => descr.replace(rest.descr()?).is_none(),
            "fortran_order" => fortran.replace(rest.boolean()?).is_none(),
            "shape" => shape.replace(rest.tuple()?).is_none(),
            other => return fault(format!("key `{}`", short(other)), KEYS),
        };
        if !fresh {
            return fault(format!("key `{key}` twice"), KEYS);
        }
        if !rest.skips(",") && !rest.0.trim_ascii_start().starts_with('}') {
            return rest.unexpected();
        }
    }
    if !rest.0.trim_ascii().is_empty() {
        return rest.unexpected();
    }
    match (descr, fortran, shape) {
        (Some(_), Some(true), Some(_)) => fault("Fortran order", "C order"),
        (Some(descr), Some(false), Some(shape)) => Ok((data_type(descr)?, shape)),
        _ => fault("a key is absent", KEYS),
    }
}

fn data_type(descr: &str) -> Result<DataType> {
    const IDS: &str = "ids as |u1, <u2, <i2, <i4 or <i8";
    Ok(match descr {
        "|u1" | "<u1" => DataType::U8,
        "<u2" => DataType::U16,
        "<i2" => DataType::I16,
        "<i4" => DataType::I32,
        "<i8" => DataType::I64,
        object if object.trim_start_matches(['|', '<', '>', '=']).starts_with('O') => {
            return fault("Python objects (a pickle, which is never read)", IDS);
        }
        big if big.starts_with('>') => {
            return fault(format!("type `{}`: big-endian", short(big)), IDS);
        }
        other => return fault(format!("type `{}`", short(other)), IDS),
    })
}

/// What is left of the text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn unexpected<T>(&self) -> Result<T> {
        let rest = self.0.trim_ascii_start();
        let found =
            if rest.is_empty() { "the end".to_owned() } else { format!("`{}`", short(rest)) };
        fault(found, "{'descr': '<i4', 'fortran_order': False, 'shape': (tokens, layers, k)}")
    }

    fn skips(&mut self, token: &str) -> bool {
        match self.0.trim_ascii_start().strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, token: &str) -> Result<()> {
        if self.skips(token) { Ok(()) } else { self.unexpected() }
    }

    fn string(&mut self) -> Result<&'a str> {
        let text = self.0.trim_ascii_start();
        let quote = match text.chars().next() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return self.unexpected(),
        };
        let Some((string, rest)) = text[1..].split_once(quote) else { return self.unexpected() };
        self.0 = rest;
        Ok(string)
    }

    fn descr(&mut self) -> Result<&'a str> {
        if self.0.trim_ascii_start().starts_with('[') {
            return fault("a structured type", "an array of ids");
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool> {
        if self.skips("True") {
            return Ok(true);
        }
        self.take("False")?;
        Ok(false)
    }

    fn tuple(&mut self) -> Result<Vec<i64>> {
        let mut sizes = Vec::new();
        self.take("(")?;
        while !self.skips(")") {
            let text = self.0.trim_ascii_start();
            let digits = |c: char| c.is_ascii_digit() || c == '-';
            let end = text.find(|c| !digits(c)).unwrap_or(text.len());
            let Ok(size) = text[..end].parse() else {
                return fault(format!("shape ({}", short(text)), "sizes below 2^63");
            };
            sizes.push(size);
            self.0 = &text[end..];
            if !self.skips(",") && !self.0.trim_ascii_start().starts_with(')') {
                return self.unexpected();
            }
        }
        Ok(sizes)
    }
}
