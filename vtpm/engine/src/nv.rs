//! NV Indexes (Part 1, 37): what they hold, who may use them, and what power does to them.
//!
//! An index with TPMA_NV_ORDERLY lives in RAM: beside its data it has the copy that a loss of power would leave,
//! which is brought up to date at TPM2_Shutdown, when it is locked, and every 256 steps of a counter.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bulla_tpm_types::{
    Error, ErrorKind, Handle, Marshal, Name, NvAttributes, NvKind, NvPin, NvPublic, Rc, Reader, Unmarshal, Writer, rc,
    rh,
};

use super::Tpm;
use super::secret::{AuthValue, MAX_DIGEST, Secret};
use super::selftest::TestSet;
use super::time::StartupKind;

/// TPM_PT_NV_INDEX_MAX: octets of data that an index can have.
pub(super) const MAX_INDEX_SIZE: u16 = 2048;
/// Octets for all indices together.
const SPACE: usize = 128 * 1024;
/// What an index takes of that beside its data.
const OVERHEAD: usize = 160;
/// So many counters can always be defined, whatever else there is.
const COUNTERS: usize = 8;
/// Octets of a counter, of bits and of a PIN.
pub(super) const NUMBER_SIZE: u16 = 8;
/// TPM_PT_ORDERLY_COUNT: how far an orderly counter can be ahead of its stored copy.
pub(super) const MAX_ORDERLY_COUNT: u64 = 0xff;

/// What a loss of power would leave of an orderly index.
struct Stored {
    attributes: NvAttributes,
    data: Secret,
}

/// An NV Index.
pub(super) struct Index {
    /// Its public area, with the attributes of now.
    pub(super) public: NvPublic,
    /// Its authValue.
    pub(super) auth: AuthValue,
    data: Secret,
    /// For orderly indices.
    stored: Option<Stored>,
}

impl Index {
    fn new(public: NvPublic, auth: AuthValue, data: Secret) -> Self {
        let mut index = Self { public, auth, data, stored: None };
        index.store();
        index
    }

    /// Whether all of these attributes are set.
    pub(super) fn has(&self, attributes: NvAttributes) -> bool {
        self.public.attributes.contains(attributes)
    }

    /// The type of the index.
    pub(super) fn kind(&self) -> NvKind {
        // Only indices of known types are defined.
        self.public.attributes.kind().unwrap_or(NvKind::Ordinary)
    }

    /// The index's Name.
    pub(super) fn name(&self) -> Name {
        self.public.name()
    }

    /// The data, as many octets as the index was defined with.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The data as a number: that of a counter or of bits.
    pub(super) fn number(&self) -> u64 {
        Reader::new(&self.data).u64("NV data").unwrap_or_default()
    }

    /// The data of a PIN index.
    fn pin(&self) -> NvPin {
        Reader::new(&self.data).get().unwrap_or_default()
    }

    /// Whether the authValue of a PIN index can be used (Part 1, 37.2.8): once it is written, and until the limit.
    pub(super) fn pin_is_available(&self) -> bool {
        let pin = self.pin();
        self.has(NvAttributes::WRITTEN) && pin.count < pin.limit
    }

    /// Whether who has authorized with handle `by` may read (Part 3, 31.1).
    ///
    /// # Errors
    /// TPM_RC_NV_LOCKED, TPM_RC_NV_AUTHORIZATION, then TPM_RC_NV_UNINITIALIZED: TPM2_NV_ReadLock goes by this order.
    pub(super) fn check_read(&self, by: Handle) -> Result<(), Rc> {
        if self.has(NvAttributes::READ_LOCKED) {
            return Err(rc::NV_LOCKED);
        }
        self.check_authorized(by, NvAttributes::OWNER_READ, NvAttributes::PP_READ)?;
        if self.has(NvAttributes::WRITTEN) { Ok(()) } else { Err(rc::NV_UNINITIALIZED) }
    }

    /// Whether who has authorized with handle `by` may write.
    ///
    /// # Errors
    /// TPM_RC_NV_LOCKED, then TPM_RC_NV_AUTHORIZATION.
    pub(super) fn check_write(&self, by: Handle) -> Result<(), Rc> {
        if self.has(NvAttributes::WRITE_LOCKED) {
            return Err(rc::NV_LOCKED);
        }
        self.check_authorized(by, NvAttributes::OWNER_WRITE, NvAttributes::PP_WRITE)
    }

