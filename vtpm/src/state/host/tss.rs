//! The part that talks to the TPM, with tpm2-tss.
//!
//! All that is secret crosses the way to the TPM encrypted, in sessions that only the TPM with the storage root key's
//! private part can take part in (Part 1, 19.6.8 "salted", and 21 "parameter encryption"). Where a key was sealed
//! before, its parent's Name says which key that is, so that no other TPM answers instead.

use std::io;
use std::str::FromStr as _;

use bulla_tpm_types::{Marshal as _, Writer, templates};
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
use tss_esapi::constants::{CapabilityType, NvIndexType, SessionType};
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    CapabilityData, Digest, KeyedHashScheme, NvPublicBuilder, PcrSelectionList, PcrSelectionListBuilder, PcrSlot,
    Private, Public, PublicBuilder, PublicKeyedHashParameters, SensitiveData, SymmetricDefinition,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall as _, UnMarshall as _};
use zeroize::Zeroizing;

use super::{HostError, HostTpm, PCRS, Sealed};
use crate::state::{Counter, SecretBytes};

/// Where the storage root key is (TCG TPM v2.0 Provisioning Guidance 1.0, 7.5).
const SRK: u32 = 0x8100_0001;
/// Octets of a state's key.
const KEY: usize = 32;
/// Octets of an NV counter (Part 1, 37.2.4).
const COUNTER: u16 = 8;

/// A conversation with a host's TPM. What it leaves in the TPM is flushed when it is dropped.
struct Host {
    context: Context,
    tcti: String,
    parent: KeyHandle,
    /// The parent's Name.
    name: Vec<u8>,
}

/// Makes an error of the library's, or of the TPM behind it, one that says what was tried.
fn failed(tcti: &str, what: &'static str) -> impl FnOnce(tss_esapi::Error) -> HostError {
    move |error| HostError::Tpm { tcti: tcti.to_owned(), what, reason: error.to_string() }
}

impl Host {
    /// Reaches the TPM and its storage root key: the one at 0x81000001, or else the one of the TCG's template; the one with
    /// this Name, if there is one.
    fn open(host: &HostTpm, name: Option<&[u8]>) -> Result<Self, HostError> {
        let tcti = &host.tcti;
        let conf = TctiNameConf::from_str(tcti).map_err(failed(tcti, "TCTI"))?;
        let mut context = Context::new(conf).map_err(failed(tcti, "connect"))?;
        if is_there(&mut context, SRK).map_err(failed(tcti, "TPM2_GetCapability"))? {
            let at = PersistentTpmHandle::new(SRK).map(TpmHandle::Persistent);
            let (parent, found) = at
                .and_then(|at| context.tr_from_tpm_public(at))
                .and_then(|parent| Ok((parent, context.tr_get_name(parent)?.value().to_vec())))
                .map_err(failed(tcti, "the storage root key at 0x81000001"))?;
            if name.is_none_or(|name| name == found) {
                return Ok(Self { context, tcti: tcti.clone(), parent: parent.into(), name: found });
            }
        }
        let (parent, found) =
            primary(&mut context).map_err(failed(tcti, "TPM2_CreatePrimary of a storage root key"))?;
        if name.is_none_or(|name| name == found) {
            return Ok(Self { context, tcti: tcti.clone(), parent, name: found });
        }
        Err(HostError::Other { tcti: tcti.clone() })
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(tss_esapi::Error) -> HostError + use<> {
        let tcti = self.tcti.clone();
        move |error| failed(&tcti, what)(error)
    }

    /// A salted session that encrypts what goes and what comes, where it can be.
    fn session(&mut self, kind: SessionType) -> Result<AuthSession, HostError> {
        let failed = self.failed("TPM2_StartAuthSession");
        start(&mut self.context, self.parent, kind).map_err(failed)
    }

    /// The digest of "the PCR are what they are now", asserted in a session.
    fn policy(&mut self, session: AuthSession, pcrs: u32) -> Result<Digest, HostError> {
        let failed = self.failed("TPM2_PolicyPCR");
        let digest = selection(pcrs).and_then(|selection| {
            let session = PolicySession::try_from(session)?;
            self.context.execute_without_session(|context| {
                context.policy_pcr(session, Digest::default(), selection)?;
                context.policy_get_digest(session)
            })
        });
        digest.map_err(failed)
    }
}

/// Whether the TPM has something with this handle.
fn is_there(context: &mut Context, handle: u32) -> tss_esapi::Result<bool> {
    let (data, _) = context.execute_without_session(|c| c.get_capability(CapabilityType::Handles, handle, 1))?;
    let CapabilityData::Handles(list) = data else { return Ok(false) };
    Ok(list.first().is_some_and(|first| u32::from(*first) == handle))
}

/// The storage root key of the TCG's template for P-256.
fn primary(context: &mut Context) -> tss_esapi::Result<(KeyHandle, Vec<u8>)> {
    let mut template = Writer::from_vec(Vec::new());
    templates::srk_p256().marshal(&mut template);
    let template = Public::unmarshall(template.as_bytes())?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, template, None, None, None, None)
    })?;
    let name = context.tr_get_name(made.key_handle.into())?;
    Ok((made.key_handle, name.value().to_vec()))
}

