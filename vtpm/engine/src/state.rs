//! The TPM's state as bytes: what survives a loss of power, and what a suspended machine takes along.
//!
//! Two forms, *permanent* and *volatile*, of one make:
//!
//! ```text
//! magic "bullaTPM" · format u16 = 1 · which u8 (1 permanent, 2 volatile)
//! then sections, in ascending order of their tags:  tag u16 · version u8 · length u32 · body
//! ```
//!
//! Numbers are big-endian, as everything of a TPM's. The bytes are neither encrypted nor authenticated: whoever stores
//! them does both. Reading them trusts nothing all the same.
//!
//! # The rule of compatibility
//!
//! - What a section means under one version never changes. A change of it is a new version of the section, and
//!   its reader knows all versions before: **every state that any release has written is read by every later release**
//!   (`vtpm/tests/states` has one of each).
//! - A section that older releases did not write says here what its absence means; the others are required.
//! - An unknown section whose tag has [`OPTIONAL`] set is left out: an older release reads the state of a newer one as
//!   far as it understands it. A newer release sets that bit only on what may be forgotten without harm, since the older
//!   one forgets it when it next stores. Any other unknown section, and a newer version of a known one, is an error
//!   that says so: better no TPM than one that has lost a part of itself.
//! - `format` changes only if this frame does.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bulla_tpm_types::{Error, ErrorKind, Handle, Reader, Writer, rh};
use zeroize::Zeroizing;

use super::audit::{CommandAudit, restore_digest, save_digest};
use super::context::{read_sized_object, write_object};
use super::nv::Nv;
use super::object::{PERSISTENT, SLOTS};
use super::pcr::{HashSequence, PcrSettings};
use super::platform::{Clock, Entropy, Storage, StorageError};
use super::profile::{Profile, VendorString};
use super::session::Sessions;
use super::{Mode, SavedState, Shutdown, Tpm};

/// No state is larger.
pub const MAX_STATE_SIZE: usize = 192 << 10;

const MAGIC: &[u8; 8] = b"bullaTPM";
const FORMAT: u16 = 1;
const PERMANENT_STATE: u8 = 1;
const VOLATILE_STATE: u8 = 2;

/// In a section's tag: releases that do not know the section may leave it out.
const OPTIONAL: u16 = 0x8000;

/// Room for everything but objects and NV indices.
const USUAL_STATE: usize = 8 << 10;
/// Room for one object.
const USUAL_OBJECT: usize = 3 << 10;

/// Why bytes are not a state of this TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// They do not begin as a state does.
    #[error("not a TPM state of this kind: {0}")]
    Header(Error),
    /// They are of a format that a newer release writes.
    #[error("a TPM state of format {0}, which a newer release has written")]
    Format(u16),
    /// They are more than a state can be.
    #[error("a TPM state of {0} bytes; the largest has {MAX_STATE_SIZE}")]
    TooLong(usize),
    /// A section's frame is broken.
    #[error("in the frame of a section of the TPM state: {0}")]
    Frame(Error),
    /// A section that this release does not know and must not leave out.
    #[error("the TPM state has a section {tag:#06x} at byte {offset} that this release does not know")]
    UnknownSection {
        /// Its tag.
        tag: u16,
        /// Where it begins.
        offset: usize,
    },
    /// A section of a version that a newer release writes.
    #[error(
        "the section {name:?} at byte {offset} of the TPM state is of version {version}, which this release cannot read"
    )]
    SectionVersion {
        /// The section's name.
        name: &'static str,
        /// Its version.
        version: u8,
        /// Where it begins.
        offset: usize,
    },
    /// A section comes twice, or before one with a smaller tag.
    #[error("the section {tag:#06x} at byte {offset} of the TPM state is out of order")]
    Order {
        /// Its tag.
        tag: u16,
        /// Where it begins.
        offset: usize,
    },
    /// A section that every state has is not there.
    #[error("the TPM state has no section {0:?}")]
    Missing(&'static str),
    /// A section does not have its form.
    #[error("in the section {name:?} of the TPM state: {error}")]
    Section {
        /// The section's name.
        name: &'static str,
        /// What is wrong, counted from the beginning of the state.
        error: Error,
    },
}

