//! Responses as a client reads them. Bytes may come from a hostile host: every field is checked.

use alloc::vec::Vec;

use crate::attest::{Attest, CreationData, TimeInfo};
use crate::buffers::{Digest, List, Name};
use crate::codec::{Reader, Unmarshal};
use crate::constants::{Handle, Rc, cap, st};
use crate::error::Error;
use crate::nv::NvPublic;
use crate::pcr::{DigestValues, PcrSelectionList};
use crate::public::Public;
use crate::sessions::{AuthResponse, TkCreation};
use crate::signature::Signature;

/// Why a response is not the answer hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The TPM refused the command.
    #[error("the TPM answered {0}")]
    Tpm(Rc),
    /// The bytes are not a well-formed response to the command.
    #[error("malformed response: {0}")]
    Malformed(#[from] Error),
    /// The header's size is not the number of bytes received.
    #[error("the response says {said} bytes, but {got} were received")]
    Size {
        /// responseSize.
        said: u32,
        /// Bytes received.
        got: usize,
    },
    /// The tag is none that a response can have.
    #[error("the response has tag {0:#06x}")]
    Tag(u16),
    /// The response is about another capability than the one asked for.
    #[error("the response has capability {0}")]
    Capability(u32),
}

/// A successful response, split into its parts.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// The response handle, for commands that return one.
    pub handle: Option<Handle>,
    /// The parameter area.
    pub params: &'a [u8],
    /// The session area, one entry for each session of the command.
    pub sessions: Vec<AuthResponse>,
}

/// The most sessions a response can have (Part 1, 18.6).
const MAX_SESSIONS: usize = 3;

/// Splits a response; `has_handle` says whether the command returns a handle.
pub fn parse(bytes: &[u8], has_handle: bool) -> Result<Response<'_>, ResponseError> {
    let mut r = Reader::new(bytes);
    let tag = r.u16("response tag")?;
    let said = r.u32("responseSize")?;
    let rc = Rc(r.u32("responseCode")?);
    if usize::try_from(said) != Ok(bytes.len()) {
        return Err(ResponseError::Size { said, got: bytes.len() });
    }
    if !matches!(tag, st::NO_SESSIONS | st::SESSIONS | st::RSP_COMMAND) {
        return Err(ResponseError::Tag(tag));
    }
    if !rc.is_success() {
        return Err(ResponseError::Tpm(rc));
    }
    let handle = if has_handle { Some(r.get()?) } else { None };
    if tag != st::SESSIONS {
        return Ok(Response { handle, params: r.rest(), sessions: Vec::new() });
    }
    let size = r.u32("parameterSize")?;
    let params = r.take(usize::try_from(size).unwrap_or(usize::MAX), "parameters")?;
    let mut sessions = Vec::new();
    while !r.is_empty() && sessions.len() < MAX_SESSIONS {
        sessions.push(r.get()?);
    }
    finish(&r)?;
    Ok(Response { handle, params, sessions })
}

fn finish(r: &Reader<'_>) -> Result<(), Error> {
    if r.is_empty() { Ok(()) } else { Err(r.error(crate::ErrorKind::Size, "trailing bytes")) }
}

/// Parses all parameters of a response.
fn params<'a, T>(
    bytes: &'a [u8],
    has_handle: bool,
    read: impl FnOnce(Option<Handle>, &mut Reader<'a>) -> Result<T, Error>,
) -> Result<T, ResponseError> {
    let response = parse(bytes, has_handle)?;
    let mut r = Reader::new(response.params);
    let value = read(response.handle, &mut r)?;
    finish(&r)?;
    Ok(value)
}

/// The response to a command that answers no parameters, such as Startup and PCR_Extend.
pub fn parse_empty(bytes: &[u8]) -> Result<(), ResponseError> {
    params(bytes, false, |_, _| Ok(()))
}

/// The random bytes of TPM2_GetRandom.
pub fn parse_get_random(bytes: &[u8]) -> Result<Digest, ResponseError> {
    params(bytes, false, |_, r| r.get())
}

/// The answer to TPM2_CreatePrimary.
#[derive(Clone, Debug)]
pub struct CreatePrimary {
    /// Handle of the loaded key.
    pub handle: Handle,
    /// Its public area.
    pub public: Public,
    /// How it was created.
    pub creation_data: CreationData,
    /// Digest of the creation data, by nameAlg.
    pub creation_hash: Digest,
    /// Proof by the TPM that it created the key so.
    pub creation_ticket: TkCreation,
    /// Its Name.
    pub name: Name,
}

/// Parses the answer to TPM2_CreatePrimary.
pub fn parse_create_primary(bytes: &[u8]) -> Result<CreatePrimary, ResponseError> {
    params(bytes, true, |handle, r| {
        Ok(CreatePrimary {
            handle: handle.unwrap_or_default(),
            public: r.sized("TPM2B_PUBLIC", Public::unmarshal)?,
            creation_data: r.sized("TPM2B_CREATION_DATA", CreationData::unmarshal)?,
            creation_hash: r.get()?,
            creation_ticket: r.get()?,
            name: r.get()?,
        })
    })
}

