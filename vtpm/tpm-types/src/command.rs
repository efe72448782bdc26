//! Commands as a client builds them. Responses are read by [`crate::response`].
//!
//! Every command that needs authorization is given a password session; the functions here use the Empty
//! Auth, which is what the hierarchies and keys of a fresh vTPM have. [`Builder`] makes any other command.

use alloc::vec::Vec;

use crate::codec::{Marshal, Writer};
use crate::constants::{AlgId, Handle, HashAlg, StartupType, cap, cc, st};
use crate::nv::NvPublic;
use crate::pcr::{DigestValues, PcrSelectionList};
use crate::public::Public;
use crate::schemes::AsymScheme;
use crate::sessions::{AuthCommand, SensitiveCreate};

/// Builds a command: handles first, then sessions, then parameters.
#[derive(Debug)]
pub struct Builder {
    w: Writer,
}

impl Builder {
    /// A command without sessions.
    #[must_use]
    pub fn new(code: u32, handles: &[Handle]) -> Self {
        Self::start(st::NO_SESSIONS, code, handles)
    }

    /// A command with these sessions, in their order.
    #[must_use]
    pub fn with_sessions(code: u32, handles: &[Handle], sessions: &[AuthCommand]) -> Self {
        let mut b = Self::start(st::SESSIONS, code, handles);
        let at = b.w.len();
        b.w.u32(0);
        sessions.iter().for_each(|s| b.w.put(s));
        let size = (b.w.len() - at - 4) as u32;
        b.w.patch(at, &size.to_be_bytes());
        b
    }

    /// A command with one password session of the Empty Auth for each of `auths` handles.
    #[must_use]
    pub fn with_empty_auth(code: u32, handles: &[Handle], auths: usize) -> Self {
        let session = AuthCommand::password(&[]);
        let sessions: Vec<_> = core::iter::repeat_n(session, auths).flatten().collect();
        Self::with_sessions(code, handles, &sessions)
    }

    fn start(tag: u16, code: u32, handles: &[Handle]) -> Self {
        let mut w = Writer::new();
        w.u16(tag);
        w.u32(0);
        w.u32(code);
        handles.iter().for_each(|h| w.put(h));
        Self { w }
    }

    /// Adds parameters.
    #[must_use]
    pub fn params(mut self, write: impl FnOnce(&mut Writer)) -> Self {
        write(&mut self.w);
        self
    }

    /// The command's bytes.
    #[must_use]
    pub fn build(mut self) -> Vec<u8> {
        let size = self.w.len() as u32;
        self.w.patch(2, &size.to_be_bytes());
        self.w.into_vec()
    }
}

/// TPM2_Startup (Part 3, 9.3).
#[must_use]
pub fn startup(kind: StartupType) -> Vec<u8> {
    Builder::new(cc::STARTUP, &[]).params(|w| w.u16(kind.id())).build()
}

/// TPM2_Shutdown (Part 3, 9.4).
#[must_use]
pub fn shutdown(kind: StartupType) -> Vec<u8> {
    Builder::new(cc::SHUTDOWN, &[]).params(|w| w.u16(kind.id())).build()
}

/// TPM2_SelfTest (Part 3, 10.2).
#[must_use]
pub fn self_test(full: bool) -> Vec<u8> {
    Builder::new(cc::SELF_TEST, &[]).params(|w| w.u8(u8::from(full))).build()
}

/// TPM2_GetTestResult (Part 3, 10.4).
#[must_use]
pub fn get_test_result() -> Vec<u8> {
    Builder::new(cc::GET_TEST_RESULT, &[]).build()
}

/// TPM2_GetRandom (Part 3, 16.1).
#[must_use]
pub fn get_random(bytes: u16) -> Vec<u8> {
    Builder::new(cc::GET_RANDOM, &[]).params(|w| w.u16(bytes)).build()
}

