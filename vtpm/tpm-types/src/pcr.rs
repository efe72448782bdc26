//! PCR selections and lists of digests (Part 2, 10.6 and 10.9).

use crate::buffers::{Ha, List};
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::HashAlg;
use crate::error::{Error, ErrorKind};

/// The number of PCR of a PC Client TPM.
pub const IMPLEMENTATION_PCR: u32 = 24;

/// TPM_PT_PCR_SELECT_MIN and PCR_SELECT_MAX: octets of a selection.
pub const PCR_SELECT_SIZE: usize = 3;

/// TPMS_PCR_SELECTION: PCR of one bank (Part 2, 10.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub alg: HashAlg,
    /// PCR n is bit n % 8 of octet n / 8.
    pub select: [u8; PCR_SELECT_SIZE],
}

impl PcrSelection {
    /// A selection of these PCR; numbers of 24 and above are left out.
    #[must_use]
    pub fn new(alg: HashAlg, pcrs: &[u32]) -> Self {
        let mut s = Self { alg, select: [0; PCR_SELECT_SIZE] };
        pcrs.iter().for_each(|&pcr| s.insert(pcr));
        s
    }

    /// Selects one more PCR; a number of 24 and above changes nothing.
    pub fn insert(&mut self, pcr: u32) {
        if let Some(octet) = self.select.get_mut(pcr as usize / 8) {
            *octet |= 1 << (pcr % 8);
        }
    }

    /// Whether PCR `pcr` is selected.
    #[must_use]
    pub fn contains(&self, pcr: u32) -> bool {
        self.select.get(pcr as usize / 8).is_some_and(|octet| octet & (1 << (pcr % 8)) != 0)
    }

    /// The selected PCR, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let s = *self;
        (0..IMPLEMENTATION_PCR).filter(move |&n| s.contains(n))
    }

    /// Whether no PCR is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.select == [0; PCR_SELECT_SIZE]
    }
}

impl Default for PcrSelection {
    fn default() -> Self {
        Self { alg: HashAlg::Sha256, select: [0; PCR_SELECT_SIZE] }
    }
}

impl Marshal for PcrSelection {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.alg);
        w.u8(PCR_SELECT_SIZE as u8);
        w.bytes(&self.select);
    }
}

impl<'a> Unmarshal<'a> for PcrSelection {
    /// A sizeofSelect other than three octets is TPM_RC_VALUE.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let alg = r.get()?;
        let at = r.clone();
        if usize::from(r.u8("sizeofSelect")?) != PCR_SELECT_SIZE {
            return Err(at.error(ErrorKind::Value, "sizeofSelect"));
        }
        let mut select = [0; PCR_SELECT_SIZE];
        select.copy_from_slice(r.take(PCR_SELECT_SIZE, "pcrSelect")?);
        Ok(Self { alg, select })
    }
}

/// TPML_PCR_SELECTION (Part 2, 10.9.7).
pub type PcrSelectionList = List<PcrSelection, 4>;

/// TPML_DIGEST_VALUES: one digest a bank (Part 2, 10.9.6).
pub type DigestValues = List<Ha, 4>;

impl DigestValues {
    /// The digest of this bank, if the list has one.
    #[must_use]
    pub fn bank(&self, alg: HashAlg) -> Option<&Ha> {
        self.iter().find(|d| d.alg() == alg)
    }
}