/// What a section's body is read with: the section's version, and the body.
type Restore = fn(&mut Tpm, u8, &mut Reader<'_>) -> Result<(), Error>;

/// A part of the state, kept by one module.
struct Section {
    tag: u16,
    name: &'static str,
    /// The newest version, which is the one that is written.
    version: u8,
    /// Whether states without it are no states. A section that is not required was added later: without it, the
    /// TPM is as it was manufactured in that respect.
    required: bool,
    save: fn(&Tpm, &mut Writer),
    restore: Restore,
}

/// What survives a loss of power. In ascending order of tags; a tag is never used again for something else.
const PERMANENT: &[Section] = &[
    Section {
        tag: 0x0001,
        name: "hierarchies",
        version: 1,
        required: true,
        save: |tpm, w| tpm.hierarchies.save(w),
        restore: |tpm, _, r| tpm.hierarchies.restore(r),
    },
    Section {
        tag: 0x0002,
        name: "time",
        version: 1,
        required: true,
        save: |tpm, w| tpm.time.save(w),
        restore: |tpm, _, r| tpm.time.restore(r),
    },
    Section {
        tag: 0x0003,
        name: "lockout",
        version: 1,
        required: true,
        save: |tpm, w| tpm.lockout.save(w),
        restore: |tpm, _, r| tpm.lockout.restore(r),
    },
    Section {
        tag: 0x0004,
        name: "epochs",
        version: 1,
        required: true,
        save: |tpm, w| tpm.epochs.save(w),
        restore: |tpm, _, r| tpm.epochs.restore(r),
    },
    Section {
        tag: 0x0005,
        name: "persistent objects",
        version: 1,
        required: true,
        save: save_persistent,
        restore: restore_persistent,
    },
    Section {
        tag: 0x0006,
        name: "shutdown",
        version: 1,
        required: true,
        save: save_shutdown,
        restore: restore_shutdown,
    },
    Section {
        tag: 0x0007,
        name: "NV indices",
        version: 1,
        required: true,
        save: |tpm, w| tpm.nv.save(w),
        restore: |tpm, _, r| {
            tpm.nv = Nv::restore(r)?;
            Ok(())
        },
    },
    Section {
        tag: 0x0008,
        name: "manufacture",
        version: 1,
        required: true,
        save: |tpm, w| {
            tpm.vendor.save(w);
            w.u32(tpm.algorithm_set);
            w.u8(u8::from(tpm.established));
        },
        restore: |tpm, _, r| {
            tpm.vendor = VendorString::restore(r)?;
            tpm.algorithm_set = r.u32("algorithm set")?;
            tpm.established = flag(r, "tpmEstablished")?;
            Ok(())
        },
    },
    Section {
        tag: 0x0009,
        name: "command audit",
        version: 1,
        required: true,
        save: |tpm, w| tpm.audit.save(w),
        restore: |tpm, _, r| {
            tpm.audit = CommandAudit::restore(r)?;
            Ok(())
        },
    },
    Section {
        tag: 0x000a,
        name: "physical presence",
        version: 1,
        required: true,
        save: |tpm, w| tpm.presence.save(w),
        restore: |tpm, _, r| tpm.presence.restore(r),
    },
    Section {
        tag: 0x000b,
        name: "PCR settings",
        version: 1,
        required: true,
        save: |tpm, w| tpm.pcr_settings.save(w),
        restore: |tpm, _, r| {
            tpm.pcr_settings = PcrSettings::restore(r)?;
            Ok(())
        },
    },
];

/// What a loss of power would end, for a machine that is suspended or moved. In ascending order of tags.
const VOLATILE: &[Section] = &[
    Section { tag: 0x0101, name: "power", version: 1, required: true, save: save_power, restore: restore_power },
    Section {
        tag: 0x0102,
        name: "clock",
        version: 1,
        required: true,
        save: |tpm, w| tpm.time.save_volatile(w),
        restore: |tpm, _, r| {
            let now = tpm.clock.now_ms();
            tpm.time.restore_volatile(r, now)
        },
    },
    Section {
        tag: 0x0103,
        name: "PCR",
        version: 1,
        required: true,
        save: |tpm, w| tpm.pcrs.save_to(w),
        restore: |tpm, _, r| tpm.pcrs.restore_from(r),
    },
    Section {
        tag: 0x0104,
        name: "sessions",
        version: 1,
        required: true,
        save: |tpm, w| tpm.sessions.save(w),
        restore: |tpm, _, r| {
            tpm.sessions = Sessions::restore(r)?;
            Ok(())
        },
    },
    Section {
        tag: 0x0105,
        name: "transient objects",
        version: 1,
        required: true,
        save: save_transient,
        restore: restore_transient,
    },
    Section {
        tag: 0x0106,
        name: "hash sequence",
        version: 1,
        required: true,
        save: |tpm, w| {
            w.u8(u8::from(tpm.hash.is_some()));
            if let Some(hash) = &tpm.hash {
                hash.save(w);
            }
        },
        restore: |tpm, _, r| {
            tpm.hash = if flag(r, "hash sequence")? { Some(HashSequence::restore(r)?) } else { None };
            Ok(())
        },
    },
    Section {
        tag: 0x0107,
        name: "recovery",
        version: 1,
        required: true,
        save: |tpm, w| tpm.lockout.save_volatile(w),
        restore: |tpm, _, r| tpm.lockout.restore_volatile(r),
    },
    Section {
        tag: 0x0108,
        name: "orderly NV indices",
        version: 1,
        required: true,
        save: |tpm, w| tpm.nv.save_volatile(w),
        restore: |tpm, _, r| tpm.nv.restore_volatile(r),
    },
    Section {
        tag: 0x0109,
        name: "audit digest",
        version: 1,
        required: true,
        save: |tpm, w| save_digest(w, tpm.audit.saved_digest()),
        restore: |tpm, _, r| {
            tpm.audit.resume(restore_digest(r)?);
            Ok(())
        },
    },
];

impl Tpm {
    /// Where the TPM keeps what survives a loss of power; nowhere unless this is called. The state, if it has changed or
    /// is new, is stored by the next [`Tpm::init`] or command.
    pub fn set_storage(&mut self, storage: Box<dyn Storage>) {
        self.storage = storage;
    }

    /// What survives a loss of power, for [`Tpm::load`]. It holds every secret of the TPM.
    #[must_use]
    pub fn permanent(&self) -> Zeroizing<Vec<u8>> {
        save(self, PERMANENT_STATE, PERMANENT)
    }

    /// A TPM from what [`Tpm::permanent`] has answered or a [`Storage`] was given: powered off, without a storage.
    ///
    /// If `entropy` fails, the TPM is in failure mode until it is switched on with entropy that works.
    ///
    /// # Errors
    /// When `permanent` is not the permanent state of a TPM that this release knows.
    pub fn load(entropy: Box<dyn Entropy>, clock: Box<dyn Clock>, permanent: &[u8]) -> Result<Self, StateError> {
        let mut tpm = Self::without_seeds(&Profile::default(), entropy, clock);
        restore(&mut tpm, PERMANENT_STATE, PERMANENT, permanent)?;
        tpm.changed = false;
        #[cfg(test)]
        {
            tpm.stored = tpm.lasting();
        }
        Ok(tpm)
    }

    /// What a loss of power would end: for a machine that is suspended or moved with its TPM, together with
    /// [`Tpm::permanent`]. It holds secrets.
    #[must_use]
    pub fn volatile(&self) -> Zeroizing<Vec<u8>> {
        save(self, VOLATILE_STATE, VOLATILE)
    }

    /// Goes on where [`Tpm::volatile`] was asked: call it in [`Tpm::init`]'s place, after [`Tpm::load`] with the permanent
    /// state of the same moment. The time between does not count.
    ///
    /// # Errors
    /// When `volatile` is not the volatile state that goes with this TPM's permanent state. The TPM is then powered off.
    pub fn restore_volatile(&mut self, volatile: &[u8]) -> Result<(), StateError> {
        self.init();
        let restored = restore(self, VOLATILE_STATE, VOLATILE, volatile);
        if restored.is_err() {
            self.init();
            self.mode = Mode::Off;
        }
        restored
    }

    /// The state is known to be an older one, or a copy: another TPM may have gone on from the same one.
    ///
    /// The next startup is a TPM Reset whatever was saved, resetCount moves on by `resets` beside it, and Clock is not `safe`
    /// any more until TPM2_Clear. `resets` is at least the number of resets that may have been reported elsewhere.
    /// For a TPM that is powered off.
    pub fn diverge(&mut self, resets: u32) {
        self.shutdown = None;
        self.time.diverge(resets);
        self.permanent_changed();
    }

    /// Stores what has changed, before anyone learns of it. When that fails the TPM is in failure mode (Part 1, 12.4): the
    /// change was made and cannot be promised, so TPM_RC_NV_UNAVAILABLE, which says that nothing happened (Part 3, 5.5),
    /// would be untrue. The next power-on tries again.
    pub(super) fn store_changes(&mut self) -> Result<(), StorageError> {
        if self.changed && self.mode != Mode::Failed {
            let state = self.permanent();
            if let Err(error) = self.storage.store(&state) {
                self.fail();
                return Err(error);
            }
            self.changed = false;
            #[cfg(test)]
            {
                self.stored = self.lasting();
            }
        }
        #[cfg(test)]
        assert!(
            self.mode == Mode::Failed || self.stored == self.lasting(),
            "something that survives a loss of power has changed without permanent_changed()"
        );
        Ok(())
    }

    /// For every test of this crate: what must have been stored when a response leaves. Not what goes on with the time,
    /// which is stored now and then, nor the number of saved objects, which only has to differ between resets.
    #[cfg(test)]
    fn lasting(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let sections = PERMANENT.iter().filter(|s| !matches!(s.name, "time" | "epochs" | "lockout"));
        sections.for_each(|s| (s.save)(self, &mut w));
        w.u32(self.lockout.failed_tries());
        w.into_vec()
    }
}

fn save(tpm: &Tpm, which: u8, sections: &[Section]) -> Zeroizing<Vec<u8>> {
    // Enough room from the start: a vector that grows leaves copies of secrets behind.
    let objects = tpm.objects.persistent().count() + tpm.objects.handles().count();
    let mut w = Writer::from_vec(Vec::with_capacity(USUAL_STATE + objects * USUAL_OBJECT + tpm.nv.used()));
    w.bytes(MAGIC);
    w.u16(FORMAT);
    w.u8(which);
    for section in sections {
        w.u16(section.tag);
        w.u8(section.version);
        let at = w.len();
        w.u32(0);
        (section.save)(tpm, &mut w);
        let len = (w.len() - at - 4) as u32;
        w.patch(at, &len.to_be_bytes());
    }
    Zeroizing::new(w.into_vec())
}

fn restore(tpm: &mut Tpm, which: u8, sections: &[Section], state: &[u8]) -> Result<(), StateError> {
    if state.len() > MAX_STATE_SIZE {
        return Err(StateError::TooLong(state.len()));
    }
    let mut r = Reader::new(state);
    header(&mut r, which)?;
    let mut expected = sections.iter();
    let mut last = None;
    while !r.is_empty() {
        let offset = r.offset();
        let tag = r.u16("section tag").map_err(StateError::Frame)?;
        let version = r.u8("section version").map_err(StateError::Frame)?;
        let mut body = body(&mut r).map_err(StateError::Frame)?;
        let order = tag & !OPTIONAL;
        if last.is_some_and(|last| last >= order) {
            return Err(StateError::Order { tag, offset });
        }
        last = Some(order);
        let Some(section) = sections.iter().find(|s| s.tag == tag) else {
            if tag & OPTIONAL != 0 {
                continue;
            }
            return Err(StateError::UnknownSection { tag, offset });
        };
        // Those in between are not there.
        for skipped in expected.by_ref().take_while(|s| s.tag != tag) {
            absent(skipped)?;
        }
        let name = section.name;
        if version == 0 || version > section.version {
            return Err(StateError::SectionVersion { name, version, offset });
        }
        (section.restore)(tpm, version, &mut body).map_err(|error| StateError::Section { name, error })?;
        if !body.is_empty() {
            let error = body.error(ErrorKind::Size, "trailing bytes");
            return Err(StateError::Section { name, error });
        }
    }
    expected.try_for_each(absent)
}

fn header(r: &mut Reader<'_>, which: u8) -> Result<(), StateError> {
    let at = r.clone();
    if r.take(MAGIC.len(), "magic").map_err(StateError::Header)? != MAGIC {
        return Err(StateError::Header(at.error(ErrorKind::Value, "magic")));
    }
    let format = r.u16("format").map_err(StateError::Header)?;
    if format != FORMAT {
        return Err(StateError::Format(format));
    }
    let at = r.clone();
    if r.u8("kind of state").map_err(StateError::Header)? != which {
        return Err(StateError::Header(at.error(ErrorKind::Value, "kind of state")));
    }
    Ok(())
}

/// A section's body, whose offsets are those of the whole.
fn body<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>, Error> {
    let at = r.clone();
    let len = r.u32("section length")?;
    let len = usize::try_from(len).map_err(|_| at.error(ErrorKind::Size, "section length"))?;
    r.part(len, "section")
}

fn absent(section: &Section) -> Result<(), StateError> {
    if section.required { Err(StateError::Missing(section.name)) } else { Ok(()) }
}

/// A byte that is 0 or 1.
pub(super) fn flag(r: &mut Reader<'_>, what: &'static str) -> Result<bool, Error> {
    let at = r.clone();
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(at.error(ErrorKind::Value, what)),
    }
}