/// The answer to TPM2_ReadPublic.
#[derive(Clone, Debug)]
pub struct ReadPublic {
    /// The public area.
    pub public: Public,
    /// The object's Name.
    pub name: Name,
    /// Its Qualified Name.
    pub qualified_name: Name,
}

/// Parses the answer to TPM2_ReadPublic.
pub fn parse_read_public(bytes: &[u8]) -> Result<ReadPublic, ResponseError> {
    params(bytes, false, |_, r| {
        Ok(ReadPublic { public: r.sized("TPM2B_PUBLIC", Public::unmarshal)?, name: r.get()?, qualified_name: r.get()? })
    })
}

/// The public area and the Name of TPM2_NV_ReadPublic.
pub fn parse_nv_read_public(bytes: &[u8]) -> Result<(NvPublic, Name), ResponseError> {
    params(bytes, false, |_, r| Ok((r.sized("TPM2B_NV_PUBLIC", NvPublic::unmarshal)?, r.get()?)))
}

/// The data of TPM2_NV_Read.
pub fn parse_nv_read(bytes: &[u8]) -> Result<&[u8], ResponseError> {
    params(bytes, false, |_, r| r.tpm2b(MAX_NV_READ, "TPM2B_MAX_NV_BUFFER"))
}

/// The largest TPM2B_MAX_NV_BUFFER accepted; other TPMs may answer more at once than bulla's.
const MAX_NV_READ: usize = 2048;

/// The answer to TPM2_Quote.
#[derive(Clone, Debug)]
pub struct Quote<'a> {
    /// The bytes that were signed: a TPMS_ATTEST.
    pub attest_bytes: &'a [u8],
    /// The same, parsed.
    pub attest: Attest,
    /// The signature over the digest of `attest_bytes`.
    pub signature: Signature,
}

/// The largest TPM2B_ATTEST accepted.
const MAX_ATTEST: usize = 4096;

/// Parses the answer to TPM2_Quote.
pub fn parse_quote(bytes: &[u8]) -> Result<Quote<'_>, ResponseError> {
    params(bytes, false, |_, r| {
        let attest_bytes = r.tpm2b(MAX_ATTEST, "TPM2B_ATTEST")?;
        Ok(Quote { attest_bytes, attest: Attest::from_bytes(attest_bytes)?, signature: r.get()? })
    })
}

/// The answer to TPM2_PCR_Read.
#[derive(Clone, Debug)]
pub struct PcrRead {
    /// pcrUpdateCounter.
    pub update_counter: u32,
    /// The PCR that are in `values`, which may be fewer than were asked for.
    pub selection: PcrSelectionList,
    /// Their values, in the order of `selection`.
    pub values: List<Digest, 8>,
}

/// Parses the answer to TPM2_PCR_Read.
pub fn parse_pcr_read(bytes: &[u8]) -> Result<PcrRead, ResponseError> {
    params(bytes, false, |_, r| {
        Ok(PcrRead { update_counter: r.u32("pcrUpdateCounter")?, selection: r.get()?, values: r.get()? })
    })
}

/// The digests that TPM2_PCR_Event and TPM2_EventSequenceComplete extended.
pub fn parse_digest_values(bytes: &[u8]) -> Result<DigestValues, ResponseError> {
    params(bytes, false, |_, r| r.get())
}

/// The digest and ticket of TPM2_Hash and TPM2_SequenceComplete.
pub fn parse_hash(bytes: &[u8]) -> Result<(Digest, TkCreation), ResponseError> {
    params(bytes, false, |_, r| Ok((r.get()?, r.get()?)))
}

/// The handle of TPM2_HashSequenceStart.
pub fn parse_handle(bytes: &[u8]) -> Result<Handle, ResponseError> {
    params(bytes, true, |handle, _| Ok(handle.unwrap_or_default()))
}

/// The time of TPM2_ReadClock.
pub fn parse_read_clock(bytes: &[u8]) -> Result<TimeInfo, ResponseError> {
    params(bytes, false, |_, r| r.get())
}

/// Reads the capability data of TPM2_GetCapability with `read`; answers also whether there is more.
fn capability<'a, T>(
    bytes: &'a [u8],
    capability: u32,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>,
) -> Result<(bool, T), ResponseError> {
    let response = parse(bytes, false)?;
    let mut r = Reader::new(response.params);
    let more = r.u8("moreData")? != 0;
    let got = r.u32("TPM_CAP")?;
    if got != capability {
        return Err(ResponseError::Capability(got));
    }
    let value = read(&mut r)?;
    finish(&r)?;
    Ok((more, value))
}

/// The PCR banks of TPM2_GetCapability(TPM_CAP_PCRS): banks with no PCR selected are not allocated.
pub fn parse_capability_pcrs(bytes: &[u8]) -> Result<PcrSelectionList, ResponseError> {
    capability(bytes, cap::PCRS, |r| r.get()).map(|(_, banks)| banks)
}

/// The (property, value) pairs of TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES), and whether there are more.
pub fn parse_capability_properties(bytes: &[u8]) -> Result<(bool, Vec<(u32, u32)>), ResponseError> {
    capability(bytes, cap::TPM_PROPERTIES, |r| {
        let count = r.u32("TPML count")?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push((r.u32("TPM_PT")?, r.u32("value")?));
        }
        Ok(list)
    })
}
