//! Options within an option, as swtpm writes them: `key=value,key=value,flag`.

use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

/// What is wrong with the text of an option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A key that this option does not have.
    #[error("there is no `{key}`; there are {known}")]
    Unknown {
        /// The key.
        key: String,
        /// What it could be.
        known: String,
    },
    /// A key more than once.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// A key that needs a value stands alone.
    #[error("`{0}` needs a value")]
    NoValue(&'static str),
    /// A value is not of its key's kind.
    #[error("`{key}={value}`: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// One of these keys has to be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Keys that exclude each other.
    #[error("`{0}` and `{1}` exclude each other")]
    Both(&'static str, &'static str),
    /// Something that swtpm has and this program does not.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `key=value`.
    Value,
    /// `key`, `key=true`, `key=false`.
    Switch,
}

/// The keys that an option has.
pub(super) type Known = &'static [(&'static str, Kind)];

/// An option's text, taken apart.
#[derive(Debug)]
pub(super) struct Suboptions {
    given: Vec<(&'static str, Option<String>)>,
}

impl Suboptions {
    /// Takes `text` apart. What is not in `known` is an error that names it.
    pub(super) fn parse(text: &str, known: Known) -> Result<Self, OptionError> {
        let mut given: Vec<(&'static str, Option<String>)> = Vec::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = match item.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (item, None),
            };
            let Some(&(name, kind)) = known.iter().find(|(name, _)| *name == key) else {
                let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
                return Err(OptionError::Unknown { key: key.to_owned(), known: names.join(", ") });
            };
            if kind == Kind::Value && value.is_none() {
                return Err(OptionError::NoValue(name));
            }
            if given.iter().any(|(other, _)| *other == name) {
                return Err(OptionError::Twice(key.to_owned()));
            }
            given.push((name, value));
        }
        Ok(Self { given })
    }

    /// Whether `key` is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == key)
    }

    /// The text of `key`.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.given.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.as_deref())
    }

    /// The value of `key`, read by its type's `FromStr`.
    pub(super) fn value<T: FromStr<Err: Display>>(&self, key: &'static str) -> Result<Option<T>, OptionError> {
        self.with(key, |text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    /// The value of `key`, read by `read`.
    pub(super) fn with<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, OptionError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        read(text).map(Some).map_err(|reason| OptionError::Value { key, value: text.to_owned(), reason })
    }

    /// The value of a switch: `key` and `key=true` are true.
    pub(super) fn switch(&self, key: &'static str) -> Result<bool, OptionError> {
        let value = self.with(key, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("neither true nor false".to_owned()),
        })?;
        Ok(value.unwrap_or_else(|| self.has(key)))
    }

    /// File mode bits, in octal as swtpm wants them.
    pub(super) fn mode(&self, key: &'static str) -> Result<Option<u32>, OptionError> {
        self.with(key, |text| match u32::from_str_radix(text, 8) {
            Ok(mode) if text.starts_with('0') && mode <= 0o777 => Ok(mode),
            _ => Err("not file mode bits in octal, such as 0640".to_owned()),
        })
    }

    /// An error unless at most one of `keys` is there.
    pub(super) fn at_most_one(&self, keys: &[&'static str]) -> Result<(), OptionError> {
        let mut there = keys.iter().copied().filter(|key| self.has(key));
        match (there.next(), there.next()) {
            (Some(one), Some(other)) => Err(OptionError::Both(one, other)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known =
        &[("port", Kind::Value), ("lock", Kind::Switch), ("remove", Kind::Switch), ("mode", Kind::Value)];

    #[test]
    fn keys_are_told_apart() {
        let options = Suboptions::parse("port=7,lock,remove=false", KNOWN).unwrap();
        assert_eq!(options.value::<u16>("port"), Ok(Some(7)));
        assert!(options.has("lock"));
        assert_eq!(options.switch("remove"), Ok(false));
        assert_eq!(Suboptions::parse("remove", KNOWN).unwrap().switch("remove"), Ok(true));
        assert_eq!(options.mode("mode"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| Suboptions::parse(text, KNOWN).unwrap_err().to_string();
        assert_eq!(error("prot=7"), "there is no `prot`; there are `port`, `lock`, `remove`, `mode`");
        assert_eq!(error("port"), "`port` needs a value");
        assert!(Suboptions::parse("lock=yes", KNOWN).unwrap().switch("lock").is_err());
        assert_eq!(error("port=1,port=2"), "`port` is given twice");
        let options = Suboptions::parse("port=70000,mode=9", KNOWN).unwrap();
        assert!(options.value::<u16>("port").unwrap_err().to_string().starts_with("`port=70000`: "));
        assert!(options.mode("mode").unwrap_err().to_string().contains("octal"));
        assert_eq!(options.at_most_one(&["port", "mode"]), Err(OptionError::Both("port", "mode")));
    }
}