fn save_persistent(tpm: &Tpm, w: &mut Writer) {
    w.u16(tpm.objects.persistent().count() as u16);
    for handle in tpm.objects.persistent() {
        if let Some(object) = tpm.objects.get(handle) {
            w.put(&handle);
            w.put(&object.key().map_or(rh::NULL, |k| k.hierarchy));
            w.sized(|w| write_object(w, object));
        }
    }
}

fn restore_persistent(tpm: &mut Tpm, _: u8, r: &mut Reader<'_>) -> Result<(), Error> {
    const WHAT: &str = "persistent object";
    let at = r.clone();
    let count = usize::from(r.u16("number of persistent objects")?);
    if count > PERSISTENT {
        return Err(at.error(ErrorKind::Size, "number of persistent objects"));
    }
    for _ in 0..count {
        let at = r.clone();
        let handle: Handle = r.get()?;
        let hierarchy: Handle = r.get()?;
        if handle.handle_type() != bulla_tpm_types::ht::PERSISTENT
            || !matches!(hierarchy, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM)
        {
            return Err(at.error(ErrorKind::Value, WHAT));
        }
        let object = read_sized_object(r, hierarchy)?;
        if object.key().is_none() {
            return Err(at.error(ErrorKind::Type, WHAT));
        }
        tpm.objects.persist(handle, object).map_err(|_| at.error(ErrorKind::Value, WHAT))?;
    }
    Ok(())
}

