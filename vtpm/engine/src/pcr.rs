//! PCR banks (Part 1, 17) with the attributes of the PC Client Platform TPM Profile (PTP 1.05, 4.6).

use alloc::vec::Vec;
use bulla_tpm_types::hash::Hasher;

use bulla_tpm_types::{
    Digest, DigestValues, Error, ErrorKind, Ha, HashAlg, IMPLEMENTATION_PCR, Locality, PcrSelection, PcrSelectionList,
    Reader, Writer, pt_pcr,
};

use super::auth_policy::AuthPolicy;
use super::secret::{AuthValue, MAX_DIGEST};

/// The PCR that an H-CRTM extends.
const HCRTM_PCR: u32 = 0;
/// The PCR that a D-RTM extends.
pub(super) const DRTM_PCR: u32 = 17;
/// What PCR 0 holds before an H-CRTM extends it: the locality of its signals (Part 3, 22.9).
const HCRTM_LOCALITY: u8 = 4;

const PCRS: usize = IMPLEMENTATION_PCR as usize;

/// The fixed attributes of one PCR.
struct PcrAttributes {
    /// Shutdown(STATE) preserves it.
    saved: bool,
    /// A change does not count in pcrUpdateCounter.
    uncounted: bool,
    /// Localities that may reset it.
    reset: u8,
    /// Localities that may extend it.
    extend: u8,
}

/// PTP 1.05, table "PCR attributes". Bit n is locality n.
const fn attributes(pcr: u32) -> PcrAttributes {
    let (saved, uncounted, reset, extend) = match pcr {
        0..=15 => (true, false, 0, 0b1_1111),
        16 => (false, true, 0b0_1111, 0b1_1111),
        17 | 18 => (false, false, 0b1_0000, 0b1_1100),
        19 => (false, false, 0b1_0000, 0b0_1100),
        20 => (false, false, 0b1_0100, 0b0_1110),
        21 | 22 => (false, true, 0b1_0100, 0b0_0100),
        _ => (false, true, 0b0_1111, 0b1_1111),
    };
    PcrAttributes { saved, uncounted, reset, extend }
}

/// Whether a D-RTM resets the PCR: those that locality 4 may reset. They start as all ones.
const fn is_drtm(pcr: u32) -> bool {
    attributes(pcr).reset & (1 << HCRTM_LOCALITY) != 0
}

fn allows(localities: u8, locality: u8) -> bool {
    Locality::of(locality).is_some_and(|l| locality <= 4 && localities & l.bits() != 0)
}

/// Whether this PCR may be extended from this locality.
pub(super) fn may_extend(pcr: u32, locality: u8) -> bool {
    pcr < IMPLEMENTATION_PCR && allows(attributes(pcr).extend, locality)
}

/// Whether this PCR may be reset from this locality.
pub(super) fn may_reset(pcr: u32, locality: u8) -> bool {
    pcr < IMPLEMENTATION_PCR && allows(attributes(pcr).reset, locality)
}

/// Whether Shutdown(STATE) preserves this PCR.
pub(super) fn is_saved(pcr: u32) -> bool {
    attributes(pcr).saved
}

/// Whether this PCR has an authPolicy and an authValue: those that software of the dynamic root of trust resets. They
/// share one of each. The PTP asks for none; the reference implementation has these.
pub(super) fn has_authorization(pcr: u32) -> bool {
    matches!(pcr, 20..=22)
}

/// The PCR that have a property of TPM_CAP_PCR_PROPERTIES; `None` for a property that does not exist.
pub(super) fn with_property(property: u32) -> Option<[u8; PCRS / 8]> {
    let has = |pcr: u32| {
        let a = attributes(pcr);
        match property {
            pt_pcr::SAVE => Some(a.saved),
            // The odd properties are extending, the even ones resetting, by locality.
            pt_pcr::EXTEND_L0..=pt_pcr::RESET_L4 => {
                let locality = (property - 1) / 2;
                let set = if property % 2 == 1 { a.extend } else { a.reset };
                Some(set & (1 << locality) != 0)
            }
            pt_pcr::NO_INCREMENT => Some(a.uncounted),
            pt_pcr::DRTM_RESET => Some(is_drtm(pcr)),
            pt_pcr::POLICY | pt_pcr::AUTH => Some(has_authorization(pcr)),
            _ => None,
        }
    };
    let mut select = [0; PCRS / 8];
    for (octet, first) in select.iter_mut().zip((0u32..).step_by(8)) {
        for bit in 0..8 {
            *octet |= u8::from(has(first + bit)?) << bit;
        }
    }
    Some(select)
}