/// TPM2_StirRandom (Part 3, 16.2); at most 128 bytes are meaningful to a TPM.
#[must_use]
pub fn stir_random(data: &[u8]) -> Vec<u8> {
    Builder::new(cc::STIR_RANDOM, &[]).params(|w| w.tpm2b(data)).build()
}

/// TPM2_GetCapability (Part 3, 30.2).
#[must_use]
pub fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    Builder::new(cc::GET_CAPABILITY, &[])
        .params(|w| {
            w.u32(capability);
            w.u32(property);
            w.u32(count);
        })
        .build()
}

/// TPM2_GetCapability for the allocated PCR banks.
#[must_use]
pub fn get_capability_pcrs() -> Vec<u8> {
    get_capability(cap::PCRS, 0, 1)
}

/// TPM2_PCR_Extend with the PCR's Empty Auth (Part 3, 22.2).
#[must_use]
pub fn pcr_extend(pcr: u32, digests: &DigestValues) -> Vec<u8> {
    Builder::with_empty_auth(cc::PCR_EXTEND, &[Handle(pcr)], 1).params(|w| w.put(digests)).build()
}

/// TPM2_PCR_Event with the PCR's Empty Auth (Part 3, 22.3); a TPM takes at most 1024 bytes.
#[must_use]
pub fn pcr_event(pcr: u32, data: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::PCR_EVENT, &[Handle(pcr)], 1).params(|w| w.tpm2b(data)).build()
}

/// TPM2_PCR_Read (Part 3, 22.4).
#[must_use]
pub fn pcr_read(selection: &PcrSelectionList) -> Vec<u8> {
    Builder::new(cc::PCR_READ, &[]).params(|w| w.put(selection)).build()
}

/// TPM2_PCR_Reset with the PCR's Empty Auth (Part 3, 22.8).
#[must_use]
pub fn pcr_reset(pcr: u32) -> Vec<u8> {
    Builder::with_empty_auth(cc::PCR_RESET, &[Handle(pcr)], 1).build()
}

/// TPM2_Hash (Part 3, 15.4).
#[must_use]
pub fn hash(data: &[u8], alg: HashAlg, hierarchy: Handle) -> Vec<u8> {
    Builder::new(cc::HASH, &[])
        .params(|w| {
            w.tpm2b(data);
            w.put(&alg);
            w.put(&hierarchy);
        })
        .build()
}

/// TPM2_HashSequenceStart with an Empty Auth for the sequence (Part 3, 17.4); `None` starts an event sequence.
#[must_use]
pub fn hash_sequence_start(alg: Option<HashAlg>) -> Vec<u8> {
    let id: AlgId = HashAlg::id_or_null(alg);
    Builder::new(cc::HASH_SEQUENCE_START, &[])
        .params(|w| {
            w.tpm2b(&[]);
            w.put(&id);
        })
        .build()
}

/// TPM2_SequenceUpdate (Part 3, 17.5); a TPM takes at most 1024 bytes.
#[must_use]
pub fn sequence_update(sequence: Handle, data: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::SEQUENCE_UPDATE, &[sequence], 1).params(|w| w.tpm2b(data)).build()
}

/// TPM2_SequenceComplete (Part 3, 17.6).
#[must_use]
pub fn sequence_complete(sequence: Handle, data: &[u8], hierarchy: Handle) -> Vec<u8> {
    Builder::with_empty_auth(cc::SEQUENCE_COMPLETE, &[sequence], 1)
        .params(|w| {
            w.tpm2b(data);
            w.put(&hierarchy);
        })
        .build()
}

/// TPM2_EventSequenceComplete (Part 3, 17.7); `pcr` is a PCR's handle or TPM_RH_NULL.
#[must_use]
pub fn event_sequence_complete(pcr: Handle, sequence: Handle, data: &[u8]) -> Vec<u8> {
    Builder::with_empty_auth(cc::EVENT_SEQUENCE_COMPLETE, &[pcr, sequence], 2).params(|w| w.tpm2b(data)).build()
}

