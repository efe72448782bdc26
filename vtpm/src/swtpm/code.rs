//! Result codes of the control channel, which are those of TPM 1.2.

use thiserror::Error;

/// Why a request of the control channel was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u32)]
pub(super) enum Code {
    /// TPM_BAD_PARAMETER.
    #[error("a request that is too short, too long, or wrong in itself")]
    BadParameter = 0x03,
    /// TPM_FAIL.
    #[error("it failed")]
    Fail = 0x09,
    /// TPM_BAD_ORDINAL.
    #[error("no such request, or not while the TPM is in this state")]
    BadOrdinal = 0x0a,
    /// TPM_KEYNOTFOUND.
    #[error("the key for it is not here")]
    KeyNotFound = 0x0d,
    /// TPM_IOERROR.
    #[error("there is a data channel already, or the state's lock cannot be had")]
    Io = 0x1f,
    /// TPM_DECRYPT_ERROR.
    #[error("it does not open with the key")]
    DecryptError = 0x21,
    /// TPM_BAD_LOCALITY.
    #[error("not from or to this locality")]
    BadLocality = 0x3d,
}
