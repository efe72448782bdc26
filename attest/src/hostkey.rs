//! The host key: the P-256 key with which a monitor signs the evidence of its VMs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ciborium::value::Value;
use pem_rfc7468::LineEnding;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use zeroize::Zeroizing;

use crate::bank::Bank;
use crate::cbor::{self, CborError, Fields, bytes, int};

/// SubjectPublicKeyInfo of a P-256 key up to its uncompressed point (RFC 5480, 2).
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT: usize = 65;

/// Largest key file read.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// What can be wrong with a host key or the file that holds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error("{}: mode {mode:03o} lets others read the private key; make it 600", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a PEM file of the expected kind.
    #[error("not a PEM \"{expected}\"")]
    Pem {
        /// The label that was expected.
        expected: &'static str,
    },
    /// Not a P-256 key.
    #[error("not a P-256 key in {0} form")]
    NotP256(&'static str),
    /// The random number generator or the signing failed.
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
}

/// The public half of a host key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostPublicKey {
    /// Uncompressed SEC 1 point: 4, x, y.
    point: [u8; POINT],
}

impl std::fmt::Debug for HostPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostPublicKey({})", hex::encode(self.thumbprint()))
    }
}

impl HostPublicKey {
    fn from_point(point: &[u8]) -> Option<Self> {
        let point: [u8; POINT] = point.try_into().ok()?;
        (point.first() == Some(&4)).then_some(Self { point })
    }

    fn xy(&self) -> (&[u8], &[u8]) {
        let xy = self.point.get(1..).unwrap_or_default();
        xy.split_at(xy.len() / 2)
    }

    /// COSE_Key (RFC 9052, 7; RFC 9053, 7.1.1): `{1: 2 (EC2), -1: 1 (P-256), -2: x, -3: y}`.
    pub(crate) fn to_cose_key(self) -> Value {
        let (x, y) = self.xy();
        Value::Map(vec![(int(1), int(2)), (int(-1), int(1)), (int(-2), bytes(x)), (int(-3), bytes(y))])
    }

    pub(crate) fn from_cose_key(value: Value) -> Result<Self, CborError> {
        let mut key = Fields::new(value, "host key")?;
        if key.u32(1, "kty")? != 2 {
            return Err(key.invalid("kty", "2 (EC2)"));
        }
        if key.u32(-1, "crv")? != 1 {
            return Err(key.invalid("crv", "1 (P-256)"));
        }
        let (x, y) = (key.bytes(-2, "x")?, key.bytes(-3, "y")?);
        if x.len() != 32 || y.len() != 32 {
            return Err(key.invalid("x or y", "32 bytes"));
        }
        let point = [&[4][..], &x, &y].concat();
        let public = Self::from_point(&point).ok_or_else(|| key.invalid("point", "a P-256 point"))?;
        key.finish()?;
        Ok(public)
    }

    /// COSE Key Thumbprint with SHA-256 (RFC 9679): the name by which policies pin this key.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        let digest = Bank::Sha256.digest(&[&cbor::encode(self.to_cose_key())]);
        let mut out = [0; 32];
        out.copy_from_slice(&digest);
        out
    }

    /// Reads a PEM `PUBLIC KEY` (SubjectPublicKeyInfo).
    pub fn from_pem(pem: &str) -> Result<Self, HostKeyError> {
        let (label, der) =
            pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|_| HostKeyError::Pem { expected: "PUBLIC KEY" })?;
        if label != "PUBLIC KEY" {
            return Err(HostKeyError::Pem { expected: "PUBLIC KEY" });
        }
        der.strip_prefix(&SPKI_P256).and_then(Self::from_point).ok_or(HostKeyError::NotP256("SubjectPublicKeyInfo"))
    }

    /// The key as PEM `PUBLIC KEY`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let der = [&SPKI_P256[..], &self.point].concat();
        pem_rfc7468::encode_string("PUBLIC KEY", LineEnding::LF, &der).unwrap_or_default()
    }

    /// Whether `signature` (r ‖ s) over `message` is ES256 by this key.
    #[must_use]
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }
}

/// A host key with its private half.
pub struct HostKey {
    pair: EcdsaKeyPair,
    public: HostPublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", hex::encode(self.public.thumbprint()))
    }
}