/// TPM2_CreatePrimary with the hierarchy's Empty Auth, for a key with the Empty Auth (Part 3, 24.1).
#[must_use]
pub fn create_primary(hierarchy: Handle, template: &Public) -> Vec<u8> {
    Builder::with_empty_auth(cc::CREATE_PRIMARY, &[hierarchy], 1)
        .params(|w| {
            w.sized(|w| w.put(&SensitiveCreate::default()));
            w.sized(|w| w.put(template));
            w.tpm2b(&[]);
            w.put(&PcrSelectionList::new());
        })
        .build()
}

/// TPM2_ReadPublic (Part 3, 12.4).
#[must_use]
pub fn read_public(object: Handle) -> Vec<u8> {
    Builder::new(cc::READ_PUBLIC, &[object]).build()
}

/// TPM2_FlushContext (Part 3, 28.4): the handle is a parameter.
#[must_use]
pub fn flush_context(handle: Handle) -> Vec<u8> {
    Builder::new(cc::FLUSH_CONTEXT, &[]).params(|w| w.put(&handle)).build()
}

/// TPM2_Quote with the key's Empty Auth and own scheme (Part 3, 18.4); a TPM takes at most 66 bytes of
/// `qualifying` data.
#[must_use]
pub fn quote(key: Handle, qualifying: &[u8], selection: &PcrSelectionList) -> Vec<u8> {
    Builder::with_empty_auth(cc::QUOTE, &[key], 1)
        .params(|w| {
            w.tpm2b(qualifying);
            w.put(&AsymScheme::Null);
            w.put(selection);
        })
        .build()
}

/// TPM2_NV_DefineSpace with the Empty Auth of the owner or the platform (Part 3, 31.3); `auth` is the index's authValue.
#[must_use]
pub fn nv_define_space(hierarchy: Handle, auth: &[u8], public: &NvPublic) -> Vec<u8> {
    Builder::with_empty_auth(cc::NV_DEFINE_SPACE, &[hierarchy], 1)
        .params(|w| {
            w.tpm2b(auth);
            w.sized(|w| w.put(public));
        })
        .build()
}

/// TPM2_NV_ReadPublic (Part 3, 31.6).
#[must_use]
pub fn nv_read_public(index: Handle) -> Vec<u8> {
    Builder::new(cc::NV_READ_PUBLIC, &[index]).build()
}

/// TPM2_NV_Write with the Empty Auth of `by`: the owner, the platform or the index itself (Part 3, 31.7). A TPM takes
/// at most [`crate::MAX_NV_BUFFER_SIZE`] octets.
#[must_use]
pub fn nv_write(by: Handle, index: Handle, data: &[u8], offset: u16) -> Vec<u8> {
    Builder::with_empty_auth(cc::NV_WRITE, &[by, index], 1)
        .params(|w| {
            w.tpm2b(data);
            w.u16(offset);
        })
        .build()
}

/// TPM2_NV_Read with the Empty Auth of `by` (Part 3, 31.13). A TPM answers at most [`crate::MAX_NV_BUFFER_SIZE`] octets.
#[must_use]
pub fn nv_read(by: Handle, index: Handle, size: u16, offset: u16) -> Vec<u8> {
    Builder::with_empty_auth(cc::NV_READ, &[by, index], 1)
        .params(|w| {
            w.u16(size);
            w.u16(offset);
        })
        .build()
}

/// TPM2_ReadClock (Part 3, 29.1).
#[must_use]
pub fn read_clock() -> Vec<u8> {
    Builder::new(cc::READ_CLOCK, &[]).build()
}

/// The bytes of any structure as a command's only parameter.
#[must_use]
pub fn simple<T: Marshal>(code: u32, parameter: &T) -> Vec<u8> {
    Builder::new(code, &[]).params(|w| w.put(parameter)).build()
}
