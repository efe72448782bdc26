//! Strict CBOR: deterministic encoding (RFC 8949, 4.2.1) out, and nothing else accepted in.
//!
//! A decoded item is encoded again and must give the same bytes. That one comparison refuses long-form
//! integers, indefinite lengths, unsorted maps and floats in a wrong width, so that a structure has exactly one
//! encoding and two verifiers cannot read one file differently.

use ciborium::de::Error as DeError;
use ciborium::value::{Integer, Value};

/// Deepest nesting accepted in any of our structures; the deepest we write is 5.
const MAX_DEPTH: usize = 12;

/// Why bytes are not the CBOR structure they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// More bytes than the structure may have.
    #[error("{what}: {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The structure.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not well-formed CBOR.
    #[error("{what}: not well-formed CBOR{}", at(*.offset))]
    Malformed {
        /// The structure.
        what: &'static str,
        /// Byte offset, where known.
        offset: Option<usize>,
    },
    /// Nested deeper than any valid structure.
    #[error("{what}: nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// The structure.
        what: &'static str,
    },
    /// Bytes after the end of the item.
    #[error("{what}: {count} bytes after its end")]
    Trailing {
        /// The structure.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A key twice in one map.
    #[error("{what}: key {key} appears twice in a map")]
    Duplicate {
        /// The structure.
        what: &'static str,
        /// The key, in diagnostic notation.
        key: String,
    },
    /// Not the deterministic encoding.
    #[error("{what}: not in deterministic encoding (RFC 8949, 4.2.1)")]
    NotDeterministic {
        /// The structure.
        what: &'static str,
    },
    /// A required key is missing.
    #[error("{what}: {field} (key {key}) is missing")]
    Missing {
        /// The structure.
        what: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Its key.
        key: i64,
    },
    /// A key that the structure does not have.
    #[error("{what}: unknown key {key}")]
    Unknown {
        /// The structure.
        what: &'static str,
        /// The key, in diagnostic notation.
        key: String,
    },
    /// A field of the wrong type or with a value out of range.
    #[error("{what}: {field} is not {expected}")]
    Invalid {
        /// The structure.
        what: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

fn at(offset: Option<usize>) -> String {
    offset.map(|o| format!(" at byte {o}")).unwrap_or_default()
}

/// The deterministic encoding of `value`.
pub(crate) fn encode(mut value: Value) -> Vec<u8> {
    sort_maps(&mut value);
    raw(&value)
}

fn raw(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail, and a Value has no way to refuse being written.
    let written = ciborium::into_writer(value, &mut bytes);
    debug_assert!(written.is_ok());
    bytes
}

fn sort_maps(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(sort_maps),
        Value::Tag(_, inner) => sort_maps(inner),
        Value::Map(entries) => {
            for (key, item) in entries.iter_mut() {
                sort_maps(key);
                sort_maps(item);
            }
            entries.sort_by_cached_key(|(key, _)| raw(key));
        }
        _ => {}
    }
}

/// Decodes one item of at most `limit` bytes that is in deterministic encoding and fills `bytes` exactly.
pub(crate) fn decode(bytes: &[u8], limit: usize, what: &'static str) -> Result<Value, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLarge { what, size: bytes.len(), limit });
    }
    let mut rest = bytes;
    let mut value: Value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).map_err(|e| match e {
            DeError::RecursionLimitExceeded => CborError::TooDeep { what },
            DeError::Syntax(offset) => CborError::Malformed { what, offset: Some(offset) },
            DeError::Semantic(offset, _) => CborError::Malformed { what, offset },
            DeError::Io(_) => CborError::Malformed { what, offset: Some(bytes.len()) },
        })?;
    if !rest.is_empty() {
        return Err(CborError::Trailing { what, count: rest.len() });
    }
    refuse_duplicates(&value, what)?;
    // Sorting changes nothing in a value that was sorted already, and that is the only one that goes on.
    sort_maps(&mut value);
    if raw(&value) != bytes {
        return Err(CborError::NotDeterministic { what });
    }
    Ok(value)
}

fn refuse_duplicates(value: &Value, what: &'static str) -> Result<(), CborError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| refuse_duplicates(item, what)),
        Value::Tag(_, inner) => refuse_duplicates(inner, what),
        Value::Map(entries) => {
            let mut keys: Vec<Vec<u8>> = entries.iter().map(|(key, _)| raw(key)).collect();
            keys.sort();
            if let Some(pair) = keys.windows(2).find(|pair| pair.first() == pair.last()) {
                let key = pair.first().and_then(|k| ciborium::from_reader(k.as_slice()).ok());
                return Err(CborError::Duplicate { what, key: key.map_or_else(String::new, |k| show(&k)) });
            }
            entries.iter().try_for_each(|(key, item)| {
                refuse_duplicates(key, what)?;
                refuse_duplicates(item, what)
            })
        }
        _ => Ok(()),
    }
}

/// A map key for a message: short, and never raw bytes of the sender on a terminal.
fn show(key: &Value) -> String {
    match key {
        Value::Integer(n) => i128::from(*n).to_string(),
        Value::Text(text) => format!("{:?}", text.chars().take(32).collect::<String>()),
        _ => "that is neither a number nor text".to_owned(),
    }
}

