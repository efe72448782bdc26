//! The command table: what each command takes before its parameters, and who executes it.

use bulla_tpm_types::{CommandAttributes, Handle, IMPLEMENTATION_PCR, Rc, cc, ht, rc, rh};

use super::Tpm;
use super::auth::Role;
use super::commands::{
    attest, audit, capability, certify_x509, clock, commit, context, dictionary, duplicate, ecc_crypt, ecdh, hash,
    hierarchy, lifecycle, nv, object, pcr, policy, policy_auth, policy_nv, presence, primary, random, rsa, selftest,
    session, sign, symmetric,
};
use super::dispatch::Call;
use super::object::SLOTS;
use super::session::ACTIVE;

/// The most handles of any command.
pub(super) const MAX_HANDLES: usize = 3;

/// The authorization a handle needs (Part 3, "@" before a handle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// None.
    None,
    /// The USER role.
    User,
    /// The ADMIN role.
    Admin,
    /// The DUP role.
    Dup,
}

impl Auth {
    /// The role, if there is one.
    pub(super) fn role(self) -> Option<Role> {
        match self {
            Self::None => None,
            Self::User => Some(Role::User),
            Self::Admin => Some(Role::Admin),
            Self::Dup => Some(Role::Dup),
        }
    }
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
    /// TPMI_DH_OBJECT+.
    ObjectOrNull,
    /// TPMI_RH_HIERARCHY+.
    Hierarchy,
    /// TPMI_DH_PARENT+.
    Parent,
    /// TPMI_RH_HIERARCHY_AUTH.
    HierarchyAuth,
    /// TPMI_RH_CLEAR.
    Clear,
    /// TPMI_RH_LOCKOUT.
    Lockout,
    /// TPMI_RH_ENDORSEMENT.
    Endorsement,
    /// TPMI_RH_PROVISION.
    Provision,
    /// TPMI_RH_PLATFORM.
    Platform,
    /// TPMI_RH_NV_INDEX.
    NvIndex,
    /// TPMI_RH_NV_AUTH.
    NvAuth,
    /// TPMI_DH_ENTITY.
    Entity,
    /// TPMI_DH_ENTITY+.
    EntityOrNull,
    /// TPMI_SH_POLICY.
    Policy,
    /// TPMI_SH_HMAC.
    Hmac,
    /// TPMI_RH_BASE_HIERARCHY.
    BaseHierarchy,
    /// TPMI_DH_CONTEXT.
    Context,
}

impl HandleKind {
    /// Whether a handle is of this type, loaded or not.
    pub(super) fn accepts(self, handle: Handle) -> bool {
        match self {
            Self::Pcr => handle.0 < IMPLEMENTATION_PCR,
            Self::PcrOrNull => handle.0 < IMPLEMENTATION_PCR || handle == rh::NULL,
            Self::Object => is_object(handle),
            Self::ObjectOrNull => is_object(handle) || handle == rh::NULL,
            Self::Hierarchy => is_hierarchy(handle),
            Self::Parent => is_object(handle) || is_hierarchy(handle),
            Self::HierarchyAuth => (is_hierarchy(handle) && handle != rh::NULL) || handle == rh::LOCKOUT,
            Self::Clear => matches!(handle, rh::LOCKOUT | rh::PLATFORM),
            Self::Lockout => handle == rh::LOCKOUT,
            Self::Endorsement => handle == rh::ENDORSEMENT,
            Self::Provision => matches!(handle, rh::OWNER | rh::PLATFORM),
            Self::Platform => handle == rh::PLATFORM,
            Self::NvIndex => handle.handle_type() == ht::NV_INDEX,
            Self::NvAuth => matches!(handle, rh::OWNER | rh::PLATFORM) || handle.handle_type() == ht::NV_INDEX,
            Self::Entity => is_entity(handle),
            Self::EntityOrNull => is_entity(handle) || handle == rh::NULL,
            Self::Policy => is_session(handle) && handle.handle_type() == ht::POLICY_SESSION,
            Self::Hmac => is_session(handle) && handle.handle_type() == ht::HMAC_SESSION,
            Self::BaseHierarchy => is_hierarchy(handle) && handle != rh::NULL,
            Self::Context => is_transient(handle) || is_session(handle),
        }
    }
}