/// Which PCR each bank has, in the order of [`HashAlg::ALL`] (Part 1, 17.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation([PcrSelection; HashAlg::ALL.len()]);

impl Allocation {
    /// All PCR of these banks.
    pub(super) fn of(banks: &[HashAlg]) -> Self {
        let octet = |alg| if banks.contains(&alg) { 0xff } else { 0 };
        Self(HashAlg::ALL.map(|alg| PcrSelection { alg, select: [octet(alg); PCRS / 8] }))
    }

    /// This, but for the banks that `request` names.
    pub(super) fn with(mut self, request: &PcrSelectionList) -> Self {
        for wanted in request.iter() {
            self.0.iter_mut().filter(|s| s.alg == wanted.alg).for_each(|s| *s = *wanted);
        }
        self
    }

    /// Whether the roots of trust have a PCR in some bank (Part 3, 22.5).
    pub(super) fn has_roots(&self) -> bool {
        [HCRTM_PCR, DRTM_PCR].into_iter().all(|pcr| self.0.iter().any(|s| s.contains(pcr)))
    }

    /// The octets that the PCR take.
    pub(super) fn size(&self) -> u32 {
        self.0.iter().map(|s| s.alg.size() * s.iter().count()).sum::<usize>() as u32
    }

    /// The banks that have a PCR.
    pub(super) fn banks(&self) -> impl Iterator<Item = HashAlg> + '_ {
        self.0.iter().filter(|s| !s.is_empty()).map(|s| s.alg)
    }

    /// All banks, those without PCR, too.
    pub(super) fn selections(&self) -> PcrSelectionList {
        PcrSelectionList::from_slice(&self.0).unwrap_or_default()
    }

    fn bank(&self, alg: HashAlg) -> [u8; PCRS / 8] {
        self.0.iter().find(|s| s.alg == alg).map_or([0; PCRS / 8], |s| s.select)
    }

    fn save(&self, w: &mut Writer) {
        w.put(&self.selections());
    }

    fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let allocation = Self::of(&[]).with(&r.get()?);
        if allocation.has_roots() { Ok(allocation) } else { Err(at.error(ErrorKind::Value, "PCR allocation")) }
    }
}

/// What of PCR survives a loss of power.
pub(super) struct PcrSettings {
    /// The allocation from the next _TPM_Init on.
    pub(super) allocation: Allocation,
    /// The authPolicy of those that have one.
    pub(super) policy: AuthPolicy,
}

impl PcrSettings {
    /// The settings of a new TPM with these banks.
    pub(super) fn new(banks: &[HashAlg]) -> Self {
        Self { allocation: Allocation::of(banks), policy: AuthPolicy::default() }
    }

    /// Writes them for [`PcrSettings::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        self.allocation.save(w);
        w.put(&self.policy);
    }

    /// Reads what [`PcrSettings::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { allocation: Allocation::restore(r)?, policy: AuthPolicy::restore(r)? })
    }
}

/// The values of one bank.
type Bank = [Ha; PCRS];

/// All PCR.
#[derive(Clone)]
pub(super) struct Pcrs {
    allocation: Allocation,
    /// In the order of [`HashAlg::ALL`]; what is not allocated is there, but nobody sees it.
    banks: [Bank; HashAlg::ALL.len()],
    update_counter: u32,
    /// The authValue of those that have one, until the next TPM Reset or Restart.
    pub(super) auth: AuthValue,
}

/// The PCR that Shutdown(STATE) preserves.
pub(super) struct SavedPcrs(Pcrs);

impl SavedPcrs {
    /// Writes them for [`Pcrs::restore_from`].
    pub(super) fn save_to(&self, w: &mut Writer) {
        self.0.save_to(w);
    }
}

impl Pcrs {
    /// PCR as they are when power comes on.
    pub(super) fn new(allocation: Allocation) -> Self {
        Self {
            allocation,
            banks: HashAlg::ALL.map(|alg| [Ha::zero(alg); PCRS]),
            update_counter: 0,
            auth: AuthValue::default(),
        }
    }