/// A map with integer keys whose fields are taken one by one; what is left at the end is refused.
pub(crate) struct Fields {
    what: &'static str,
    entries: Vec<(Value, Value)>,
}

impl Fields {
    pub(crate) fn new(value: Value, what: &'static str) -> Result<Self, CborError> {
        match value {
            Value::Map(entries) => Ok(Self { what, entries }),
            _ => Err(CborError::Invalid { what, field: "item", expected: "a map" }),
        }
    }

    pub(crate) fn optional(&mut self, key: i64) -> Option<Value> {
        let wanted = Value::Integer(key.into());
        let index = self.entries.iter().position(|(k, _)| *k == wanted)?;
        Some(self.entries.swap_remove(index).1)
    }

    pub(crate) fn take(&mut self, key: i64, field: &'static str) -> Result<Value, CborError> {
        self.optional(key).ok_or(CborError::Missing { what: self.what, field, key })
    }

    pub(crate) fn text(&mut self, key: i64, field: &'static str) -> Result<String, CborError> {
        let value = self.take(key, field)?;
        value.into_text().map_err(|_| self.invalid(field, "text"))
    }

    pub(crate) fn bytes(&mut self, key: i64, field: &'static str) -> Result<Vec<u8>, CborError> {
        let value = self.take(key, field)?;
        value.into_bytes().map_err(|_| self.invalid(field, "a byte string"))
    }

    pub(crate) fn u32(&mut self, key: i64, field: &'static str) -> Result<u32, CborError> {
        let value = self.take(key, field)?;
        as_u32(&value).ok_or_else(|| self.invalid(field, "an unsigned 32-bit number"))
    }

    pub(crate) fn map(&mut self, key: i64, field: &'static str) -> Result<Vec<(Value, Value)>, CborError> {
        let value = self.take(key, field)?;
        value.into_map().map_err(|_| self.invalid(field, "a map"))
    }

    pub(crate) fn array(&mut self, key: i64, field: &'static str) -> Result<Vec<Value>, CborError> {
        let value = self.take(key, field)?;
        value.into_array().map_err(|_| self.invalid(field, "an array"))
    }

    pub(crate) fn invalid(&self, field: &'static str, expected: &'static str) -> CborError {
        CborError::Invalid { what: self.what, field, expected }
    }

    /// Ends the reading: every key must have been taken.
    pub(crate) fn finish(self) -> Result<(), CborError> {
        match self.entries.first() {
            None => Ok(()),
            Some((key, _)) => Err(CborError::Unknown { what: self.what, key: show(key) }),
        }
    }
}

pub(crate) fn as_u32(value: &Value) -> Option<u32> {
    match value {
        Value::Integer(n) => u32::try_from(*n).ok(),
        _ => None,
    }
}

pub(crate) fn int(n: impl Into<Integer>) -> Value {
    Value::Integer(n.into())
}

pub(crate) fn bytes(b: &[u8]) -> Value {
    Value::Bytes(b.to_vec())
}

pub(crate) fn text(t: &str) -> Value {
    Value::Text(t.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn err(bytes: &[u8]) -> CborError {
        decode(bytes, 64, "test").expect_err("must be refused")
    }

    #[test]
    fn refuses_every_second_encoding() {
        assert!(matches!(err(&[0x18, 0x01]), CborError::NotDeterministic { .. })); // 1 in two bytes
        assert!(matches!(err(&[0x9f, 0xff]), CborError::NotDeterministic { .. })); // indefinite array
        assert!(matches!(err(&[0xa2, 2, 0, 1, 0]), CborError::NotDeterministic { .. })); // unsorted map
        assert!(matches!(err(&[0xa2, 1, 0, 1, 0]), CborError::Duplicate { .. }));
        assert_eq!(err(&[0x01, 0x00]), CborError::Trailing { what: "test", count: 1 });
        assert!(matches!(err(&[0x5a, 0xff, 0xff, 0xff, 0xff]), CborError::Malformed { .. }));
        assert!(matches!(err(&[0x81; 40]), CborError::TooDeep { .. }));
        assert!(matches!(err(&[0x00; 65]), CborError::TooLarge { .. }));
        assert!(matches!(err(&[]), CborError::Malformed { .. }));
    }

    #[test]
    fn encodes_maps_in_bytewise_order_of_their_keys() {
        // The order that RFC 8949, 4.2.1 gives as its example, without the array and the boolean.
        let keys = [text("aa"), int(-1), int(100), text("z"), int(10)];
        let map = Value::Map(keys.into_iter().map(|k| (k, int(0))).collect());
        let bytes = encode(map);
        assert_eq!(hex::encode(&bytes), "a50a001864002000617a0062616100");
        assert!(decode(&bytes, 64, "test").is_ok());
    }

    #[test]
    fn fields_left_over_are_refused() {
        let value = Value::Map(vec![(int(1), text("x")), (int(7), int(0))]);
        let mut fields = Fields::new(value, "test").expect("a map");
        assert_eq!(fields.text(1, "one").as_deref(), Ok("x"));
        assert!(matches!(fields.u32(2, "two"), Err(CborError::Missing { key: 2, .. })));
        assert_eq!(fields.finish(), Err(CborError::Unknown { what: "test", key: "7".to_owned() }));
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_one_encoding(input in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode(&input, 64, "test") {
                prop_assert_eq!(encode(value), input);
            }
        }
    }
}