fn start(context: &mut Context, parent: KeyHandle, kind: SessionType) -> tss_esapi::Result<AuthSession> {
    let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
    let session = context.start_auth_session(Some(parent), None, None, kind, cipher, hash)?;
    let session = session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::MissingAuthSession))?;
    let (attributes, mask) =
        SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).with_continue_session(true).build();
    context.tr_sess_set_attributes(session, attributes, mask)?;
    Ok(session)
}

fn selection(pcrs: u32) -> tss_esapi::Result<PcrSelectionList> {
    let slots = (0..PCRS).filter(|n| pcrs & 1 << n != 0).map(|n| PcrSlot::try_from(1u32 << n));
    let slots: Vec<PcrSlot> = slots.collect::<Result<_, _>>()?;
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots).build()
}

/// Seals a key to this TPM, and to what the PCR are now.
pub(super) fn seal(host: &HostTpm, key: &[u8]) -> Result<Sealed, HostError> {
    let mut tpm = Host::open(host, None)?;
    let policy = match host.pcrs {
        0 => None,
        pcrs => {
            let trial = tpm.session(SessionType::Trial)?;
            Some(tpm.policy(trial, pcrs)?)
        }
    };
    let session = tpm.session(SessionType::Hmac)?;
    let failed = tpm.failed("TPM2_Create");
    let parent = tpm.parent;
    let seal = || {
        let template = sealed_data(policy)?;
        let key = SensitiveData::try_from(key.to_vec())?;
        let create = |context: &mut Context| context.create(parent, template, None, Some(key), None, None);
        let made = tpm.context.execute_with_session(Some(session), create)?;
        let (public, private) = (made.out_public.marshall()?, made.out_private.value().to_vec());
        Ok(Sealed { pcrs: host.pcrs, parent: tpm.name.clone(), public, private })
    };
    seal().map_err(failed)
}

/// The template of a sealed data object (Part 1, 27.7.3) that needs this policy, or else nothing but its parent.
fn sealed_data(policy: Option<Digest>) -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .with_user_with_auth(policy.is_none())
        .with_admin_with_policy(policy.is_some())
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy.unwrap_or_default())
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// Opens what [`seal`] has sealed.
pub(super) fn unseal(host: &HostTpm, sealed: &Sealed) -> Result<SecretBytes, HostError> {
    let mut tpm = Host::open(host, Some(&sealed.parent))?;
    let by_parent = tpm.session(SessionType::Hmac)?;
    let (failed, parent) = (tpm.failed("TPM2_Load of the sealed key"), tpm.parent);
    let mut load = || {
        let (public, private) = (Public::unmarshall(&sealed.public)?, Private::try_from(sealed.private.clone())?);
        tpm.context.execute_with_session(Some(by_parent), |context| context.load(parent, private, public))
    };
    let object = load().map_err(failed)?;
    let session = if sealed.pcrs == 0 {
        by_parent
    } else {
        let session = tpm.session(SessionType::Policy)?;
        tpm.policy(session, sealed.pcrs)?;
        session
    };
    let unsealed = tpm.context.execute_with_session(Some(session), |context| context.unseal(object.into()));
    let key = unsealed.map_err(|error| match error {
        tss_esapi::Error::Tss2Error(code) if code.kind() == Some(Tss2ResponseCodeKind::PolicyFail) => {
            HostError::Pcrs { pcrs: super::list(sealed.pcrs) }
        }
        error => tpm.failed("TPM2_Unseal")(error),
    })?;
    // The library's buffer is zeroized when it is dropped.
    let key = Zeroizing::new(key.value().to_vec());
    if key.len() == KEY { Ok(key) } else { Err(HostError::NoKey) }
}

