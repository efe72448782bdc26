//! The command table: what each command takes before its parameters, and who executes it.

use bulla_tpm_types::{CommandAttributes, Handle, IMPLEMENTATION_PCR, Rc, cc, ht, rc, rh};

use super::Tpm;
use super::commands::{attest, capability, clock, context, hash, lifecycle, pcr, primary, random, selftest};
use super::dispatch::Call;

/// The most handles of any command.
pub(super) const MAX_HANDLES: usize = 3;

/// The authorization a handle needs (Part 3, "@" before a handle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// None.
    None,
    /// The USER role.
    User,
}

/// What a handle may be (Part 2, 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandleKind {
    /// TPMI_DH_PCR.
    Pcr,
    /// TPMI_DH_PCR+.
    PcrOrNull,
    /// TPMI_DH_OBJECT.
    Object,
    /// TPMI_RH_HIERARCHY+.
    Hierarchy,
}

impl HandleKind {
    /// Whether a handle is of this type, loaded or not.
    pub(super) fn accepts(self, handle: Handle) -> bool {
        match self {
            Self::Pcr => handle.0 < IMPLEMENTATION_PCR,
            Self::PcrOrNull => handle.0 < IMPLEMENTATION_PCR || handle == rh::NULL,
            Self::Object => matches!(handle.handle_type(), ht::TRANSIENT | ht::PERSISTENT),
            Self::Hierarchy => is_hierarchy(handle),
        }
    }
}

/// TPMI_RH_HIERARCHY+ (Part 2, 9.13).
pub(super) fn is_hierarchy(handle: Handle) -> bool {
    matches!(handle, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::NULL)
}

/// Part 3, 5.4: what a handle refers to has to be there.
pub(super) fn check_loaded(tpm: &Tpm, handle: Handle, number: u32) -> Result<(), Rc> {
    match handle.handle_type() {
        ht::TRANSIENT if tpm.objects.get(handle).is_none() => Err(Rc(rc::REFERENCE_H0.0 + number - 1)),
        // There are no persistent objects.
        ht::PERSISTENT => Err(rc::HANDLE.handle(number as usize)),
        _ => Ok(()),
    }
}

/// A handle of a command.
pub(super) struct HandleSpec {
    pub(super) kind: HandleKind,
    pub(super) auth: Auth,
}

/// Executes a command: unmarshals its parameters, does it, marshals the response's parameters.
type Run = fn(&mut Tpm, &mut Call<'_, '_>) -> Result<(), Rc>;

/// A command.
pub(super) struct Command {
    /// TPM_CC.
    pub(super) code: u32,
    /// Its name in Part 3, for people.
    pub(super) name: &'static str,
    /// Its handles.
    pub(super) handles: &'static [HandleSpec],
    /// TPMA_CC, without code and number of handles.
    pub(super) attributes: CommandAttributes,
    /// Whether it may have sessions.
    pub(super) sessions: bool,
    /// Its handler.
    pub(super) run: Run,
}

impl Command {
    /// TPMA_CC (Part 2, 8.9).
    pub(super) fn tpma_cc(&self) -> u32 {
        self.code | self.attributes.bits() | ((self.handles.len() as u32) << 25)
    }
}

const fn user(kind: HandleKind) -> HandleSpec {
    HandleSpec { kind, auth: Auth::User }
}

const fn plain(kind: HandleKind) -> HandleSpec {
    HandleSpec { kind, auth: Auth::None }
}

const fn command(
    code: u32,
    name: &'static str,
    handles: &'static [HandleSpec],
    attributes: CommandAttributes,
    run: Run,
) -> Command {
    // Part 3: these take no sessions of any kind.
    let sessions = !matches!(code, cc::STARTUP | cc::FLUSH_CONTEXT);
    Command { code, name, handles, attributes, sessions, run }
}

const NONE: CommandAttributes = CommandAttributes::NONE;
const NV: CommandAttributes = CommandAttributes::NV;
const FLUSHED: CommandAttributes = CommandAttributes::FLUSHED;
const R_HANDLE: CommandAttributes = CommandAttributes::R_HANDLE;

use HandleKind::{Hierarchy, Object, Pcr, PcrOrNull};

/// The commands, in ascending order of their codes. Attributes as in the tables of Part 3.
pub(super) static COMMANDS: [Command; 22] = [
    command(cc::CREATE_PRIMARY, "CreatePrimary", &[user(Hierarchy)], R_HANDLE, primary::create_primary),
    command(cc::PCR_EVENT, "PCR_Event", &[user(PcrOrNull)], NV, pcr::event),
    command(cc::PCR_RESET, "PCR_Reset", &[user(Pcr)], NV, pcr::reset),
    command(cc::SEQUENCE_COMPLETE, "SequenceComplete", &[user(Object)], FLUSHED, hash::sequence_complete),
    command(cc::INCREMENTAL_SELF_TEST, "IncrementalSelfTest", &[], NV, selftest::incremental_self_test),
    command(cc::SELF_TEST, "SelfTest", &[], NV, selftest::self_test),
    command(cc::STARTUP, "Startup", &[], NV, lifecycle::startup),
    command(cc::SHUTDOWN, "Shutdown", &[], NV, lifecycle::shutdown),
    command(cc::STIR_RANDOM, "StirRandom", &[], NV, random::stir_random),
    command(cc::QUOTE, "Quote", &[user(Object)], NONE, attest::quote),
    command(cc::SEQUENCE_UPDATE, "SequenceUpdate", &[user(Object)], NONE, hash::sequence_update),
    command(cc::FLUSH_CONTEXT, "FlushContext", &[], NONE, context::flush_context),
    command(cc::READ_PUBLIC, "ReadPublic", &[plain(Object)], NONE, context::read_public),
    command(cc::GET_CAPABILITY, "GetCapability", &[], NONE, capability::get_capability),
    command(cc::GET_RANDOM, "GetRandom", &[], NONE, random::get_random),
    command(cc::GET_TEST_RESULT, "GetTestResult", &[], NONE, selftest::get_test_result),
    command(cc::HASH, "Hash", &[], NONE, hash::hash),
    command(cc::PCR_READ, "PCR_Read", &[], NONE, pcr::read),
    command(cc::READ_CLOCK, "ReadClock", &[], NONE, clock::read_clock),
    command(cc::PCR_EXTEND, "PCR_Extend", &[user(PcrOrNull)], NV, pcr::extend),
    command(
        cc::EVENT_SEQUENCE_COMPLETE,
        "EventSequenceComplete",
        &[user(PcrOrNull), user(Object)],
        NV.with(FLUSHED),
        hash::event_sequence_complete,
    ),
    command(cc::HASH_SEQUENCE_START, "HashSequenceStart", &[], R_HANDLE, hash::hash_sequence_start),
];

/// The name of a command in Part 3, for people; `None` for a command that this TPM does not have.
#[must_use]
pub fn command_name(code: u32) -> Option<&'static str> {
    find(code).map(|c| c.name)
}

/// The command of a code.
pub(super) fn find(code: u32) -> Option<&'static Command> {
    let at = COMMANDS.binary_search_by_key(&code, |c| c.code).ok()?;
    COMMANDS.get(at)
}