fn save_shutdown(tpm: &Tpm, w: &mut Writer) {
    match &tpm.shutdown {
        None => w.u8(0),
        Some(Shutdown::Clear) => w.u8(1),
        Some(Shutdown::State(saved)) => {
            w.u8(2);
            saved.pcrs.save_to(w);
            saved.sessions.save(w);
            w.u8(u8::from(saved.hcrtm));
            w.u8(u8::from(saved.locality_three));
            save_digest(w, saved.audit);
        }
    }
}

fn restore_shutdown(tpm: &mut Tpm, _: u8, r: &mut Reader<'_>) -> Result<(), Error> {
    let at = r.clone();
    tpm.shutdown = match r.u8("kind of shutdown")? {
        0 => None,
        1 => Some(Shutdown::Clear),
        2 => {
            let mut pcrs = tpm.pcrs.clone();
            pcrs.restore_from(r)?;
            Some(Shutdown::State(Box::new(SavedState {
                pcrs: pcrs.save(),
                sessions: Sessions::restore(r)?.outside(),
                hcrtm: flag(r, "hcrtm")?,
                locality_three: flag(r, "locality of startup")?,
                audit: restore_digest(r)?,
            })))
        }
        _ => return Err(at.error(ErrorKind::Value, "kind of shutdown")),
    };
    Ok(())
}

