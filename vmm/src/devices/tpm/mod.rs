//! What the two interfaces of a TPM have in common: the TPM behind them, and whose turn it is.
//!
//! A PC's TPM is reached through the Command Response Buffer ([`crate::devices::crb`]) or through the older FIFO
//! ([`crate::devices::tis`]); a machine has one of them ([`TpmInterface`]), at the same address.

mod backend;
mod device;
mod localities;

pub use backend::{TpmBackend, TpmBackendError};
pub use device::{TpmDevice, TpmInterface, TpmState};

pub(in crate::devices) use backend::{HEADER_LEN, Port, be32};
pub(in crate::devices) use localities::Localities;

/// Localities 0–4.
pub const LOCALITIES: u8 = 5;
/// Bytes of register space for each.
pub const LOCALITY_LEN: u64 = 0x1000;

/// The highest locality that software in the guest can get. Locality 4 belongs to the hardware that starts a dynamic
/// root of trust (PTP section 6.2): a guest that could have it could reset and forge PCRs 17–20.
pub const MAX_SOFTWARE_LOCALITY: u8 = 3;

/// The localities that may reset the mark of a dynamic launch (PTP, TPM_STS_x.resetEstablishmentBit and
/// TPM_LOC_CTRL_x.ResetEstablishmentBit).
pub(in crate::devices) const fn may_reset_establishment(locality: u8) -> bool {
    locality == 3 || locality == 4
}

/// Locality and offset within it, of an offset from the base.
pub(in crate::devices) fn locate(offset: u64) -> Option<(u8, u16)> {
    let locality = u8::try_from(offset / LOCALITY_LEN).ok().filter(|l| *l < LOCALITIES)?;
    Some((locality, (offset % LOCALITY_LEN) as u16))
}
