//! A TPM of the host's as the keeper of a state's key and as its counter.
//!
//! The key is sealed under the host's storage root key; the sealed object is a file beside the state. Everything that
//! talks to the TPM is behind the feature `host-tpm`, and happens before the sandbox.

#[cfg(feature = "host-tpm")]
mod tss;

use std::path::PathBuf;

use bulla_tpm_types::{ErrorKind, Reader, Writer};
use thiserror::Error;

use super::key::SecretBytes;
use super::{Counter, FileAnchor};

/// What names a TPM of the host's in an option.
const WORD: &str = "host-tpm";
/// The kernel's resource manager: clients that are gone leave nothing behind.
const DEVICE: &str = "device:/dev/tpmrm0";
/// PCR of a PC client's bank.
const PCRS: u32 = 24;
/// More bytes than any sealed key has.
pub(super) const MOST: u64 = 4096;
const MAGIC: &[u8; 8] = b"bullaHST";
const VERSION: u8 = 1;

/// A TPM of the host's, and to which of its PCR a new key is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTpm {
    /// How tpm2-tss reaches it.
    tcti: String,
    /// A bit for each PCR of the SHA-256 bank.
    pcrs: u32,
}

/// Why a TPM of the host's did not do its part.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// This program cannot talk to one.
    #[error(
        "this bulla-vtpm was built without what talks to a TPM of the host's: install libtss2-dev and build it with \
        `cargo build --release -p bulla-vtpm --features host-tpm`"
    )]
    NotBuilt,
    /// It cannot be reached, or refused a command.
    #[error("the host's TPM ({tcti}): {what}: {reason}")]
    Tpm {
        /// How it should be reached.
        tcti: String,
        /// What was tried.
        what: &'static str,
        /// What the TPM or its library says.
        reason: String,
    },
    /// It does not have the storage root key that the state's key was sealed under.
    #[error(
        "the TPM state's key was sealed by another TPM than this host's ({tcti}), or its owner's seed has changed since"
    )]
    Other {
        /// How it is reached.
        tcti: String,
    },
    /// Its PCR are not what the key was sealed to.
    #[error("the host's PCR {pcrs} are not what they were when the TPM state's key was sealed")]
    Pcrs {
        /// Which: one of them, at least, has changed.
        pcrs: String,
    },
    /// The key was sealed to other PCR than are asked for.
    #[error("the TPM state's key was sealed to PCR {sealed}, not to {wanted}")]
    Choice {
        /// To which it was.
        sealed: String,
        /// Which were asked for.
        wanted: String,
    },
    /// The file is no sealed key.
    #[error("the sealed key of the TPM state: {0}")]
    Form(#[from] bulla_tpm_types::Error),
    /// What the TPM unsealed is no key.
    #[error("what the host's TPM unsealed is no key")]
    NoKey,
    /// The index is there, and something else.
    #[error(
        "the NV index {index:#010x} of the host's TPM is no counter that its own authorization, which is empty, reads and counts"
    )]
    NoCounter {
        /// The index.
        index: u32,
    },
}

/// A key that a TPM has sealed.
#[derive(Debug, PartialEq, Eq)]
struct Sealed {
    /// To which PCR.
    pcrs: u32,
    /// The Name of the storage root key: which TPM, and that no other answers in its place.
    parent: Vec<u8>,
    /// The object's public part, a TPMT_PUBLIC.
    public: Vec<u8>,
    /// The object's private part, without its size.
    private: Vec<u8>,
}

impl Sealed {
    #[cfg_attr(not(any(feature = "host-tpm", test)), expect(dead_code, reason = "only a host's TPM makes one"))]
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::from_vec(Vec::new());
        w.bytes(MAGIC);
        w.u8(VERSION);
        w.u32(self.pcrs);
        for part in [&self.parent, &self.public, &self.private] {
            w.u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
            w.bytes(part);
        }
        w.into_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, HostError> {
        let mut r = Reader::new(bytes);
        let at = r.clone();
        if r.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(at.error(ErrorKind::Value, "magic").into());
        }
        let at = r.clone();
        if r.u8("version")? != VERSION {
            return Err(at.error(ErrorKind::Value, "version").into());
        }
        let pcrs = r.u32("PCR")?;
        let mut part = |what| -> Result<Vec<u8>, HostError> {
            let length = usize::from(r.u16(what)?);
            Ok(r.take(length, what)?.to_vec())
        };
        let sealed =
            Self { pcrs, parent: part("parent")?, public: part("public part")?, private: part("private part")? };
        if r.is_empty() { Ok(sealed) } else { Err(r.error(ErrorKind::Size, "end").into()) }
    }
}