    /// Which PCR there are.
    pub(super) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// TPM Reset and Restart: initial values (Part 3, 9.3).
    ///
    /// PCR 0 starts at the locality of the startup, unless an H-CRTM has given it its value. As in the reference
    /// implementation, an initial value is a change that pcrUpdateCounter counts.
    pub(super) fn startup_clear(&mut self, hcrtm: bool, locality: u8) {
        (0..IMPLEMENTATION_PCR).filter(|pcr| *pcr != HCRTM_PCR || !hcrtm).for_each(|pcr| self.count(pcr));
        self.for_each(|pcr, value| {
            if pcr == HCRTM_PCR && hcrtm {
                return;
            }
            value.fill(if is_drtm(pcr) { 0xff } else { 0 });
            if pcr == HCRTM_PCR {
                set_last(value, locality);
            }
        });
    }

    /// TPM Restart: the update counter goes on from where it was saved; a Reset starts it from zero.
    pub(super) fn startup_restart(&mut self, saved: &SavedPcrs) {
        self.update_counter = saved.0.update_counter;
    }

    /// TPM Resume: the saved PCR come back, the others get their initial values (Part 3, 9.3).
    pub(super) fn startup_state(&mut self, saved: &SavedPcrs) {
        *self = saved.0.clone();
        (0..IMPLEMENTATION_PCR).filter(|pcr| !is_saved(*pcr)).for_each(|pcr| self.count(pcr));
        self.for_each(|pcr, value| {
            if !is_saved(pcr) {
                value.fill(if is_drtm(pcr) { 0xff } else { 0 });
            }
        });
    }

    /// What Shutdown(STATE) preserves.
    pub(super) fn save(&self) -> SavedPcrs {
        SavedPcrs(self.clone())
    }

    /// Writes all values and the counter, for [`Pcrs::restore_from`].
    pub(super) fn save_to(&self, w: &mut Writer) {
        self.allocation.save(w);
        w.u32(self.update_counter);
        w.tpm2b(self.auth.as_bytes());
        self.allocation.banks().filter_map(|alg| self.bank(alg)).flatten().for_each(|value| w.put(value));
    }

    /// Reads what [`Pcrs::save_to`] has written.
    pub(super) fn restore_from(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        *self = Self::new(Allocation::restore(r)?);
        self.update_counter = r.u32("pcrUpdateCounter")?;
        self.auth = AuthValue::new(r.tpm2b(MAX_DIGEST, "authValue of PCR")?);
        let allocation = self.allocation;
        for alg in allocation.banks() {
            for value in self.bank_mut(alg).into_iter().flatten() {
                let at = r.clone();
                *value = r.get()?;
                if value.alg() != alg {
                    return Err(at.error(ErrorKind::Hash, "PCR"));
                }
            }
        }
        Ok(())
    }

    /// pcrUpdateCounter.
    pub(super) fn update_counter(&self) -> u32 {
        self.update_counter
    }

    /// TPM2_Clear: the authValues go, which counts as a change of PCR 0, as in the reference implementation.
    pub(super) fn clear_auth(&mut self) {
        self.auth = AuthValue::default();
        self.count(HCRTM_PCR);
    }

    /// The value of a PCR; `None` for a bank or PCR that does not exist.
    pub(super) fn read(&self, alg: HashAlg, pcr: u32) -> Option<&Ha> {
        let there = self.allocation.0.iter().any(|s| s.alg == alg && s.contains(pcr));
        self.bank(alg).filter(|_| there)?.get(usize::try_from(pcr).ok()?)
    }

    /// Extends a PCR in each bank that has a digest; digests for other banks are ignored (Part 3, 22.2).
    /// Each bank's change is counted, as in the reference implementation.
    pub(super) fn extend(&mut self, pcr: u32, digests: &DigestValues) {
        for digest in digests.iter() {
            if self.read(digest.alg(), pcr).is_none() {
                continue;
            }
            let place = self.bank_mut(digest.alg()).and_then(|b| b.get_mut(pcr as usize));
            if let Some(value) = place {
                let mut h = Hasher::new(digest.alg());
                h.update(value.as_bytes());
                h.update(digest.as_bytes());
                *value = h.finish();
                self.count(pcr);
            }
        }
    }

