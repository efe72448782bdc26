//! Attestation structures and creation data (Part 2, 10.11, 10.12, 15.1).

use alloc::vec::Vec;

use crate::attributes::Locality;
use crate::buffers::{Data, Digest, Name};
use crate::codec::{Marshal, Reader, Unmarshal, Writer};
use crate::constants::{AlgId, HashAlg, st};
use crate::error::{Error, ErrorKind};
use crate::pcr::PcrSelectionList;

/// TPM_GENERATED_VALUE: "\xffTCG", which starts every structure that a TPM made and signed (Part 2, 6.2).
const GENERATED: u32 = 0xff54_4347;

/// The largest TPM2B_MAX_NV_BUFFER accepted in an attestation.
const MAX_NV_BUFFER: usize = 2048;

fn yes_no(r: &mut Reader<'_>, what: &'static str) -> Result<bool, Error> {
    let at = r.clone();
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(at.error(ErrorKind::Value, what)),
    }
}

/// TPMS_CLOCK_INFO (Part 2, 10.11.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds the TPM has been powered.
    pub clock: u64,
    /// TPM Resets since TPM2_Clear.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last Reset or Clear.
    pub restart_count: u32,
    /// Whether no larger `clock` was ever reported.
    pub safe: bool,
}

impl Marshal for ClockInfo {
    fn marshal(&self, w: &mut Writer) {
        w.u64(self.clock);
        w.u32(self.reset_count);
        w.u32(self.restart_count);
        w.u8(u8::from(self.safe));
    }
}

impl<'a> Unmarshal<'a> for ClockInfo {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            clock: r.u64("clock")?,
            reset_count: r.u32("resetCount")?,
            restart_count: r.u32("restartCount")?,
            safe: yes_no(r, "safe")?,
        })
    }
}

/// TPMS_TIME_INFO (Part 2, 10.11.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeInfo {
    /// Milliseconds since the TPM was last powered or reset.
    pub time: u64,
    /// Clock and counters.
    pub clock_info: ClockInfo,
}

impl Marshal for TimeInfo {
    fn marshal(&self, w: &mut Writer) {
        w.u64(self.time);
        w.put(&self.clock_info);
    }
}

impl<'a> Unmarshal<'a> for TimeInfo {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { time: r.u64("time")?, clock_info: r.get()? })
    }
}

/// TPMU_ATTEST: what is attested (Part 2, 10.12.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// TPMS_CERTIFY_INFO.
    Certify {
        /// Name of the certified object.
        name: Name,
        /// Its Qualified Name.
        qualified_name: Name,
    },
    /// TPMS_QUOTE_INFO.
    Quote {
        /// The quoted PCR.
        pcr_select: PcrSelectionList,
        /// Digest over their concatenated values, by the hash of the signing scheme.
        pcr_digest: Digest,
    },
    /// TPMS_COMMAND_AUDIT_INFO.
    CommandAudit {
        /// The monotonic audit counter.
        audit_counter: u64,
        /// Hash algorithm of the audit.
        digest_alg: AlgId,
        /// The audit digest.
        audit_digest: Digest,
        /// Digest of the audited command codes.
        command_digest: Digest,
    },
    /// TPMS_SESSION_AUDIT_INFO.
    SessionAudit {
        /// Whether the session was exclusive.
        exclusive: bool,
        /// The session's audit digest.
        session_digest: Digest,
    },
    /// TPMS_TIME_ATTEST_INFO.
    Time {
        /// Time, clock and counters.
        time: TimeInfo,
        /// Firmware version, in the clear.
        firmware_version: u64,
    },
    /// TPMS_CREATION_INFO.
    Creation {
        /// Name of the object.
        object_name: Name,
        /// Digest of its creation data.
        creation_hash: Digest,
    },
    /// TPMS_NV_CERTIFY_INFO.
    Nv {
        /// Name of the NV Index.
        index_name: Name,
        /// Offset of the certified bytes.
        offset: u16,
        /// The certified bytes.
        contents: Vec<u8>,
    },
    /// TPMS_NV_DIGEST_CERTIFY_INFO.
    NvDigest {
        /// Name of the NV Index.
        index_name: Name,
        /// Digest of its contents.
        nv_digest: Digest,
    },
}

impl Attested {
    /// TPMI_ST_ATTEST.
    #[must_use]
    pub const fn tag(&self) -> u16 {
        match self {
            Self::Certify { .. } => st::ATTEST_CERTIFY,
            Self::Quote { .. } => st::ATTEST_QUOTE,
            Self::CommandAudit { .. } => st::ATTEST_COMMAND_AUDIT,
            Self::SessionAudit { .. } => st::ATTEST_SESSION_AUDIT,
            Self::Time { .. } => st::ATTEST_TIME,
            Self::Creation { .. } => st::ATTEST_CREATION,
            Self::Nv { .. } => st::ATTEST_NV,
            Self::NvDigest { .. } => st::ATTEST_NV_DIGEST,
        }
    }

