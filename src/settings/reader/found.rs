//! A value in the file, with its place and the key that it belongs to.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{SettingsFault, choice, quoted, value_text};
use crate::net::Expected;

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum TomlTable<'a> {
    /// The part before every header.
    Root,
    Gateway,
    Tunnel,
    /// A `[[connection]]`, counted from 1, with its name, if it has one.
    Connection(usize, Option<&'a str>),
}

impl fmt::Display for TomlTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the file"),
            Self::Gateway => f.write_str("gateway"),
            Self::Tunnel => f.write_str("tunnel"),
            Self::Connection(_, Some(name)) => write!(f, "connection {}", quoted(name)),
            Self::Connection(number, None) => write!(f, "connection[{number}]"),
        }
    }
}

/// A key by its full name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) table: TomlTable<'a>,
    pub(super) name: &'a str,
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table {
            TomlTable::Root => {}
            TomlTable::Gateway | TomlTable::Tunnel | TomlTable::Connection(..) => write!(f, "{}.", self.table)?,
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !self.name.is_empty() && self.name.len() <= 60 && self.name.bytes().all(plain) {
            return f.write_str(self.name);
        }
        f.write_str(&quoted(self.name))
    }
}

/// A value, or one of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct TomlValue<'a> {
    pub(super) key: Key<'a>,
    /// The offset of the key, in bytes.
    pub(super) key_at: usize,
    /// The offset of the value, in bytes.
    pub(super) at: usize,
    pub(super) value: &'a DeValue<'a>,
}

/// Everything in a table, in the order of the file.
pub(super) fn entries<'a>(table: TomlTable<'a>, content: &'a DeTable<'a>) -> Vec<TomlValue<'a>> {
    let mut entries: Vec<_> = content.iter().map(|(key, value)| entry(table, key, value)).collect();
    entries.sort_unstable_by_key(|entry| entry.key_at);
    entries
}

/// A key in a table, if it is set there.
pub(super) fn find_key<'a>(table: TomlTable<'a>, content: &'a DeTable<'a>, name: &str) -> Option<TomlValue<'a>> {
    content.get_key_value(name).map(|(key, value)| entry(table, key, value))
}

fn entry<'a>(
    table: TomlTable<'a>,
    key: &'a Spanned<toml::de::DeString<'a>>,
    value: &'a Spanned<DeValue<'a>>,
) -> TomlValue<'a> {
    TomlValue {
        key: Key {
            table,
            name: key.get_ref(),
        },
        key_at: key.span().start,
        at: value.span().start,
        value: value.get_ref(),
    }
}

impl<'a> TomlValue<'a> {
    /// That this is not what is expected here.
    pub(super) fn refused(self, expected: impl fmt::Display) -> SettingsFault {
        SettingsFault::new(self.at, self.key, value_text(self.value), expected)
    }

    pub(super) fn string_value(self, expected: &str) -> Result<&'a str, SettingsFault> {
        self.value.as_str().ok_or_else(|| self.refused(expected))
    }

    /// A text that a type understands, or says what it expects.
    pub(super) fn parsed<T: FromStr<Err = Expected>>(self) -> Result<T, SettingsFault> {
        let parsed = self.string_value("a string in quotes")?.parse();
        parsed.map_err(|expected: Expected| self.refused(expected.0))
    }

    /// One of some words. `more` is what else the key takes, for the message.
    pub(super) fn one_of_words<T: Clone>(self, words: &[(&str, T)], more: Option<&str>) -> Result<T, SettingsFault> {
        let written = match self.value {
            DeValue::String(text) => text,
            // So that whoever writes `true` learns of "yes" where that is a word.
            DeValue::Boolean(true) => "yes",
            DeValue::Boolean(false) => "no",
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                ""
            }
        };
        let known = words.iter().find(|(word, _)| *word == written);
        match known {
            Some((_, meaning)) if self.value.is_str() => Ok(meaning.clone()),
            Some(_) | None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(self.refused(choice(&words, more)).hint_nearest(written, &words))
            }
        }
    }

    /// The elements of a list.
    pub(super) fn list(self, expected: &str) -> Result<impl Iterator<Item = Self> + Clone, SettingsFault> {
        let items = self.value.as_array().ok_or_else(|| self.refused(expected))?;
        Ok(items.iter().map(move |item| Self {
            at: item.span().start,
            value: item.get_ref(),
            ..self
        }))
    }

    /// A list without duplicates.
    pub(super) fn each_once<T: Clone + Eq + Hash>(
        self,
        expected: &str,
        read: impl Fn(Self) -> Result<T, SettingsFault>,
    ) -> Result<Vec<T>, SettingsFault> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for item in self.list(expected)? {
            let meaning = read(item)?;
            if !seen.insert(meaning.clone()) {
                let found = format!("{} a second time", value_text(item.value));
                return Err(SettingsFault::new(item.at, item.key, found, "it once"));
            }
            all.push(meaning);
        }
        Ok(all)
    }
}