/// An NV counter of a host's TPM. Its index is the owner's, is read and counted by its own empty authorization, and is
/// made at its first step if it is not there: then the owner's authorization has to be empty, too.
pub(super) struct NvCounter {
    tpm: Host,
    number: u32,
    session: AuthSession,
}

impl NvCounter {
    /// Reaches the TPM.
    pub(super) fn open(host: &HostTpm, number: u32) -> Result<Self, HostError> {
        let mut tpm = Host::open(host, None)?;
        let session = tpm.session(SessionType::Hmac)?;
        Ok(Self { tpm, number, session })
    }

    /// The index, and whether it has counted; `None` if it is not there.
    fn find(&mut self) -> Result<Option<(NvIndexHandle, bool)>, HostError> {
        let failed = self.tpm.failed("TPM2_NV_ReadPublic");
        let (number, context) = (self.number, &mut self.tpm.context);
        let mut find = || {
            if !is_there(context, number)? {
                return Ok(None);
            }
            let index = context.tr_from_tpm_public(NvIndexTpmHandle::new(number)?.into())?;
            let index = NvIndexHandle::from(index);
            let (public, _) = context.execute_without_session(|context| context.nv_read_public(index))?;
            let attributes = public.attributes();
            let fits =
                attributes.index_type()? == NvIndexType::Counter && attributes.auth_read() && attributes.auth_write();
            Ok(Some((index, attributes.written(), fits)))
        };
        match find().map_err(failed)? {
            None => Ok(None),
            Some((index, written, true)) => Ok(Some((index, written))),
            Some(_) => Err(HostError::NoCounter { index: number }),
        }
    }

    fn define(&mut self) -> Result<NvIndexHandle, HostError> {
        let failed = self.tpm.failed("TPM2_NV_DefineSpace");
        let (number, session, context) = (self.number, self.session, &mut self.tpm.context);
        let mut define = || {
            let attributes = NvIndexAttributesBuilder::new()
                .with_nv_index_type(NvIndexType::Counter)
                .with_auth_read(true)
                .with_auth_write(true)
                .with_owner_read(true)
                .with_no_da(true)
                .build()?;
            let public = NvPublicBuilder::new()
                .with_nv_index(NvIndexTpmHandle::new(number)?)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_data_area_size(usize::from(COUNTER))
                .build()?;
            let define = |context: &mut Context| context.nv_define_space(Provision::Owner, None, public);
            context.execute_with_session(Some(session), define)
        };
        define().map_err(failed)
    }

    fn value(&mut self, index: NvIndexHandle) -> Result<u64, HostError> {
        let failed = self.tpm.failed("TPM2_NV_Read");
        let read = |context: &mut Context| context.nv_read(NvAuth::NvIndex(index), index, COUNTER, 0);
        let value = self.tpm.context.execute_with_session(Some(self.session), read).map_err(failed)?;
        let octets = value.value().try_into().map_err(|_| HostError::NoCounter { index: self.number })?;
        Ok(u64::from_be_bytes(octets))
    }
}

impl Counter for NvCounter {
    fn read(&mut self) -> io::Result<Option<u64>> {
        match self.find()? {
            Some((index, true)) => Ok(Some(self.value(index)?)),
            _ => Ok(None),
        }
    }

    fn advance(&mut self) -> io::Result<u64> {
        let index = match self.find()? {
            Some((index, _)) => index,
            None => self.define()?,
        };
        let failed = self.tpm.failed("TPM2_NV_Increment");
        let count = |context: &mut Context| context.nv_increment(NvAuth::NvIndex(index), index);
        self.tpm.context.execute_with_session(Some(self.session), count).map_err(failed)?;
        // Written now, which is part of the index's Name: the library has to learn it.
        match self.find()? {
            Some((index, true)) => Ok(self.value(index)?),
            _ => Err(HostError::NoCounter { index: self.number }.into()),
        }
    }
}