    fn marshal_body(&self, w: &mut Writer) {
        match self {
            Self::Certify { name, qualified_name } => {
                w.put(name);
                w.put(qualified_name);
            }
            Self::Quote { pcr_select, pcr_digest } => {
                w.put(pcr_select);
                w.put(pcr_digest);
            }
            Self::CommandAudit { audit_counter, digest_alg, audit_digest, command_digest } => {
                w.u64(*audit_counter);
                w.put(digest_alg);
                w.put(audit_digest);
                w.put(command_digest);
            }
            Self::SessionAudit { exclusive, session_digest } => {
                w.u8(u8::from(*exclusive));
                w.put(session_digest);
            }
            Self::Time { time, firmware_version } => {
                w.put(time);
                w.u64(*firmware_version);
            }
            Self::Creation { object_name, creation_hash } => {
                w.put(object_name);
                w.put(creation_hash);
            }
            Self::Nv { index_name, offset, contents } => {
                w.put(index_name);
                w.u16(*offset);
                w.tpm2b(contents);
            }
            Self::NvDigest { index_name, nv_digest } => {
                w.put(index_name);
                w.put(nv_digest);
            }
        }
    }

    fn unmarshal_body(tag: u16, r: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(match tag {
            st::ATTEST_CERTIFY => Self::Certify { name: r.get()?, qualified_name: r.get()? },
            st::ATTEST_QUOTE => Self::Quote { pcr_select: r.get()?, pcr_digest: r.get()? },
            st::ATTEST_COMMAND_AUDIT => Self::CommandAudit {
                audit_counter: r.u64("auditCounter")?,
                digest_alg: r.get()?,
                audit_digest: r.get()?,
                command_digest: r.get()?,
            },
            st::ATTEST_SESSION_AUDIT => {
                Self::SessionAudit { exclusive: yes_no(r, "exclusiveSession")?, session_digest: r.get()? }
            }
            st::ATTEST_TIME => Self::Time { time: r.get()?, firmware_version: r.u64("firmwareVersion")? },
            st::ATTEST_CREATION => Self::Creation { object_name: r.get()?, creation_hash: r.get()? },
            st::ATTEST_NV => Self::Nv {
                index_name: r.get()?,
                offset: r.u16("offset")?,
                contents: r.tpm2b(MAX_NV_BUFFER, "TPM2B_MAX_NV_BUFFER")?.to_vec(),
            },
            st::ATTEST_NV_DIGEST => Self::NvDigest { index_name: r.get()?, nv_digest: r.get()? },
            _ => return Err(r.error(ErrorKind::Selector, "TPMI_ST_ATTEST")),
        })
    }
}

/// TPMS_ATTEST (Part 2, 10.12.12): what an attestation command signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// Qualified Name of the signing key.
    pub qualified_signer: Name,
    /// The caller's nonce or other data.
    pub extra_data: Data,
    /// Clock and counters; obfuscated for keys outside the endorsement and platform hierarchies.
    pub clock_info: ClockInfo,
    /// Firmware version; obfuscated likewise.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested,
}

impl Marshal for Attest {
    fn marshal(&self, w: &mut Writer) {
        w.u32(GENERATED);
        w.u16(self.attested.tag());
        w.put(&self.qualified_signer);
        w.put(&self.extra_data);
        w.put(&self.clock_info);
        w.u64(self.firmware_version);
        self.attested.marshal_body(w);
    }
}

impl<'a> Unmarshal<'a> for Attest {
    /// A wrong magic is TPM_RC_VALUE: the structure was not made by a TPM.
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        let at = r.clone();
        if r.u32("TPM_GENERATED")? != GENERATED {
            return Err(at.error(ErrorKind::Value, "TPM_GENERATED"));
        }
        let at = r.clone();
        let tag = r.u16("TPMI_ST_ATTEST")?;
        if !matches!(tag, st::ATTEST_NV..=st::ATTEST_CREATION | st::ATTEST_NV_DIGEST) {
            return Err(at.error(ErrorKind::Selector, "TPMI_ST_ATTEST"));
        }
        Ok(Self {
            qualified_signer: r.get()?,
            extra_data: r.get()?,
            clock_info: r.get()?,
            firmware_version: r.u64("firmwareVersion")?,
            attested: Attested::unmarshal_body(tag, r)?,
        })
    }
}

/// TPMS_CREATION_DATA (Part 2, 15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreationData {
    /// PCR selected by the caller.
    pub pcr_select: PcrSelectionList,
    /// Their digest, by the object's nameAlg.
    pub pcr_digest: Digest,
    /// Locality at which the object was created.
    pub locality: Locality,
    /// nameAlg of the parent; `None` is TPM_ALG_NULL.
    pub parent_name_alg: Option<HashAlg>,
    /// Name of the parent.
    pub parent_name: Name,
    /// Qualified Name of the parent.
    pub parent_qualified_name: Name,
    /// The caller's data.
    pub outside_info: Data,
}

impl Marshal for CreationData {
    fn marshal(&self, w: &mut Writer) {
        w.put(&self.pcr_select);
        w.put(&self.pcr_digest);
        w.put(&self.locality);
        w.put(&HashAlg::id_or_null(self.parent_name_alg));
        w.put(&self.parent_name);
        w.put(&self.parent_qualified_name);
        w.put(&self.outside_info);
    }
}

impl<'a> Unmarshal<'a> for CreationData {
    fn unmarshal(r: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            pcr_select: r.get()?,
            pcr_digest: r.get()?,
            locality: r.get()?,
            parent_name_alg: HashAlg::unmarshal_or_null(r)?,
            parent_name: r.get()?,
            parent_qualified_name: r.get()?,
            outside_info: r.get()?,
        })
    }
}
