//! A certificate authority in a folder: one key (ECDSA with P-384), and a certificate of its own for it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use p384::SecretKey;
use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::{Signature, SigningKey};
use p384::elliptic_curve::sec1::ToSec1Point as _;
use p384::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rustix::fs::FlockOperation;
use thiserror::Error;
use zeroize::Zeroizing;

use super::certificate::{self, KeyUse, Subject};
use super::der::{self, Der};
use crate::state::random;

/// The authority's private key: PKCS#8 in PEM, for its owner only.
pub const KEY_FILE: &str = "root-key.pem";
/// The authority's certificate, in PEM: what verifiers trust.
pub const CERTIFICATE_FILE: &str = "root-cert.pem";

const CERTIFICATE: &str = "CERTIFICATE";
/// Octets of a serial number, which are the most that RFC 5280, 4.1.2.2, allows.
const SERIAL: usize = 20;

/// Why the authority could not issue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The system refused something.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file of the key holds something else.
    #[error("{} is not a P-384 key in PKCS#8 and PEM; move it away to have a new authority made", .0.display())]
    Key(PathBuf),
    /// The certificate is another key's.
    #[error(
        "{} is not the certificate of the key beside it; put the right one there, or move it away to have it made again",
        .0.display()
    )]
    Certificate(PathBuf),
    /// There is no randomness, or the clock is before 1970.
    #[error("the authority cannot issue: {0}")]
    Issue(String),
}

fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    move |source| AuthorityError::File { what, path: path.to_owned(), source }
}

fn cannot_issue(error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Issue(error.to_string())
}

/// A certificate authority.
pub(super) struct Authority {
    key: SigningKey,
    /// Its subject, which is the issuer of what it issues.
    name: Der,
    key_id: [u8; 20],
    certificate: PathBuf,
}

impl Authority {
    /// The authority in a folder; it is made if there is none.
    pub(super) fn open(dir: &Path) -> Result<Self, AuthorityError> {
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(of("make the folder", dir))?;
        let folder = File::open(dir).map_err(of("open", dir))?;
        // Until it is closed: of two that come first at once, one makes the authority.
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map_err(|error| of("lock", dir)(error.into()))?;

        let path = dir.join(KEY_FILE);
        let key = match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(pem) => SecretKey::from_pkcs8_pem(&pem).map_err(|_| AuthorityError::Key(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = generate()?;
                let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(cannot_issue)?;
                write_whole(&path, pem.as_bytes(), 0o600)?;
                key
            }
            Err(error) => return Err(of("read", &path)(error)),
        };

        let point = key.public_key().to_sec1_point(false);
        let key_id = certificate::key_id(point.as_bytes());
        let public = certificate::ec_public_key(&certificate::SECP384R1, point.as_bytes());
        let hexadecimal: String = key_id.iter().take(4).map(|octet| format!("{octet:02x}")).collect();
        // Made of the key, so that two authorities have two names and the name need not be read from the certificate.
        let name = certificate::common_name(&format!("bulla vTPM CA {hexadecimal}"));
        let authority = Self { key: key.into(), name, key_id, certificate: dir.join(CERTIFICATE_FILE) };
        match fs::read(&authority.certificate) {
            Ok(pem) => authority.check(&pem, &public)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let subject = Subject { name: &authority.name, public: &public, key_id: &key_id };
                let der = authority.issue(&subject, &certificate::for_authority())?;
                let pem = pem_rfc7468::encode_string(CERTIFICATE, LineEnding::LF, &der).map_err(cannot_issue)?;
                write_whole(&authority.certificate, pem.as_bytes(), 0o644)?;
            }
            Err(error) => return Err(of("read", &authority.certificate)(error)),
        }
        Ok(authority)
    }

    /// Whether the certificate in the folder has this key and this name.
    fn check(&self, pem: &[u8], public: &[u8]) -> Result<(), AuthorityError> {
        let has = |der: &[u8], part: &[u8]| der.windows(part.len()).any(|window| window == part);
        match pem_rfc7468::decode_vec(pem) {
            Ok((CERTIFICATE, der)) if has(&der, public) && has(&der, &self.name) => Ok(()),
            _ => Err(AuthorityError::Certificate(self.certificate.clone())),
        }
    }

    /// Where its certificate is.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate that is valid from now on and has no end (RFC 5280, 4.1).
    pub(super) fn issue(&self, subject: &Subject<'_>, uses: &[KeyUse]) -> Result<Der, AuthorityError> {
        let mut serial = [0; SERIAL];
        random(&mut serial).map_err(cannot_issue)?;
        // Positive, and of the same length each time.
        serial[0] = serial[0] & 0x7f | 0x40;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(cannot_issue)?.as_secs();

        let algorithm = der::sequence(&[der::oid(&certificate::ECDSA_WITH_SHA384)]);
        let mut extensions = vec![
            certificate::authority_key_identifier(&self.key_id),
            certificate::subject_key_identifier(subject.key_id),
        ];
        extensions.extend(uses.iter().map(KeyUse::extension));
        let body = der::sequence(&[
            der::explicit(0, &der::integer(&[2])),
            der::integer(&serial),
            algorithm.clone(),
            self.name.clone(),
            der::sequence(&[der::time(now), der::never()]),
            subject.name.to_vec(),
            subject.public.to_vec(),
            der::explicit(3, &der::sequence(&extensions)),
        ]);
        let signature: Signature = self.key.try_sign(&body).map_err(cannot_issue)?;
        Ok(der::sequence(&[body, algorithm, der::bits(signature.to_der().as_bytes())]))
    }
}

/// A key of which all are equally likely.
fn generate() -> Result<SecretKey, AuthorityError> {
    let mut bytes = Zeroizing::new([0; 48]);
    loop {
        random(&mut *bytes).map_err(cannot_issue)?;
        // All but one in 2^190 are in range.
        if let Ok(key) = SecretKey::from_slice(&*bytes) {
            return Ok(key);
        }
    }
}

/// Makes a file that is there whole or not at all, and durable.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let unfinished = path.with_extension("new");
    // Never what somebody else has left there, with a mode of theirs.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of("remove", &unfinished)(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished);
    let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
    file.and_then(write).map_err(of("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(of("make", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(of("make durable the folder", folder))
}