/// "0+4+7".
fn list(pcrs: u32) -> String {
    let numbers: Vec<String> = (0..PCRS).filter(|n| pcrs & 1 << n != 0).map(|n| n.to_string()).collect();
    if numbers.is_empty() { "none".to_owned() } else { numbers.join("+") }
}

fn pcrs(text: &str) -> Result<u32, String> {
    text.split('+').try_fold(0, |all, number| match number.parse::<u32>() {
        Ok(n) if n < PCRS => Ok(all | 1 << n),
        _ => Err(format!("`{number}` is no PCR: they are 0 to {}, with + between them", PCRS - 1)),
    })
}

impl HostTpm {
    /// Reads `host-tpm[,pcrs=0+7][,tcti=TCTI]`, of which the TCTI goes on to the end, commas and all. `None` when `text` is
    /// something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix(WORD)?;
        match rest.strip_prefix(',') {
            None if rest.is_empty() => Some(Self::options("", true)),
            None => None,
            Some(options) => Some(Self::options(options, true)),
        }
    }

    /// What comes after the first comma.
    fn options(text: &str, may_seal: bool) -> Result<Self, String> {
        let mut host = Self { tcti: DEVICE.to_owned(), pcrs: 0 };
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(tcti) = rest.strip_prefix("tcti=") {
                host.tcti = tcti.to_owned();
                break;
            }
            let (item, more) = rest.split_once(',').unwrap_or((rest, ""));
            host.pcrs = match item.strip_prefix("pcrs=") {
                Some(text) if may_seal => pcrs(text)?,
                _ if may_seal => return Err(format!("there is no `{item}`; there are `pcrs`, `tcti`")),
                _ => return Err(format!("there is no `{item}`; there is `tcti`")),
            };
            rest = more;
        }
        Ok(host)
    }

    /// Seals a key. Answers the file that [`HostTpm::unseal`] takes.
    pub(super) fn seal(&self, key: &[u8]) -> Result<Vec<u8>, HostError> {
        #[cfg(feature = "host-tpm")]
        return tss::seal(self, key).map(|sealed| sealed.to_bytes());
        #[cfg(not(feature = "host-tpm"))]
        {
            let _ = key;
            Err(HostError::NotBuilt)
        }
    }

    /// Opens a key that was sealed.
    pub(super) fn unseal(&self, file: &[u8]) -> Result<SecretBytes, HostError> {
        let sealed = Sealed::from_bytes(file)?;
        if self.pcrs != 0 && self.pcrs != sealed.pcrs {
            return Err(HostError::Choice { sealed: list(sealed.pcrs), wanted: list(self.pcrs) });
        }
        #[cfg(feature = "host-tpm")]
        return tss::unseal(self, &sealed);
        #[cfg(not(feature = "host-tpm"))]
        Err(HostError::NotBuilt)
    }
}

/// Where what remembers the last state is: an option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorPlace {
    /// A file.
    File(PathBuf),
    /// A counter in a TPM of the host's.
    HostTpm {
        /// Its NV index.
        index: u32,
        /// The TPM.
        host: HostTpm,
    },
}

/// The NV indices that are the owner's to give (Registry of Reserved TPM 2.0 Handles and Localities 1.1, 2.2.2).
const OWNER_INDICES: core::ops::Range<u32> = 0x0180_0000..0x01c0_0000;

impl AnchorPlace {
    /// Reads the name of a file, or `host-tpm:INDEX[,tcti=TCTI]`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix(WORD).and_then(|rest| rest.strip_prefix(':')) else {
            return Ok(Self::File(text.into()));
        };
        let (number, options) = rest.split_once(',').unwrap_or((rest, ""));
        let index = number.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match index.filter(|index| OWNER_INDICES.contains(index)) {
            Some(index) => Ok(Self::HostTpm { index, host: HostTpm::options(options, false)? }),
            None => Err(format!("`{number}` is no NV index of the owner's, 0x01800000 to 0x01bfffff")),
        }
    }

    /// Opens it: a file stays open, which is answered; a TPM is asked when the state is opened.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> Result<OpenAnchor, std::io::Error> {
        match self {
            Self::File(path) => FileAnchor::open(path).map(OpenAnchor::File),
            #[cfg(feature = "host-tpm")]
            Self::HostTpm { index, host } => Ok(OpenAnchor::Counter(Box::new(tss::NvCounter::open(host, *index)?))),
            #[cfg(not(feature = "host-tpm"))]
            Self::HostTpm { .. } => Err(HostError::NotBuilt.into()),
        }
    }
}