    /// What the index's own authorization may do was seen when it was checked.
    fn check_authorized(&self, by: Handle, owner: NvAttributes, platform: NvAttributes) -> Result<(), Rc> {
        let allowed = match by {
            rh::OWNER => self.has(owner),
            rh::PLATFORM => self.has(platform),
            _ => by == self.public.index,
        };
        if allowed { Ok(()) } else { Err(rc::NV_AUTHORIZATION) }
    }

    /// Writes data; all others are zero if these are the first. False, and nothing happens, when they do not fit.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len()).filter(|end| *end <= self.data.len()) else {
            return false;
        };
        if !self.has(NvAttributes::WRITTEN) {
            self.data.fill(0);
            self.public.attributes = self.public.attributes | NvAttributes::WRITTEN;
        }
        if let Some(place) = self.data.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        true
    }

    /// Brings the copy that a loss of power leaves up to date, if the index has one.
    fn store(&mut self) {
        let orderly = self.has(NvAttributes::ORDERLY);
        self.stored = orderly.then(|| Stored { attributes: self.public.attributes, data: self.data.clone() });
    }

    /// Whether this change of an orderly counter has to be stored: the first, and each that leaves the 256 steps that
    /// a startup after a loss of power skips (Part 1, 37.2.4).
    fn is_ahead(&self) -> bool {
        let Some(stored) = self.stored.as_ref().filter(|_| self.kind() == NvKind::Counter) else {
            return false;
        };
        let before = Reader::new(&stored.data).u64("NV data").unwrap_or_default();
        !stored.attributes.contains(NvAttributes::WRITTEN)
            || before & !MAX_ORDERLY_COUNT != self.number() & !MAX_ORDERLY_COUNT
    }

    /// TPM Reset and TPM Restart (Part 1, 37.2.7; Part 2, 13.4).
    fn startup(&mut self, reset: bool, orderly: bool) {
        let mut attributes = self.public.attributes.without(NvAttributes::READ_LOCKED);
        let volatile = self.has(NvAttributes::CLEAR_ST_CLEAR) || (reset && self.has(NvAttributes::ORDERLY));
        let is_counter = self.kind() == NvKind::Counter;
        if volatile && !is_counter {
            attributes = attributes.without(NvAttributes::WRITTEN);
        }
        // A lock stays only with TPMA_NV_WRITEDEFINE, and only on what is written.
        if !attributes.contains(NvAttributes::WRITTEN.with(NvAttributes::WRITE_DEFINE)) {
            attributes = attributes.without(NvAttributes::WRITE_LOCKED);
        }
        self.public.attributes = attributes;
        if is_counter && !orderly && self.has(NvAttributes::ORDERLY) {
            let last = self.number() | MAX_ORDERLY_COUNT;
            self.data.copy_from_slice(&last.to_be_bytes());
        }
    }
}

/// The NV Indexes.
#[derive(Default)]
pub(super) struct Nv {
    indices: BTreeMap<Handle, Index>,
    /// The largest value that a counter had which is no more: the next one starts above it (Part 1, 37.2.4).
    max_count: u64,
}

impl Nv {
    /// The index of a handle.
    pub(super) fn get(&self, handle: Handle) -> Option<&Index> {
        self.indices.get(&handle)
    }

