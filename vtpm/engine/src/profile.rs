//! What may be chosen when a TPM is manufactured.

use alloc::vec::Vec;

use bulla_tpm_types::{Error, HashAlg, Reader, Writer};

/// Octets of TPM_PT_VENDOR_STRING_1 to _4.
const VENDOR: usize = 16;

/// What may be chosen when a TPM is manufactured; [`Profile::default`] is bulla's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(super) vendor: VendorString,
    pub(super) banks: Vec<HashAlg>,
}

impl Profile {
    /// Another vendor string (TPM_PT_VENDOR_STRING_1 to _4) than "bulla vTPM". For tests: clients that know a
    /// vendor's TPM may treat it differently.
    ///
    /// `None` for more than 16 octets.
    #[must_use]
    pub fn vendor(self, vendor: &str) -> Option<Self> {
        Some(Self { vendor: VendorString::new(vendor.as_bytes())?, ..self })
    }

    /// Other PCR banks than SHA-1, SHA-256 and SHA-384 that are there from the start. TPM2_PCR_Allocate can change
    /// them.
    ///
    /// `None` for no bank at all.
    #[must_use]
    pub fn banks(self, banks: &[HashAlg]) -> Option<Self> {
        (!banks.is_empty()).then(|| Self { banks: banks.to_vec(), ..self })
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self { vendor: VendorString(*b"bulla vTPM\0\0\0\0\0\0"), banks: HashAlg::BANKS.to_vec() }
    }
}

/// TPM_PT_VENDOR_STRING_1 to _4, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VendorString([u8; VENDOR]);

impl VendorString {
    fn new(vendor: &[u8]) -> Option<Self> {
        let mut all = [0; VENDOR];
        all.get_mut(..vendor.len())?.copy_from_slice(vendor);
        Some(Self(all))
    }

    /// The four properties.
    pub(super) fn properties(self) -> [u32; 4] {
        let Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) = self;
        [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes)
    }

    /// Writes it for [`VendorString::restore`].
    pub(super) fn save(self, w: &mut Writer) {
        w.bytes(&self.0);
    }

    /// Reads what [`VendorString::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        r.array("vendor string").map(Self)
    }
}