fn save_power(tpm: &Tpm, w: &mut Writer) {
    w.u8(match tpm.mode {
        Mode::Off => 0,
        Mode::Initialized => 1,
        Mode::Operational => 2,
        Mode::Failed => 3,
    });
    tpm.epochs.save_boot(w);
    for yes in [tpm.hcrtm, tpm.locality_three, tpm.orderly] {
        w.u8(u8::from(yes));
    }
    w.bytes(&tpm.power_epoch);
}

fn restore_power(tpm: &mut Tpm, _: u8, r: &mut Reader<'_>) -> Result<(), Error> {
    let at = r.clone();
    let mode = match r.u8("mode")? {
        0 => Mode::Off,
        1 => Mode::Initialized,
        2 => Mode::Operational,
        3 => Mode::Failed,
        _ => return Err(at.error(ErrorKind::Value, "mode")),
    };
    // Of another TPM, or of this one before another startup: its sessions and objects are void.
    let at = r.clone();
    if !tpm.epochs.is_same_boot(r)? {
        return Err(at.error(ErrorKind::Value, "boot that the state is of"));
    }
    tpm.hcrtm = flag(r, "hcrtm")?;
    tpm.locality_three = flag(r, "locality of startup")?;
    tpm.orderly = flag(r, "orderly")?;
    tpm.power_epoch = r.array("power epoch")?;
    // A source of entropy that fails here and now is this TPM's failure, whatever it was before.
    if tpm.mode != Mode::Failed {
        tpm.mode = mode;
    }
    Ok(())
}

fn save_transient(tpm: &Tpm, w: &mut Writer) {
    w.u8(tpm.objects.handles().count() as u8);
    for handle in tpm.objects.handles() {
        if let Some(object) = tpm.objects.get(handle) {
            w.put(&handle);
            w.put(&object.key().map_or(rh::NULL, |k| k.hierarchy));
            w.sized(|w| write_object(w, object));
        }
    }
}

fn restore_transient(tpm: &mut Tpm, _: u8, r: &mut Reader<'_>) -> Result<(), Error> {
    const WHAT: &str = "transient object";
    let at = r.clone();
    let count = usize::from(r.u8("number of transient objects")?);
    if count > SLOTS {
        return Err(at.error(ErrorKind::Size, "number of transient objects"));
    }
    for _ in 0..count {
        let at = r.clone();
        let handle: Handle = r.get()?;
        let hierarchy: Handle = r.get()?;
        if !super::table::is_hierarchy(hierarchy) {
            return Err(at.error(ErrorKind::Value, WHAT));
        }
        let object = read_sized_object(r, hierarchy)?;
        if !tpm.objects.put(handle, object) {
            return Err(at.error(ErrorKind::Value, WHAT));
        }
    }
    Ok(())
}