/// Whether a handle is one of sessions, of either type: from HMAC_SESSION_FIRST or POLICY_SESSION_FIRST to the last
/// (Part 2, 7.5).
pub(super) fn is_session(handle: Handle) -> bool {
    let session = matches!(handle.handle_type(), ht::HMAC_SESSION | ht::POLICY_SESSION);
    session && (0..ACTIVE).any(|n| n as u32 == handle.0 & 0x00ff_ffff)
}

/// TPMI_DH_OBJECT (Part 2, 9.3).
fn is_object(handle: Handle) -> bool {
    is_transient(handle) || handle.handle_type() == ht::PERSISTENT
}

/// From TRANSIENT_FIRST to TRANSIENT_LAST, of which there are as many as slots (Part 2, 7.5).
pub(super) fn is_transient(handle: Handle) -> bool {
    (rh::TRANSIENT_FIRST.0..).zip(0..SLOTS).any(|(slot, _)| slot == handle.0)
}

/// TPMI_DH_ENTITY (Part 2, 9.5).
fn is_entity(handle: Handle) -> bool {
    let permanent = matches!(handle, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::LOCKOUT);
    permanent || is_object(handle) || handle.0 < IMPLEMENTATION_PCR || handle.handle_type() == ht::NV_INDEX
}

/// TPMI_RH_HIERARCHY+ (Part 2, 9.13).
pub(super) fn is_hierarchy(handle: Handle) -> bool {
    matches!(handle, rh::OWNER | rh::ENDORSEMENT | rh::PLATFORM | rh::NULL)
}

