//! Evidence of what a bulla VM booted, and its appraisal.
//!
//! This crate is what someone who does not trust the host builds and reads: it knows TPM structures, the TCG event
//! log, CBOR and signatures. It does not know that KVM exists, never links the monitor or the vTPM engine, opens no
//! socket, and reads only the files it is given.
//!
//! - [`SignedEvidence`] reads what a monitor wrote; [`Evidence::sign`] writes it (layout: `docs/evidence.md`).
//! - [`Expected`] holds what the VM should have measured; `bulla measure` computes it offline.
//! - [`Policy`] says what the verifier insists on.
//! - [`appraise()`] compares them and gives a [`Verdict`] with every check, every reason and every difference.
//! - [`eventlog`] and [`quote`] work on their own, for logs and quotes of any TPM 2.0.
#![forbid(unsafe_code)]

mod appraise;
mod bank;
mod cbor;
mod envelope;
mod evidence;
mod expected;
mod hostkey;
mod policy;
mod root;

pub mod eventlog;
pub mod export;
pub mod quote;

pub use appraise::{Check, Code, Difference, Kind, Reason, Verdict, appraise};
pub use bank::{Bank, Digests, PCR_COUNT, PcrValues, UnknownBank, digests_of, pcr_ranges};
pub use cbor::CborError;
pub use envelope::{EvidenceError, SignedEvidence};
pub use evidence::{Evidence, MAX_EVIDENCE, NONCE_SIZES, PROFILE, TakenAt, TpmEvidence};
pub use expected::{Expected, ExpectedError, ExpectedEvent, MAX_EXPECTED};
pub use hostkey::{HostKey, HostKeyError, HostPublicKey};
pub use policy::{MAX_POLICY, Policy, PolicyError};
pub use root::{Root, UnknownRoot};
