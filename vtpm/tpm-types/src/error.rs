//! What can be wrong with bytes that claim to be a TPM structure.

use crate::constants::{Rc, rc};

/// The kind of an unmarshalling error: one for each response code of Part 2, 6.6 that a structure can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// TPM_RC_INSUFFICIENT.
    #[error("ends before its last byte")]
    Insufficient,
    /// TPM_RC_SIZE.
    #[error("has a size out of range")]
    Size,
    /// TPM_RC_VALUE.
    #[error("has a value out of range")]
    Value,
    /// TPM_RC_HASH.
    #[error("names a hash algorithm that is not supported")]
    Hash,
    /// TPM_RC_SCHEME.
    #[error("names a scheme that is not supported here")]
    Scheme,
    /// TPM_RC_KDF.
    #[error("names a key derivation function that is not supported")]
    Kdf,
    /// TPM_RC_SYMMETRIC.
    #[error("names a symmetric algorithm that is not supported")]
    Symmetric,
    /// TPM_RC_MODE.
    #[error("names a mode of operation that is not supported")]
    Mode,
    /// TPM_RC_CURVE.
    #[error("names an elliptic curve that is not supported")]
    Curve,
    /// TPM_RC_TYPE.
    #[error("has a type that is not supported")]
    Type,
    /// TPM_RC_TAG.
    #[error("has the wrong structure tag")]
    Tag,
    /// TPM_RC_SELECTOR.
    #[error("has a union selector that is not supported")]
    Selector,
    /// TPM_RC_RESERVED_BITS.
    #[error("has a reserved bit set")]
    ReservedBits,
}

impl ErrorKind {
    /// The response code for this kind, without parameter, handle or session number.
    #[must_use]
    pub fn rc(self) -> Rc {
        match self {
            Self::Insufficient => rc::INSUFFICIENT,
            Self::Size => rc::SIZE,
            Self::Value => rc::VALUE,
            Self::Hash => rc::HASH,
            Self::Scheme => rc::SCHEME,
            Self::Kdf => rc::KDF,
            Self::Symmetric => rc::SYMMETRIC,
            Self::Mode => rc::MODE,
            Self::Curve => rc::CURVE,
            Self::Type => rc::TYPE,
            Self::Tag => rc::TAG,
            Self::Selector => rc::SELECTOR,
            Self::ReservedBits => rc::RESERVED_BITS,
        }
    }
}

/// An unmarshalling error: which structure, where, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} {kind}")]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The structure or field, by its name in Part 2.
    pub what: &'static str,
    /// Offset of the field in the bytes given to the reader.
    pub offset: usize,
}

impl Error {
    /// The response code a TPM answers for this error, without parameter, handle or session number.
    #[must_use]
    pub fn rc(&self) -> Rc {
        self.kind.rc()
    }
}
