//! What the reader found in a table: checked values with their places.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::template::ParameterValue;
use crate::units::{ByteSize, Timeout};

/// The values of one table by key; keys with a problem are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    found: BTreeMap<String, Found>,
}

#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key_span: Range<usize>,
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Piece),
    Texts(Vec<Piece>),
    Integer(i64),
    Integers(Vec<i64>),
    Boolean(bool),
    Duration(Timeout),
    Size(ByteSize),
    /// Names and values.
    Map(Vec<(Piece, Piece)>),
    Path(Piece),
    Paths(Vec<Piece>),
    Table(Values),
    Tables(Vec<Values>),
}

/// A rendered string with the place where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Values {
    pub(crate) fn insert(&mut self, key: &str, found: Found) {
        self.found.insert(key.to_owned(), found);
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Found> {
        self.found.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&Piece> {
        match &self.get(key)?.value {
            Value::Text(piece) | Value::Path(piece) => Some(piece),
            _ => None,
        }
    }

    /// The rendered string alone, without its place.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(|piece| piece.text.clone())
    }

    /// Empty when the key is absent.
    pub(crate) fn texts(&self, key: &str) -> &[Piece] {
        match self.get(key).map(|found| &found.value) {
            Some(Value::Texts(pieces) | Value::Paths(pieces)) => pieces,
            _ => &[],
        }
    }

    pub(crate) fn strings(&self, key: &str) -> Vec<String> {
        self.texts(key).iter().map(|piece| piece.text.clone()).collect()
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Integer(integer) => Some(integer),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value {
            Value::Boolean(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Timeout> {
        match self.get(key)?.value {
            Value::Duration(timeout) => Some(timeout),
            _ => None,
        }
    }

    pub(crate) fn size(&self, key: &str) -> Option<(ByteSize, Range<usize>)> {
        let found = self.get(key)?;
        match found.value {
            Value::Size(size) => Some((size, found.span.clone())),
            _ => None,
        }
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Values> {
        match &self.get(key)?.value {
            Value::Table(values) => Some(values),
            _ => None,
        }
    }

    /// Empty when the key is absent.
    pub(crate) fn map(&self, key: &str) -> &[(Piece, Piece)] {
        match self.get(key).map(|found| &found.value) {
            Some(Value::Map(map)) => map,
            _ => &[],
        }
    }

    /// Names and values without their places.
    pub(crate) fn string_map(&self, key: &str) -> BTreeMap<String, String> {
        self.map(key).iter().map(|(name, value)| (name.text.clone(), value.text.clone())).collect()
    }

    /// Empty when the key is absent.
    pub(crate) fn tables(&self, key: &str) -> &[Values] {
        match self.get(key).map(|found| &found.value) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    /// Where the key is written.
    pub(crate) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        Some(self.get(key)?.key_span.clone())
    }

    /// As a plan takes them.
    pub(crate) fn parameters(&self) -> BTreeMap<String, ParameterValue> {
        self.found.iter().map(|(key, found)| (key.clone(), found.value.parameter())).collect()
    }

    /// Every string in it, with its key.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&str, &Piece)> {
        let mut pieces = Vec::new();
        self.collect_pieces(&mut pieces);
        pieces.into_iter()
    }

    fn collect_pieces<'v>(&'v self, pieces: &mut Vec<(&'v str, &'v Piece)>) {
        for (key, found) in &self.found {
            match &found.value {
                Value::Text(piece) | Value::Path(piece) => pieces.push((key, piece)),
                Value::Texts(list) | Value::Paths(list) => {
                    pieces.extend(list.iter().map(|piece| (key.as_str(), piece)))
                }
                Value::Map(map) => pieces.extend(map.iter().map(|(_, piece)| (key.as_str(), piece))),
                Value::Table(values) => values.collect_pieces(pieces),
                Value::Tables(tables) => tables.iter().for_each(|values| values.collect_pieces(pieces)),
                _ => {}
            }
        }
    }
}

impl Value {
    fn parameter(&self) -> ParameterValue {
        let texts = |pieces: &[Piece]| pieces.iter().map(|piece| piece.text.clone()).collect();
        match self {
            Self::Text(piece) => ParameterValue::Text(piece.text.clone()),
            Self::Texts(pieces) => ParameterValue::Texts(texts(pieces)),
            Self::Integer(integer) => ParameterValue::Integer(*integer),
            Self::Integers(integers) => ParameterValue::Integers(integers.clone()),
            Self::Boolean(value) => ParameterValue::Boolean(*value),
            Self::Duration(timeout) => ParameterValue::Duration(*timeout),
            // No parameter is a size or a lone table today; as text and list they would lose nothing.
            Self::Size(size) => ParameterValue::Text(size.to_string()),
            Self::Map(map) => {
                ParameterValue::Map(map.iter().map(|(key, piece)| (key.text.clone(), piece.text.clone())).collect())
            }
            Self::Path(piece) => ParameterValue::Path(PathBuf::from(&piece.text)),
            Self::Paths(pieces) => {
                ParameterValue::Paths(pieces.iter().map(|piece| PathBuf::from(&piece.text)).collect())
            }
            Self::Table(values) => ParameterValue::Tables(vec![values.parameters()]),
            Self::Tables(tables) => ParameterValue::Tables(tables.iter().map(Values::parameters).collect()),
        }
    }
}
