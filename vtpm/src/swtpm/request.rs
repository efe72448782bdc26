//! The control channel's requests, read from bytes.

use super::code::Code;

/// Most bytes of data in a request: a TPM's state, or what is hashed.
pub(super) const MAX_DATA: usize = 512 << 10;

/// A request of the control channel. Numbers and layouts are those of swtpm's `tpm_ioctl.h`; all numbers are big-endian.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    GetCapability,
    Init { flags: u32 },
    Shutdown,
    GetEstablished,
    SetLocality(u8),
    HashStart,
    HashData(&'a [u8]),
    HashEnd,
    Cancel,
    StoreVolatile,
    ResetEstablished(u8),
    GetBlob { flags: u32, kind: u32, offset: u32 },
    SetBlob { flags: u32, kind: u32, blob: &'a [u8] },
    Stop,
    GetConfig,
    SetDataFd,
    SetBufferSize(u32),
    GetInfo { flags: u64, offset: u32 },
    LockStorage { retries: u32 },
}

/// The number of the request, its fields, and whether data follows them, of a length that the last field says.
const LAYOUTS: [(u32, usize, bool); 19] = [
    (GET_CAPABILITY, 0, false),
    (INIT, 4, false),
    (SHUTDOWN, 0, false),
    (GET_ESTABLISHED, 0, false),
    (SET_LOCALITY, 1, false),
    (HASH_START, 0, false),
    (HASH_DATA, 4, true),
    (HASH_END, 0, false),
    (CANCEL, 0, false),
    (STORE_VOLATILE, 0, false),
    (RESET_ESTABLISHED, 1, false),
    (GET_BLOB, 12, false),
    (SET_BLOB, 12, true),
    (STOP, 0, false),
    (GET_CONFIG, 0, false),
    (SET_DATA_FD, 0, false),
    (SET_BUFFER_SIZE, 4, false),
    // flags, offset, and four bytes that align the whole.
    (GET_INFO, 16, false),
    (LOCK_STORAGE, 4, false),
];

const GET_CAPABILITY: u32 = 0x01;
const INIT: u32 = 0x02;
const SHUTDOWN: u32 = 0x03;
const GET_ESTABLISHED: u32 = 0x04;
const SET_LOCALITY: u32 = 0x05;
const HASH_START: u32 = 0x06;
const HASH_DATA: u32 = 0x07;
const HASH_END: u32 = 0x08;
const CANCEL: u32 = 0x09;
const STORE_VOLATILE: u32 = 0x0a;
const RESET_ESTABLISHED: u32 = 0x0b;
const GET_BLOB: u32 = 0x0c;
const SET_BLOB: u32 = 0x0d;
const STOP: u32 = 0x0e;
const GET_CONFIG: u32 = 0x0f;
const SET_DATA_FD: u32 = 0x10;
const SET_BUFFER_SIZE: u32 = 0x11;
const GET_INFO: u32 = 0x12;
const LOCK_STORAGE: u32 = 0x13;

/// Bytes of a request's number.
const NUMBER: usize = 4;

/// How long a request is that begins with `start`, as far as that can be told yet: at least as many bytes as it takes to tell
/// more. `Err`: it will never be a request; what the client meant to be its end cannot be known.
pub(super) fn length(start: &[u8]) -> Result<usize, Code> {
    let Some(number) = u32_at(start, 0) else { return Ok(NUMBER) };
    let &(_, fields, data) = LAYOUTS.iter().find(|(n, ..)| *n == number).ok_or(Code::BadOrdinal)?;
    let fixed = NUMBER + fields;
    if !data {
        return Ok(fixed);
    }
    match u32_at(start, fixed - 4).map(usize::try_from) {
        None => Ok(fixed),
        Some(Ok(length)) if length <= MAX_DATA => Ok(fixed + length),
        Some(_) => Err(Code::BadParameter),
    }
}

impl<'a> Request<'a> {
    /// Reads a request that [`length`] calls complete. Bytes after it are a mistake where there are no fields or data, and elsewhere what the
    /// client's compiler put after a field that is shorter than a word.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Code> {
        let length = length(bytes)?;
        let (request, surplus) = bytes.split_at_checked(length).ok_or(Code::BadParameter)?;
        let number = u32_at(request, 0).ok_or(Code::BadParameter)?;
        let word = |n: usize| u32_at(request, NUMBER + 4 * n).ok_or(Code::BadParameter);
        let byte = || request.get(NUMBER).copied().ok_or(Code::BadParameter);
        let data = |from: usize| request.get(NUMBER + from..).ok_or(Code::BadParameter);
        let strict = !matches!(number, GET_CAPABILITY | SET_LOCALITY | RESET_ESTABLISHED | GET_BLOB | GET_INFO);
        if strict && !surplus.is_empty() {
            return Err(Code::BadParameter);
        }
        Ok(match number {
            GET_CAPABILITY => Self::GetCapability,
            INIT => Self::Init { flags: word(0)? },
            SHUTDOWN => Self::Shutdown,
            GET_ESTABLISHED => Self::GetEstablished,
            SET_LOCALITY => Self::SetLocality(byte()?),
            HASH_START => Self::HashStart,
            HASH_DATA => Self::HashData(data(4)?),
            HASH_END => Self::HashEnd,
            CANCEL => Self::Cancel,
            STORE_VOLATILE => Self::StoreVolatile,
            RESET_ESTABLISHED => Self::ResetEstablished(byte()?),
            GET_BLOB => Self::GetBlob { flags: word(0)?, kind: word(1)?, offset: word(2)? },
            SET_BLOB => Self::SetBlob { flags: word(0)?, kind: word(1)?, blob: data(12)? },
            STOP => Self::Stop,
            GET_CONFIG => Self::GetConfig,
            SET_DATA_FD => Self::SetDataFd,
            SET_BUFFER_SIZE => Self::SetBufferSize(word(0)?),
            GET_INFO => Self::GetInfo { flags: u64::from(word(0)?) << 32 | u64::from(word(1)?), offset: word(2)? },
            LOCK_STORAGE => Self::LockStorage { retries: word(0)? },
            _ => return Err(Code::BadOrdinal),
        })
    }
}

impl Request<'_> {
    /// The request's name, for the log.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::GetCapability => "GetCapability",
            Self::Init { .. } => "Init",
            Self::Shutdown => "Shutdown",
            Self::GetEstablished => "GetEstablished",
            Self::SetLocality(_) => "SetLocality",
            Self::HashStart => "HashStart",
            Self::HashData(_) => "HashData",
            Self::HashEnd => "HashEnd",
            Self::Cancel => "Cancel",
            Self::StoreVolatile => "StoreVolatile",
            Self::ResetEstablished(_) => "ResetEstablished",
            Self::GetBlob { .. } => "GetBlob",
            Self::SetBlob { .. } => "SetBlob",
            Self::Stop => "Stop",
            Self::GetConfig => "GetConfig",
            Self::SetDataFd => "SetDataFd",
            Self::SetBufferSize(_) => "SetBufferSize",
            Self::GetInfo { .. } => "GetInfo",
            Self::LockStorage { .. } => "LockStorage",
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}