impl HostKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, HostKeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| HostKeyError::Crypto("make a key"))?;
        Self::from_pkcs8(document.as_ref())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, HostKeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_err(|_| HostKeyError::NotP256("PKCS#8"))?;
        let public =
            HostPublicKey::from_point(pair.public_key().as_ref()).ok_or(HostKeyError::NotP256("uncompressed"))?;
        Ok(Self { pair, public, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// Reads a PEM `PRIVATE KEY` (PKCS#8, with its public half inside as RFC 5915 allows).
    pub fn from_pem(pem: &str) -> Result<Self, HostKeyError> {
        let (label, der) =
            pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|_| HostKeyError::Pem { expected: "PRIVATE KEY" })?;
        let der = Zeroizing::new(der);
        if label != "PRIVATE KEY" {
            return Err(HostKeyError::Pem { expected: "PRIVATE KEY" });
        }
        Self::from_pkcs8(&der)
    }

    /// Reads the key from a file that only its owner may read.
    pub fn load(path: &Path) -> Result<Self, HostKeyError> {
        let io = |source| HostKeyError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(HostKeyError::Permissions { path: path.to_owned(), mode });
        }
        let mut pem = Zeroizing::new(String::new());
        file.take(MAX_KEY_FILE).read_to_string(&mut pem).map_err(io)?;
        Self::from_pem(&pem)
    }

    /// Writes the key to a new file with mode 600; an existing file is never replaced.
    ///
    /// The file appears under its name only when it is complete and on disk.
    pub fn save_new(&self, path: &Path) -> Result<(), HostKeyError> {
        let io = |source| HostKeyError::Io { path: path.to_owned(), source };
        let pem = pem_rfc7468::encode_string("PRIVATE KEY", LineEnding::LF, &self.pkcs8)
            .map(Zeroizing::new)
            .map_err(|_| HostKeyError::Pem { expected: "PRIVATE KEY" })?;
        let mut tag = [0; 8];
        SystemRandom::new().fill(&mut tag).map_err(|_| HostKeyError::Crypto("give random bytes"))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".new-{}", hex::encode(tag)));
        let scratch = path.with_file_name(name);

        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&scratch)
            .and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()))
            // A link, unlike a rename, fails when the name is taken.
            .and_then(|()| fs::hard_link(&scratch, path));
        let removed = fs::remove_file(&scratch);
        written.and(removed).map_err(io)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// Reads the key, or makes one and saves it where there is none yet.
    pub fn load_or_generate(path: &Path) -> Result<Self, HostKeyError> {
        let missing = |e: &HostKeyError, kind| matches!(e, HostKeyError::Io { source, .. } if source.kind() == kind);
        match Self::load(path) {
            Err(e) if missing(&e, io::ErrorKind::NotFound) => {
                let key = Self::generate()?;
                match key.save_new(path) {
                    // Another process was faster: its key is the host's key.
                    Err(e) if missing(&e, io::ErrorKind::AlreadyExists) => Self::load(path),
                    saved => saved.map(|()| key),
                }
            }
            loaded => loaded,
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> HostPublicKey {
        self.public
    }

    /// ES256 over `message`, as r ‖ s.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HostKeyError> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| HostKeyError::Crypto("sign"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_follows_rfc_9679() {
        // The example of RFC 9679, section 6 (without its kid, which a thumbprint leaves out).
        let x = hex::decode("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d").expect("hex");
        let y = hex::decode("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c").expect("hex");
        let key = HostPublicKey::from_point(&[&[4][..], &x, &y].concat()).expect("a point");
        assert_eq!(hex::encode(key.thumbprint()), "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec");
    }

    #[test]
    fn a_saved_key_is_private_loads_again_and_is_never_replaced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("host.pem");
        let key = HostKey::load_or_generate(&path).expect("generated");
        let mode = fs::metadata(&path).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(HostKey::load_or_generate(&path).expect("loaded").public(), key.public());
        assert!(HostKey::generate().expect("second").save_new(&path).is_err());
        assert_eq!(HostKey::load(&path).expect("still there").public(), key.public());
        assert_eq!(fs::read_dir(dir.path()).expect("listing").count(), 1, "no scratch file stays behind");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(HostKey::load(&path), Err(HostKeyError::Permissions { mode: 0o640, .. })));
    }

    #[test]
    fn public_keys_survive_pem_and_cose() {
        let public = HostKey::generate().expect("key").public();
        assert_eq!(HostPublicKey::from_pem(&public.to_pem()).expect("PEM"), public);
        assert_eq!(HostPublicKey::from_cose_key(public.to_cose_key()), Ok(public));
        assert!(HostPublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
        assert!(HostKey::from_pem(&public.to_pem()).is_err());
    }

    #[test]
    fn signatures_verify_only_for_their_message_and_key() {
        let key = HostKey::generate().expect("key");
        let signature = key.sign(b"evidence").expect("signed");
        assert!(key.public().verify(b"evidence", &signature));
        assert!(!key.public().verify(b"evidencf", &signature));
        assert!(!HostKey::generate().expect("other").public().verify(b"evidence", &signature));
    }
}