/// Part 3, 5.4: what a handle refers to has to be there.
pub(super) fn check_loaded(tpm: &Tpm, code: u32, handle: Handle, number: u32) -> Result<(), Rc> {
    match handle.handle_type() {
        ht::TRANSIENT if tpm.objects.get(handle).is_none() => Err(Rc(rc::REFERENCE_H0.0 + number - 1)),
        ht::HMAC_SESSION | ht::POLICY_SESSION if tpm.sessions.get(handle).is_none() => {
            Err(Rc(rc::REFERENCE_H0.0 + number - 1))
        }
        ht::NV_INDEX if !tpm.nv_is_accessible(handle) => Err(rc::HANDLE.handle(number as usize)),
        ht::PERSISTENT if !tpm.persistent_is_accessible(handle, code) => Err(rc::HANDLE.handle(number as usize)),
        ht::PERMANENT if !tpm.hierarchies.is_enabled(handle) => Err(rc::HIERARCHY.handle(number as usize)),
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
    /// Whether its first parameter is a TPM2B, which a session can decrypt.
    pub(super) decrypts: bool,
    /// Whether its response's first parameter is a TPM2B, which a session can encrypt.
    pub(super) encrypts: bool,
    /// Its handler.
    pub(super) run: Run,
}

impl Command {
    /// Its first parameter can be encrypted.
    const fn takes(mut self) -> Self {
        self.decrypts = true;
        self
    }

    /// Its response's first parameter can be encrypted.
    const fn gives(mut self) -> Self {
        self.encrypts = true;
        self
    }

    /// TPMA_CC (Part 2, 8.9).
    pub(super) fn tpma_cc(&self) -> u32 {
        self.code | self.attributes.bits() | ((self.handles.len() as u32) << 25)
    }
}

const fn user(kind: HandleKind) -> HandleSpec {
    HandleSpec { kind, auth: Auth::User }
}

const fn admin(kind: HandleKind) -> HandleSpec {
    HandleSpec { kind, auth: Auth::Admin }
}

const fn dup(kind: HandleKind) -> HandleSpec {
    HandleSpec { kind, auth: Auth::Dup }
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
    let sessions = !matches!(code, cc::STARTUP | cc::FLUSH_CONTEXT | cc::CONTEXT_SAVE | cc::CONTEXT_LOAD);
    Command { code, name, handles, attributes, sessions, decrypts: false, encrypts: false, run }
}

const NONE: CommandAttributes = CommandAttributes::NONE;
const NV: CommandAttributes = CommandAttributes::NV;
const FLUSHED: CommandAttributes = CommandAttributes::FLUSHED;
const R_HANDLE: CommandAttributes = CommandAttributes::R_HANDLE;

use HandleKind::{
    BaseHierarchy, Clear, Context, Endorsement, Entity, EntityOrNull, Hierarchy, HierarchyAuth, Hmac, Lockout, NvAuth,
    NvIndex, Object, ObjectOrNull, Parent, Pcr, PcrOrNull, Platform, Policy, Provision,
};

/// The commands, in ascending order of their codes. Attributes as in the tables of Part 3.
pub(crate) static COMMANDS: &[Command] = &[
    command(
        cc::NV_UNDEFINE_SPACE_SPECIAL,
        "NV_UndefineSpaceSpecial",
        &[admin(NvIndex), user(Platform)],
        NV,
        nv::undefine_space_special,
    ),
    command(cc::EVICT_CONTROL, "EvictControl", &[user(Provision), plain(Object)], NV, context::evict_control),
    command(
        cc::HIERARCHY_CONTROL,
        "HierarchyControl",
        &[user(BaseHierarchy)],
        NV.with(CommandAttributes::EXTENSIVE),
        hierarchy::hierarchy_control,
    ),
    command(cc::NV_UNDEFINE_SPACE, "NV_UndefineSpace", &[user(Provision), plain(NvIndex)], NV, nv::undefine_space),
    command(
        cc::CHANGE_EPS,
        "ChangeEPS",
        &[user(Platform)],
        NV.with(CommandAttributes::EXTENSIVE),
        hierarchy::change_eps,
    ),
    command(
        cc::CHANGE_PPS,
        "ChangePPS",
        &[user(Platform)],
        NV.with(CommandAttributes::EXTENSIVE),
        hierarchy::change_pps,
    ),
    command(cc::CLEAR, "Clear", &[user(Clear)], NV.with(CommandAttributes::EXTENSIVE), hierarchy::clear),
    command(cc::CLEAR_CONTROL, "ClearControl", &[user(Clear)], NV, hierarchy::clear_control),
    command(cc::CLOCK_SET, "ClockSet", &[user(Provision)], NV, clock::clock_set),
    command(
        cc::HIERARCHY_CHANGE_AUTH,
        "HierarchyChangeAuth",
        &[user(HierarchyAuth)],
        NV,
        hierarchy::hierarchy_change_auth,
    )
    .takes(),
    command(cc::NV_DEFINE_SPACE, "NV_DefineSpace", &[user(Provision)], NV, nv::define_space).takes(),
    command(cc::PCR_ALLOCATE, "PCR_Allocate", &[user(Platform)], NV, pcr::allocate),
    command(cc::PCR_SET_AUTH_POLICY, "PCR_SetAuthPolicy", &[user(Platform)], NV, pcr::set_auth_policy).takes(),
    command(cc::PP_COMMANDS, "PP_Commands", &[user(Platform)], NV, presence::pp_commands),
    command(cc::SET_PRIMARY_POLICY, "SetPrimaryPolicy", &[user(HierarchyAuth)], NV, hierarchy::set_primary_policy)
        .takes(),
    command(cc::CLOCK_RATE_ADJUST, "ClockRateAdjust", &[user(Provision)], NONE, clock::clock_rate_adjust),
    command(cc::CREATE_PRIMARY, "CreatePrimary", &[user(Hierarchy)], R_HANDLE, primary::create_primary).takes().gives(),
    command(cc::NV_GLOBAL_WRITE_LOCK, "NV_GlobalWriteLock", &[user(Provision)], NV, nv::global_write_lock),
    command(
        cc::GET_COMMAND_AUDIT_DIGEST,
        "GetCommandAuditDigest",
        &[user(Endorsement), user(ObjectOrNull)],
        NV,
        audit::get_command_audit_digest,
    )
    .takes()
    .gives(),
    command(cc::NV_INCREMENT, "NV_Increment", &[user(NvAuth), plain(NvIndex)], NV, nv::increment),
    command(cc::NV_SET_BITS, "NV_SetBits", &[user(NvAuth), plain(NvIndex)], NV, nv::set_bits),
    command(cc::NV_EXTEND, "NV_Extend", &[user(NvAuth), plain(NvIndex)], NV, nv::extend).takes(),
    command(cc::NV_WRITE, "NV_Write", &[user(NvAuth), plain(NvIndex)], NV, nv::write).takes(),
    command(cc::NV_WRITE_LOCK, "NV_WriteLock", &[user(NvAuth), plain(NvIndex)], NV, nv::write_lock),
    command(
        cc::DICTIONARY_ATTACK_LOCK_RESET,
        "DictionaryAttackLockReset",
        &[user(Lockout)],
        NV,
        dictionary::lock_reset,
    ),
    command(
        cc::DICTIONARY_ATTACK_PARAMETERS,
        "DictionaryAttackParameters",
        &[user(Lockout)],
        NV,
        dictionary::parameters,
    ),
    command(cc::NV_CHANGE_AUTH, "NV_ChangeAuth", &[admin(NvIndex)], NV, nv::change_auth).takes(),
    command(cc::PCR_EVENT, "PCR_Event", &[user(PcrOrNull)], NV, pcr::event).takes(),
    command(cc::PCR_RESET, "PCR_Reset", &[user(Pcr)], NV, pcr::reset),
    command(cc::SEQUENCE_COMPLETE, "SequenceComplete", &[user(Object)], FLUSHED, hash::sequence_complete)
        .takes()
        .gives(),
    command(cc::SET_ALGORITHM_SET, "SetAlgorithmSet", &[user(Platform)], NV, presence::set_algorithm_set),
    command(
        cc::SET_COMMAND_CODE_AUDIT_STATUS,
        "SetCommandCodeAuditStatus",
        &[user(Provision)],
        NV,
        audit::set_command_code_audit_status,
    ),
    command(cc::INCREMENTAL_SELF_TEST, "IncrementalSelfTest", &[], NV, selftest::incremental_self_test),
    command(cc::SELF_TEST, "SelfTest", &[], NV, selftest::self_test),
    command(cc::STARTUP, "Startup", &[], NV, lifecycle::startup),
    command(cc::SHUTDOWN, "Shutdown", &[], NV, lifecycle::shutdown),
    command(cc::STIR_RANDOM, "StirRandom", &[], NV, random::stir_random).takes(),
    command(
        cc::ACTIVATE_CREDENTIAL,
        "ActivateCredential",
        &[admin(Object), user(Object)],
        NONE,
        object::activate_credential,
    )
    .takes()
    .gives(),
    command(cc::CERTIFY, "Certify", &[admin(Object), user(ObjectOrNull)], NONE, attest::certify).takes().gives(),
    command(cc::POLICY_NV, "PolicyNV", &[user(NvAuth), plain(NvIndex), plain(Policy)], NONE, policy_nv::policy_nv)
        .takes(),
    command(
        cc::CERTIFY_CREATION,
        "CertifyCreation",
        &[user(ObjectOrNull), plain(Object)],
        NONE,
        attest::certify_creation,
    )
    .takes()
    .gives(),
    command(cc::DUPLICATE, "Duplicate", &[dup(Object), plain(ObjectOrNull)], NONE, duplicate::duplicate)
        .takes()
        .gives(),
    command(cc::GET_TIME, "GetTime", &[user(Endorsement), user(ObjectOrNull)], NONE, attest::get_time).takes().gives(),
    command(
        cc::GET_SESSION_AUDIT_DIGEST,
        "GetSessionAuditDigest",
        &[user(Endorsement), user(ObjectOrNull), plain(Hmac)],
        NONE,
        audit::get_session_audit_digest,
    )
    .takes()
    .gives(),
    command(cc::NV_READ, "NV_Read", &[user(NvAuth), plain(NvIndex)], NONE, nv::read).gives(),
    command(cc::NV_READ_LOCK, "NV_ReadLock", &[user(NvAuth), plain(NvIndex)], NV, nv::read_lock),
    command(
        cc::OBJECT_CHANGE_AUTH,
        "ObjectChangeAuth",
        &[admin(Object), plain(Object)],
        NONE,
        object::object_change_auth,
    )
    .takes()
    .gives(),
    command(cc::POLICY_SECRET, "PolicySecret", &[user(Entity), plain(Policy)], NONE, policy_auth::policy_secret)
        .takes()
        .gives(),
    command(cc::REWRAP, "Rewrap", &[user(ObjectOrNull), plain(ObjectOrNull)], NONE, duplicate::rewrap).takes().gives(),
    command(cc::CREATE, "Create", &[user(Object)], NONE, object::create).takes().gives(),
    command(cc::ECDH_ZGEN, "ECDH_ZGen", &[user(Object)], NONE, ecdh::z_gen).takes().gives(),
    command(cc::HMAC, "HMAC", &[user(Object)], NONE, hash::mac).takes().gives(),
    command(cc::IMPORT, "Import", &[user(Object)], NONE, duplicate::import).takes().gives(),
    command(cc::LOAD, "Load", &[user(Object)], R_HANDLE, object::load).takes().gives(),
    command(cc::QUOTE, "Quote", &[user(ObjectOrNull)], NONE, attest::quote).takes().gives(),
    command(cc::RSA_DECRYPT, "RSA_Decrypt", &[user(Object)], NONE, rsa::rsa_decrypt).takes().gives(),
    command(cc::HMAC_START, "HMAC_Start", &[user(Object)], R_HANDLE, hash::mac_start).takes(),
    command(cc::SEQUENCE_UPDATE, "SequenceUpdate", &[user(Object)], NONE, hash::sequence_update).takes(),
    command(cc::SIGN, "Sign", &[user(Object)], NONE, sign::sign_digest).takes(),
    command(cc::UNSEAL, "Unseal", &[user(Object)], NONE, object::unseal).gives(),
    command(cc::POLICY_SIGNED, "PolicySigned", &[plain(Object), plain(Policy)], NONE, policy_auth::policy_signed)
        .takes()
        .gives(),
    command(cc::CONTEXT_LOAD, "ContextLoad", &[], R_HANDLE, context::context_load),
    command(cc::CONTEXT_SAVE, "ContextSave", &[plain(Context)], NONE, context::context_save),
    command(cc::ECDH_KEY_GEN, "ECDH_KeyGen", &[plain(Object)], NONE, ecdh::key_gen).gives(),
    command(cc::ENCRYPT_DECRYPT, "EncryptDecrypt", &[user(Object)], NONE, symmetric::encrypt_decrypt).gives(),
    command(cc::FLUSH_CONTEXT, "FlushContext", &[], NONE, context::flush_context),
    command(cc::LOAD_EXTERNAL, "LoadExternal", &[], R_HANDLE, object::load_external).takes().gives(),
    command(cc::MAKE_CREDENTIAL, "MakeCredential", &[plain(Object)], NONE, object::make_credential).takes().gives(),
    command(cc::NV_READ_PUBLIC, "NV_ReadPublic", &[plain(NvIndex)], NONE, nv::read_public).gives(),
    command(cc::POLICY_AUTHORIZE, "PolicyAuthorize", &[plain(Policy)], NONE, policy_auth::policy_authorize).takes(),
    command(cc::POLICY_AUTH_VALUE, "PolicyAuthValue", &[plain(Policy)], NONE, policy::policy_auth_value),
    command(cc::POLICY_COMMAND_CODE, "PolicyCommandCode", &[plain(Policy)], NONE, policy::policy_command_code),
    command(cc::POLICY_COUNTER_TIMER, "PolicyCounterTimer", &[plain(Policy)], NONE, policy::policy_counter_timer)
        .takes(),
    command(cc::POLICY_CP_HASH, "PolicyCpHash", &[plain(Policy)], NONE, policy::policy_cp_hash).takes(),
    command(cc::POLICY_LOCALITY, "PolicyLocality", &[plain(Policy)], NONE, policy::policy_locality),
    command(cc::POLICY_NAME_HASH, "PolicyNameHash", &[plain(Policy)], NONE, policy::policy_name_hash).takes(),
    command(cc::POLICY_OR, "PolicyOR", &[plain(Policy)], NONE, policy::policy_or),
    command(cc::POLICY_TICKET, "PolicyTicket", &[plain(Policy)], NONE, policy_auth::policy_ticket).takes(),
    command(cc::READ_PUBLIC, "ReadPublic", &[plain(Object)], NONE, object::read_public).gives(),
    command(cc::RSA_ENCRYPT, "RSA_Encrypt", &[plain(Object)], NONE, rsa::rsa_encrypt).takes().gives(),
    command(
        cc::START_AUTH_SESSION,
        "StartAuthSession",
        &[plain(ObjectOrNull), plain(EntityOrNull)],
        R_HANDLE,
        session::start_auth_session,
    )
    .takes()
    .gives(),
    command(cc::VERIFY_SIGNATURE, "VerifySignature", &[plain(Object)], NONE, sign::verify_signature).takes(),
    command(cc::ECC_PARAMETERS, "ECC_Parameters", &[], NONE, ecdh::ecc_parameters),
    command(cc::GET_CAPABILITY, "GetCapability", &[], NONE, capability::get_capability),
    command(cc::GET_RANDOM, "GetRandom", &[], NONE, random::get_random).gives(),
    command(cc::GET_TEST_RESULT, "GetTestResult", &[], NONE, selftest::get_test_result).gives(),
    command(cc::HASH, "Hash", &[], NONE, hash::hash).takes().gives(),
    command(cc::PCR_READ, "PCR_Read", &[], NONE, pcr::read),
    command(cc::POLICY_PCR, "PolicyPCR", &[plain(Policy)], NONE, policy::policy_pcr).takes(),
    command(cc::POLICY_RESTART, "PolicyRestart", &[plain(Policy)], NONE, session::policy_restart),
    command(cc::READ_CLOCK, "ReadClock", &[], NONE, clock::read_clock),
    command(cc::PCR_EXTEND, "PCR_Extend", &[user(PcrOrNull)], NV, pcr::extend),
    command(cc::PCR_SET_AUTH_VALUE, "PCR_SetAuthValue", &[user(Pcr)], NONE, pcr::set_auth_value).takes(),
    command(cc::NV_CERTIFY, "NV_Certify", &[user(ObjectOrNull), user(NvAuth), plain(NvIndex)], NONE, nv::certify)
        .takes()
        .gives(),
    command(
        cc::EVENT_SEQUENCE_COMPLETE,
        "EventSequenceComplete",
        &[user(PcrOrNull), user(Object)],
        NV.with(FLUSHED),
        hash::event_sequence_complete,
    )
    .takes(),
    command(cc::HASH_SEQUENCE_START, "HashSequenceStart", &[], R_HANDLE, hash::hash_sequence_start).takes(),
    command(
        cc::POLICY_PHYSICAL_PRESENCE,
        "PolicyPhysicalPresence",
        &[plain(Policy)],
        NONE,
        presence::policy_physical_presence,
    ),
    command(
        cc::POLICY_DUPLICATION_SELECT,
        "PolicyDuplicationSelect",
        &[plain(Policy)],
        NONE,
        duplicate::policy_duplication_select,
    )
    .takes(),
    command(cc::POLICY_GET_DIGEST, "PolicyGetDigest", &[plain(Policy)], NONE, policy::policy_get_digest).gives(),
    command(cc::TEST_PARMS, "TestParms", &[], NONE, ecdh::test_parms),
    command(cc::COMMIT, "Commit", &[user(Object)], NONE, commit::commit).takes().gives(),
    command(cc::POLICY_PASSWORD, "PolicyPassword", &[plain(Policy)], NONE, policy::policy_password),
    command(cc::ZGEN_2PHASE, "ZGen_2Phase", &[user(Object)], NONE, commit::z_gen_2phase).takes().gives(),
    command(cc::EC_EPHEMERAL, "EC_Ephemeral", &[], NONE, commit::ec_ephemeral).gives(),
    command(cc::POLICY_NV_WRITTEN, "PolicyNvWritten", &[plain(Policy)], NONE, policy::policy_nv_written),
    command(cc::POLICY_TEMPLATE, "PolicyTemplate", &[plain(Policy)], NONE, policy::policy_template).takes(),
    command(cc::CREATE_LOADED, "CreateLoaded", &[user(Parent)], R_HANDLE, object::create_loaded).takes().gives(),
    command(
        cc::POLICY_AUTHORIZE_NV,
        "PolicyAuthorizeNV",
        &[user(NvAuth), plain(NvIndex), plain(Policy)],
        NONE,
        policy_nv::policy_authorize_nv,
    ),
    command(cc::ENCRYPT_DECRYPT_2, "EncryptDecrypt2", &[user(Object)], NONE, symmetric::encrypt_decrypt_2)
        .takes()
        .gives(),
    command(cc::CERTIFY_X509, "CertifyX509", &[admin(Object), user(ObjectOrNull)], NONE, certify_x509::certify_x509)
        .takes()
        .gives(),
    command(cc::ECC_ENCRYPT, "ECC_Encrypt", &[plain(Object)], NONE, ecc_crypt::ecc_encrypt).takes().gives(),
    command(cc::ECC_DECRYPT, "ECC_Decrypt", &[user(Object)], NONE, ecc_crypt::ecc_decrypt).takes().gives(),
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