    /// The handles of the indices, in ascending order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.indices.keys().copied()
    }

    /// TPM_PT_NV_COUNTERS.
    pub(super) fn counters(&self) -> usize {
        self.indices.values().filter(|i| i.kind() == NvKind::Counter).count()
    }

    /// TPM_PT_NV_COUNTERS_AVAIL.
    pub(super) fn counters_available(&self) -> usize {
        SPACE.saturating_sub(self.used()) / (OVERHEAD + usize::from(NUMBER_SIZE))
    }

    /// Octets of the space for indices that are taken; no fewer than [`Nv::save`] needs.
    pub(super) fn used(&self) -> usize {
        self.indices.values().map(|i| OVERHEAD + i.data.len()).sum()
    }

    /// The tests of the algorithms that the indices' Names are made with.
    pub(super) fn tests(&self) -> TestSet {
        self.indices.values().fold(TestSet::default(), |all, i| all | TestSet::hash(i.public.name_alg))
    }

    /// Defines an index, whose public area has been checked.
    ///
    /// # Errors
    /// TPM_RC_NV_DEFINED when there is one with this handle, TPM_RC_NV_SPACE when there is no room.
    pub(super) fn define(&mut self, public: NvPublic, auth: AuthValue) -> Result<(), Rc> {
        if self.indices.contains_key(&public.index) {
            return Err(rc::NV_DEFINED);
        }
        let counter = OVERHEAD + usize::from(NUMBER_SIZE);
        let is_counter = public.attributes.kind() == Some(NvKind::Counter);
        let kept = if is_counter { 0 } else { COUNTERS.saturating_sub(self.counters()) * counter };
        if self.used() + OVERHEAD + usize::from(public.data_size) + kept > SPACE {
            return Err(rc::NV_SPACE);
        }
        let data = Secret::new(vec![0; usize::from(public.data_size)].into());
        self.indices.insert(public.index, Index::new(public, auth, data));
        Ok(())
    }

    /// Removes an index, if it is there.
    pub(super) fn undefine(&mut self, handle: Handle) {
        if let Some(index) = self.indices.remove(&handle)
            && index.kind() == NvKind::Counter
            && index.has(NvAttributes::WRITTEN)
        {
            self.max_count = self.max_count.max(index.number());
        }
    }

    /// TPM2_Clear: the owner's indices go (Part 3, 24.6).
    pub(super) fn clear_owner(&mut self) {
        let of_owner = |i: &&Index| !i.has(NvAttributes::PLATFORM_CREATE);
        let gone: Vec<Handle> = self.indices.values().filter(of_owner).map(|i| i.public.index).collect();
        gone.into_iter().for_each(|handle| self.undefine(handle));
    }

    /// TPM2_NV_GlobalWriteLock (Part 3, 31.12).
    pub(super) fn lock_global(&mut self) {
        for index in self.indices.values_mut().filter(|i| i.has(NvAttributes::GLOBAL_LOCK)) {
            index.public.attributes = index.public.attributes | NvAttributes::WRITE_LOCKED;
            index.store();
        }
    }

    /// TPM2_Shutdown: nothing is in RAM only.
    pub(super) fn store(&mut self) {
        self.indices.values_mut().for_each(Index::store);
    }

    /// Power is lost: orderly indices are as they were last stored.
    pub(super) fn lose_power(&mut self) {
        for index in self.indices.values_mut() {
            if let Some(stored) = &index.stored {
                index.public.attributes = stored.attributes;
                index.data = stored.data.clone();
            }
        }
    }

    /// TPM2_Startup, which `orderly` says was prepared by a TPM2_Shutdown.
    pub(super) fn startup(&mut self, kind: StartupKind, orderly: bool) {
        if kind != StartupKind::Resume {
            let reset = kind == StartupKind::Reset;
            self.indices.values_mut().for_each(|i| i.startup(reset, orderly));
        }
    }

    /// Writes what survives a loss of power, for [`Nv::restore`].
    pub(super) fn save(&self, w: &mut Writer) {
        w.u64(self.max_count);
        w.u32(self.indices.len() as u32);
        for index in self.indices.values() {
            let (attributes, data) = match &index.stored {
                Some(stored) => (stored.attributes, &stored.data),
                None => (index.public.attributes, &index.data),
            };
            NvPublic { attributes, ..index.public }.marshal(w);
            w.tpm2b(index.auth.as_bytes());
            w.tpm2b(data);
        }
    }

    /// Writes what is in RAM only, for [`Nv::restore_volatile`].
    pub(super) fn save_volatile(&self, w: &mut Writer) {
        for index in self.indices.values().filter(|i| i.stored.is_some()) {
            w.put(&index.public.attributes);
            w.tpm2b(&index.data);
        }
    }

    /// Reads what [`Nv::save_volatile`] has written, into the indices that [`Nv::save`] has written with it.
    pub(super) fn restore_volatile(&mut self, r: &mut Reader<'_>) -> Result<(), Error> {
        // What a command or startup can change while power is on; the rest is as it was defined.
        let states = NvAttributes::WRITTEN | NvAttributes::WRITE_LOCKED | NvAttributes::READ_LOCKED;
        for index in self.indices.values_mut().filter(|i| i.stored.is_some()) {
            let at = r.clone();
            let attributes: NvAttributes = r.get()?;
            let data = r.tpm2b(index.data.len(), "data of an NV Index")?;
            let defined = index.public.attributes.without(states);
            if attributes.without(states) != defined || data.len() != index.data.len() {
                return Err(at.error(ErrorKind::Value, "orderly NV Index"));
            }
            index.public.attributes = attributes;
            index.data.copy_from_slice(data);
        }
        Ok(())
    }

    /// Reads what [`Nv::save`] has written.
    pub(super) fn restore(r: &mut Reader<'_>) -> Result<Self, Error> {
        let mut nv = Self { max_count: r.u64("maxCount")?, ..Self::default() };
        for _ in 0..r.u32("number of NV Indexes")? {
            let at = r.clone();
            let bad = |what| at.error(ErrorKind::Value, what);
            let public = NvPublic::unmarshal(r)?;
            if public.attributes.kind().is_none() {
                return Err(bad("TPM_NT"));
            }
            let auth = AuthValue::new(r.tpm2b(MAX_DIGEST, "authValue of an NV Index")?);
            let data = r.tpm2b(usize::from(MAX_INDEX_SIZE), "data of an NV Index")?;
            let wanted = match public.attributes.kind() {
                Some(NvKind::Ordinary) => usize::from(public.data_size),
                Some(NvKind::Extend) => public.name_alg.size(),
                _ => usize::from(NUMBER_SIZE),
            };
            if data.len() != wanted || data.len() != usize::from(public.data_size) {
                return Err(bad("dataSize of an NV Index"));
            }
            // In ascending order, so that each is there once; no more than fit.
            if nv.indices.last_key_value().is_some_and(|(last, _)| *last >= public.index) {
                return Err(bad("handle of an NV Index"));
            }
            nv.indices.insert(public.index, Index::new(public, auth, Secret::new(data.into())));
            if nv.used() > SPACE {
                return Err(bad("size of all NV Indexes"));
            }
        }
        Ok(nv)
    }
}

