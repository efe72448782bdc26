//! Handles (Part 2, chapter 7).

use core::fmt;

use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::error::Error;

/// TPM_HANDLE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

impl Handle {
    /// TPM_HT: the type of the handle, its most significant octet.
    #[must_use]
    pub const fn handle_type(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl Marshal for Handle {
    fn marshal(&self, w: &mut Writer) {
        w.u32(self.0);
    }
}

impl<'a> Unmarshal<'a> for Handle {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        r.u32("TPM_HANDLE").map(Self)
    }
}

/// TPM_HT_* values: types of handles (Part 2, 7.2).
#[expect(missing_docs, reason = "each constant is the handle type of that name")]
pub mod ht {
    pub const PCR: u8 = 0x00;
    pub const NV_INDEX: u8 = 0x01;
    pub const HMAC_SESSION: u8 = 0x02;
    pub const POLICY_SESSION: u8 = 0x03;
    /// In the list of handles: sessions that are loaded, of either type.
    pub const LOADED_SESSION: u8 = 0x02;
    /// In the list of handles: sessions whose contexts are saved.
    pub const SAVED_SESSION: u8 = 0x03;
    pub const PERMANENT: u8 = 0x40;
    pub const TRANSIENT: u8 = 0x80;
    pub const PERSISTENT: u8 = 0x81;
}

/// TPM_RH_* values: permanent handles (Part 2, 7.4).
#[expect(missing_docs, reason = "each constant is the permanent handle of that name")]
pub mod rh {
    use super::Handle;

    pub const OWNER: Handle = Handle(0x4000_0001);
    pub const NULL: Handle = Handle(0x4000_0007);
    /// TPM_RS_PW: the handle that stands for a password authorization.
    pub const PW: Handle = Handle(0x4000_0009);
    pub const LOCKOUT: Handle = Handle(0x4000_000a);
    pub const ENDORSEMENT: Handle = Handle(0x4000_000b);
    pub const PLATFORM: Handle = Handle(0x4000_000c);
    pub const PLATFORM_NV: Handle = Handle(0x4000_000d);
    /// TPM_HT_TRANSIENT's first handle.
    pub const TRANSIENT_FIRST: Handle = Handle(0x8000_0000);
}