    /// Sets a PCR to zero in each bank (Part 3, 22.8).
    pub(super) fn reset(&mut self, pcr: u32) {
        self.for_each(|n, value| {
            if n == pcr {
                value.fill(0);
            }
        });
        self.count(pcr);
    }

    /// _TPM_Hash_Start after startup: the PCR of the D-RTM are zero (Part 3, 22.9).
    pub(super) fn drtm_reset(&mut self) {
        self.for_each(|pcr, value| {
            if is_drtm(pcr) {
                value.fill(0);
            }
        });
        self.count(DRTM_PCR);
    }

    /// _TPM_Hash_End before startup: PCR 0 is the extension of 0…04 by the digests (Part 3, 22.11).
    pub(super) fn hcrtm(&mut self, digests: &DigestValues) {
        self.for_each(|pcr, value| {
            if pcr == HCRTM_PCR {
                value.fill(0);
                set_last(value, HCRTM_LOCALITY);
            }
        });
        self.extend(HCRTM_PCR, digests);
    }

    /// Leaves in a selection only the PCR that exist (Part 3, 22.4).
    pub(super) fn filter(&self, selection: &PcrSelectionList) -> PcrSelectionList {
        let mut filtered = *selection;
        for s in filtered.iter_mut() {
            let there = self.allocation.bank(s.alg);
            s.select.iter_mut().zip(there).for_each(|(wanted, there)| *wanted &= there);
        }
        filtered
    }

    /// The digest of the concatenated values of a filtered selection (Part 2, 10.6.1).
    pub(super) fn digest(&self, alg: HashAlg, selection: &PcrSelectionList) -> Digest {
        let mut h = Hasher::new(alg);
        for s in selection.iter() {
            for value in s.iter().filter_map(|pcr| self.read(s.alg, pcr)) {
                h.update(value.as_bytes());
            }
        }
        h.finish().digest()
    }

    fn bank(&self, alg: HashAlg) -> Option<&Bank> {
        HashAlg::ALL.iter().zip(&self.banks).find(|(a, _)| **a == alg).map(|(_, bank)| bank)
    }

    fn bank_mut(&mut self, alg: HashAlg) -> Option<&mut Bank> {
        HashAlg::ALL.iter().zip(&mut self.banks).find(|(a, _)| **a == alg).map(|(_, bank)| bank)
    }

    fn for_each(&mut self, mut f: impl FnMut(u32, &mut [u8])) {
        for bank in &mut self.banks {
            for (pcr, value) in (0..).zip(bank.iter_mut()) {
                f(pcr, value.as_bytes_mut());
            }
        }
    }

    fn count(&mut self, pcr: u32) {
        if !attributes(pcr).uncounted {
            self.update_counter = self.update_counter.wrapping_add(1);
        }
    }
}

fn set_last(value: &mut [u8], to: u8) {
    if let Some(last) = value.last_mut() {
        *last = to;
    }
}

/// Hashes the same data for each bank: event sequences, PCR_Event and the H-CRTM.
#[derive(Clone)]
pub(super) struct HashSequence(Vec<Hasher>);

impl HashSequence {
    /// Begins a hash for each bank that there is.
    pub(super) fn new(pcrs: &Pcrs) -> Self {
        Self(pcrs.allocation.banks().map(Hasher::new).collect())
    }

    /// Adds data.
    pub(super) fn update(&mut self, data: &[u8]) {
        self.0.iter_mut().for_each(|h| h.update(data));
    }

    /// Writes the state for [`HashSequence::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u8(self.0.len() as u8);
        self.0.iter().for_each(|h| h.save(w));
    }

    /// Reads what [`HashSequence::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let at = r.clone();
        let count = r.u8("number of banks")?;
        let hashers = (0..count).map(|_| Hasher::restore(r)).collect::<Result<Vec<_>, _>>()?;
        // In the order of the banks, each no more than once.
        let ordered = hashers.is_sorted_by(|a, b| a.alg() < b.alg());
        if ordered { Ok(Self(hashers)) } else { Err(at.error(ErrorKind::Hash, "event sequence")) }
    }

    /// The digests, one for each bank.
    pub(super) fn finish(self) -> DigestValues {
        let digests: Vec<Ha> = self.0.into_iter().map(Hasher::finish).collect();
        DigestValues::from_slice(&digests).unwrap_or_default()
    }
}