impl Tpm {
    /// The index of handle `handle` of a command, which was there when its handles were checked.
    pub(super) fn nv_index(&self, handle: Handle) -> Result<&Index, Rc> {
        self.nv.get(handle).ok_or(rc::HANDLE)
    }

    /// Whether the hierarchy of an index is enabled, so that the index can be used (Part 1, 37.2.6): shEnable for the
    /// owner's indices, phEnableNV for the platform's.
    pub(super) fn nv_is_enabled(&self, platform: bool) -> bool {
        self.hierarchies.is_enabled(if platform { rh::PLATFORM_NV } else { rh::OWNER })
    }

    /// Whether an index is there and enabled.
    pub(super) fn nv_is_accessible(&self, handle: Handle) -> bool {
        self.nv.get(handle).is_some_and(|i| self.nv_is_enabled(i.has(NvAttributes::PLATFORM_CREATE)))
    }

    /// Writes data of an index and sets TPMA_NV_WRITTEN.
    ///
    /// # Errors
    /// TPM_RC_NV_RANGE when they do not fit; nothing is written then.
    pub(super) fn nv_write(&mut self, handle: Handle, offset: usize, bytes: &[u8]) -> Result<(), Rc> {
        let index = self.nv.indices.get_mut(&handle).ok_or(rc::HANDLE)?;
        if !index.write(offset, bytes) {
            return Err(rc::NV_RANGE);
        }
        let ahead = index.is_ahead();
        if ahead {
            index.store();
        }
        if index.stored.is_none() || ahead {
            self.permanent_changed();
        } else {
            // What a shutdown has stored is not what is in RAM now.
            self.forget_shutdown();
        }
        Ok(())
    }

    /// TPM2_NV_Increment: answers nothing. A counter that has not been written starts above all that are gone.
    pub(super) fn nv_increment(&mut self, handle: Handle) -> Result<(), Rc> {
        let index = self.nv.get(handle).ok_or(rc::HANDLE)?;
        let before = if index.has(NvAttributes::WRITTEN) { index.number() } else { self.nv.max_count };
        // 2^64 steps are out of reach, but a counter never goes back.
        self.nv_write(handle, 0, &before.saturating_add(1).to_be_bytes())
    }

    /// Sets attributes of an index, for good until a startup clears them.
    pub(super) fn nv_set(&mut self, handle: Handle, attributes: NvAttributes) {
        if let Some(index) = self.nv.indices.get_mut(&handle) {
            index.public.attributes = index.public.attributes | attributes;
            index.store();
        }
        self.permanent_changed();
    }

    /// Sets the authValue of an index.
    pub(super) fn nv_set_auth(&mut self, handle: Handle, auth: AuthValue) {
        if let Some(index) = self.nv.indices.get_mut(&handle) {
            index.auth = auth;
        }
        self.permanent_changed();
    }

    /// The authValue of an entity was given, right or wrong: a PIN index counts that (Part 1, 37.2.8).
    pub(super) fn nv_count_pin(&mut self, handle: Handle, right: bool) {
        let Some(index) = self.nv.get(handle).filter(|i| i.has(NvAttributes::WRITTEN)) else {
            return;
        };
        let mut pin = index.pin();
        pin.count = match (index.kind(), right) {
            (NvKind::PinFail, true) => 0,
            (NvKind::PinFail, false) | (NvKind::PinPass, true) => pin.count.saturating_add(1),
            _ => return,
        };
        // A PIN always has room for its eight octets.
        let _ = self.nv_write(handle, 0, &pin.to_vec());
    }
}