/// What an [`AnchorPlace`] opened.
pub enum OpenAnchor {
    /// For [`Options::anchor`](super::Options::anchor).
    File(FileAnchor),
    /// For [`Options::counter`](super::Options::counter).
    Counter(Box<dyn Counter>),
}

impl core::fmt::Debug for OpenAnchor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Counter(_) => "Counter",
        })
    }
}

impl From<HostError> for std::io::Error {
    fn from(error: HostError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(tcti: &str, pcrs: u32) -> HostTpm {
        HostTpm { tcti: tcti.to_owned(), pcrs }
    }

    #[test]
    fn a_tpm_of_the_host_s_is_named_with_its_pcr_and_how_it_is_reached() {
        assert_eq!(HostTpm::parse("host-tpm"), Some(Ok(host(DEVICE, 0))));
        let swtpm = "swtpm:host=127.0.0.1,port=7";
        assert_eq!(HostTpm::parse(&format!("host-tpm,tcti={swtpm}")), Some(Ok(host(swtpm, 0))));
        assert_eq!(HostTpm::parse(&format!("host-tpm,pcrs=0+7,tcti={swtpm}")), Some(Ok(host(swtpm, 0x81))));
        for wrong in ["host-tpm,pcr=7", "host-tpm,pcrs=24", "host-tpm,pcrs=", "host-tpm,pcrs=0,7"] {
            assert!(matches!(HostTpm::parse(wrong), Some(Err(_))), "{wrong}");
        }
        for other in ["file=host-tpm", "host-tpm2", "/host-tpm", "host-tpm.key"] {
            assert_eq!(HostTpm::parse(other), None, "{other}");
        }
        assert_eq!(list(0x81), "0+7");
    }

    #[test]
    fn an_anchor_is_a_file_or_an_index_of_the_owner_s() {
        assert_eq!(AnchorPlace::parse("/x"), Ok(AnchorPlace::File("/x".into())));
        assert_eq!(AnchorPlace::parse("host-tpm"), Ok(AnchorPlace::File("host-tpm".into())));
        let swtpm = "swtpm:host=127.0.0.1,port=7";
        let place = AnchorPlace::HostTpm { index: 0x0180_0100, host: host(swtpm, 0) };
        assert_eq!(AnchorPlace::parse(&format!("host-tpm:0x01800100,tcti={swtpm}")), Ok(place));
        for wrong in ["0x01c00100", "25166080", "", "0x01800100,pcrs=0", "0x01800100,swtpm"] {
            assert!(AnchorPlace::parse(&format!("host-tpm:{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sealed_key_is_read_back_whole_or_not_at_all() {
        let sealed = Sealed { pcrs: 0x81, parent: vec![1; 34], public: vec![2; 60], private: vec![3; 160] };
        let bytes = sealed.to_bytes();
        assert!(bytes.len() < usize::try_from(MOST).unwrap());
        assert_eq!(Sealed::from_bytes(&bytes).unwrap(), sealed);
        for n in 0..bytes.len() {
            assert!(matches!(Sealed::from_bytes(&bytes[..n]), Err(HostError::Form(_))), "{n} bytes");
        }
        assert!(Sealed::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let wanted = host(DEVICE, 1).unseal(&bytes).unwrap_err();
        assert!(matches!(wanted, HostError::Choice { .. }), "{wanted}");
    }

    #[cfg(not(feature = "host-tpm"))]
    #[test]
    fn a_program_that_cannot_says_how_to_build_one_that_can() {
        let bytes = Sealed { pcrs: 0, parent: vec![], public: vec![], private: vec![] }.to_bytes();
        for error in [host(DEVICE, 0).seal(&[0; 32]).unwrap_err(), host(DEVICE, 0).unseal(&bytes).unwrap_err()] {
            assert!(error.to_string().contains("--features host-tpm"), "{error}");
        }
        let error = AnchorPlace::parse("host-tpm:0x01800100").unwrap().open().unwrap_err();
        assert!(error.to_string().contains("--features host-tpm"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_sealed_key_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(sealed) = Sealed::from_bytes(&[&b"bullaHST\x01"[..], &bytes].concat()) {
                prop_assert_eq!(&sealed.to_bytes()[9..], &bytes);
            }
        }
    }
}
