//! `bulla-vtpm setup`: a TPM's manufacture before its first use, as `swtpm_setup --tpm2` does it.
//!
//! The TPM is made in memory by commands of its own; its state is stored when all is done, so a setup that fails leaves
//! none.

mod authority;
mod certificate;
mod der;
mod keys;
mod manufacture;
mod options;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bulla_tpm_types::Handle;
use bulla_tpm_types::response::ResponseError;
use bulla_vtpm_client::Exit;
use serde::Serialize;
use thiserror::Error;

pub use authority::{AuthorityError, CERTIFICATE_FILE, KEY_FILE};
pub use keys::{Curve, EndorsementKey, RsaSize};
pub use options::{Banks, Options};

use authority::Authority;
use certificate::{PublicKey, Subject, TpmIdentity};
use manufacture::{SRK, Workpiece};

use crate::state::{self, KeyError, KeySource, OpenError, StoreError};
use crate::swtpm::{self, Inherited};

/// The NV Index of the platform certificate (TCG Registry of Reserved TPM 2.0 Handles).
const PLATFORM_CERTIFICATE: Handle = Handle(0x01c0_8000);

/// Why nothing was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// There is a state already.
    #[error(
        "there is a TPM state in {} already; --not-overwrite leaves it, --overwrite replaces it, which loses its keys",
        .0.display()
    )]
    Exists(PathBuf),
    /// No folder was given and there is no home.
    #[error("there is no folder for the certificate authority: give one with --ca-dir DIR")]
    NoAuthority,
    /// The TPM has too few PCR.
    #[error("the TPM cannot have these PCR banks")]
    Banks,
    /// A certificate is longer than an NV Index can be.
    #[error("the certificate for NV Index {0} is too long; --vmid makes it longer")]
    TooLong(Handle),
    /// The TPM refused something.
    #[error("{what}: {source}")]
    Tpm {
        /// Which command.
        what: &'static str,
        /// What it answered.
        source: ResponseError,
    },
    /// The TPM made a key that no certificate can have.
    #[error("the TPM made a key of another kind than its template")]
    KeyKind,
    /// The authority could not issue.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The state could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The key of the state could not be read.
    #[error("the key of the state: {0}")]
    Key(#[from] KeyError),
    /// The state could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be written.
    #[error("write {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SetupError {
    /// How the process has to end.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoAuthority => Exit::Usage,
            Self::Authority(_) | Self::File { .. } => Exit::Socket,
            Self::Banks | Self::TooLong(_) | Self::Tpm { .. } | Self::KeyKind => Exit::Engine,
            Self::Open(error) => error.exit(),
            Self::Exists(_) | Self::Key(_) | Self::Store(_) => Exit::State,
        }
    }
}

/// What was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The state's folder.
    pub state: PathBuf,
    /// The authority's certificate, if there are certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// The endorsement keys.
    pub endorsement_keys: Vec<MadeKey>,
    /// The platform certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_certificate: Option<MadeCertificate>,
    /// Handle of the storage root key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_root_key: Option<String>,
    /// The PCR banks.
    pub pcr_banks: Vec<String>,
}

/// An endorsement key that was made.
#[derive(Debug, Serialize)]
pub struct MadeKey {
    /// The kind, such as `rsa2048`.
    pub name: &'static str,
    /// The template's name in the TCG EK Credential Profile.
    pub template: &'static str,
    /// The persistent handle.
    pub handle: String,
    /// Its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<MadeCertificate>,
}

/// A certificate that was made.
#[derive(Debug, Serialize)]
pub struct MadeCertificate {
    /// Its NV Index.
    pub nv_index: String,
    /// Its octets.
    pub size: usize,
    /// The file that it was written to, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// Makes what the command line asks for, and says what. `None`: a state was there, and that is well.
///
/// # Errors
/// See [`SetupError`].
pub fn run(options: &Options, inherited: &mut Inherited) -> Result<Option<Made>, SetupError> {
    if options.print_capabilities {
        print(options, &capabilities().to_string())?;
        return Ok(None);
    }
    let dir = options.tpmstate.clone().unwrap_or_default();
    let key = match &options.state_key() {
        Some(option) => swtpm::read_key(option, inherited)?,
        None => KeySource::Beside,
    };
    if is_there(&dir, &key, options.overwrite)? {
        if options.not_overwrite {
            return Ok(None);
        }
        return Err(SetupError::Exists(dir));
    }
    let authority = if options.certificates() { Some(Authority::open(&options.authority()?)?) } else { None };
    let (permanent, made, files) = make(options, authority.as_ref(), &dir)?;
    if let Some(dir) = &options.write_ek_cert_files {
        fs::create_dir_all(dir).map_err(|source| SetupError::File { path: dir.clone(), source })?;
    }
    for (path, der) in files {
        fs::write(&path, der).map_err(|source| SetupError::File { path, source })?;
    }
    if options.overwrite {
        state::remove(&dir)?;
    }
    let opened = state::open(&dir, state::Options { key, ..state::Options::default() })?;
    if opened.state.is_some() {
        return Err(SetupError::Exists(dir));
    }
    opened.store().store(&permanent)?;
    let text = if options.json { format!("{:#}", serde_json::json!(made)) } else { in_words(&made) };
    print(options, &text)?;
    Ok(Some(made))
}

/// Whether there is a state that is not to be replaced.
fn is_there(dir: &Path, key: &KeySource, replace: bool) -> Result<bool, SetupError> {
    let how = state::Options { key: key.clone(), create: false, ..state::Options::default() };
    match state::open(dir, how) {
        Ok(opened) => Ok(opened.state.is_some() && !replace),
        Err(OpenError::None(_)) => Ok(false),
        Err(error @ OpenError::Locked { .. }) => Err(error.into()),
        // What is to be replaced need not be readable.
        Err(_) if replace => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is to be stored, what it is in words, and the files of the certificates.
type Work = (zeroize::Zeroizing<Vec<u8>>, Made, Vec<(PathBuf, Vec<u8>)>);

fn make(options: &Options, authority: Option<&Authority>, dir: &Path) -> Result<Work, SetupError> {
    let mut tpm = Workpiece::new()?;
    if let Some(Banks(banks)) = &options.pcr_banks {
        tpm.allocate(banks)?;
    }
    let mut certifier = Certifier { options, authority, identity: tpm.identity()?, files: Vec::new() };
    let mut keys = Vec::new();
    let mut platform_certificate = None;
    for key in options.keys() {
        let public = PublicKey::of(&tpm.endorsement_key(key)?).ok_or(SetupError::KeyKind)?;
        let uses = certificate::for_endorsement_key(&public, &certifier.identity, options.vmid.is_some());
        let name = format!("ek-{}", key.name());
        let certificate = certifier.certify(&mut tpm, &public, &uses, key.certificate_index(), &name)?;
        // As swtpm has it: a certificate of the first endorsement key.
        if options.create_platform_cert && platform_certificate.is_none() {
            let uses = certificate::for_platform(&public, options.vmid.is_some());
            platform_certificate = certifier.certify(&mut tpm, &public, &uses, PLATFORM_CERTIFICATE, "platform")?;
        }
        let (name, template) = (key.name(), key.template_name());
        keys.push(MadeKey { name, template, handle: key.handle().to_string(), certificate });
    }
    if options.create_spk {
        tpm.storage_root_key(options.ecc)?;
    }
    let made = Made {
        state: dir.to_owned(),
        ca_certificate: authority.map(|authority| authority.certificate().to_owned()),
        endorsement_keys: keys,
        platform_certificate,
        storage_root_key: options.create_spk.then(|| SRK.to_string()),
        pcr_banks: tpm.banks()?.iter().map(ToString::to_string).collect(),
    };
    let files = certifier.files;
    Ok((tpm.finish()?, made, files))
}

/// Issues certificates and puts them where they belong.
struct Certifier<'a> {
    options: &'a Options,
    authority: Option<&'a Authority>,
    identity: TpmIdentity,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Certifier<'_> {
    fn certify(
        &mut self,
        tpm: &mut Workpiece,
        public: &PublicKey,
        uses: &[certificate::KeyUse],
        index: Handle,
        name: &str,
    ) -> Result<Option<MadeCertificate>, SetupError> {
        let Some(authority) = self.authority else { return Ok(None) };
        let subject = self.options.vmid.as_deref().map_or_else(certificate::no_name, certificate::common_name);
        let subject = Subject { name: &subject, public: &public.info, key_id: &public.key_id };
        let der = authority.issue(&subject, uses)?;
        tpm.write_certificate(index, &der, self.options.lock_nvram)?;
        let file = self.options.write_ek_cert_files.as_ref().map(|dir| dir.join(format!("{name}.crt")));
        let made = MadeCertificate { nv_index: index.to_string(), size: der.len(), file: file.clone() };
        self.files.extend(file.map(|file| (file, der)));
        Ok(Some(made))
    }
}

fn in_words(made: &Made) -> String {
    let place = |certificate: &MadeCertificate| {
        let file = certificate.file.as_ref().map(|file| format!(" and {}", file.display())).unwrap_or_default();
        format!("certificate in {}{file}", certificate.nv_index)
    };
    let mut lines = vec![format!("TPM state         {}", made.state.display())];
    for key in &made.endorsement_keys {
        let certificate = key.certificate.as_ref().map_or_else(|| "no certificate".to_owned(), place);
        lines.push(format!("endorsement key   {} {} ({}), {certificate}", key.handle, key.name, key.template));
    }
    lines.extend(
        made.platform_certificate.as_ref().map(|certificate| format!("platform          {}", place(certificate))),
    );
    lines.extend(made.storage_root_key.as_ref().map(|handle| format!("storage root key  {handle}")));
    lines.push(format!("PCR banks         {}", made.pcr_banks.join(" ")));
    lines.extend(made.ca_certificate.as_ref().map(|path| format!("verify with       {}", path.display())));
    lines.join("\n")
}

fn print(options: &Options, text: &str) -> Result<(), SetupError> {
    let (path, printed) = match &options.logfile {
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            (path.clone(), file.and_then(|mut file| writeln!(file, "{text}")))
        }
        None => ("standard output".into(), writeln!(io::stdout(), "{text}")),
    };
    printed.map_err(|source| SetupError::File { path, source })
}

/// What `--print-capabilities` prints: swtpm_setup's words for what is here, too.
fn capabilities() -> serde_json::Value {
    serde_json::json!({
        "type": "swtpm_setup",
        "features": [
            "tpm-2.0",
            "cmdarg-keyfile-fd",
            "cmdarg-pwdfile-fd",
            "cmdarg-write-ek-cert-files",
            "tpm2-rsa-keysize-2048",
            "tpm2-rsa-keysize-3072",
            "tpm2-rsa-keysize-4096",
        ],
        "version": "0.7.1",
    })
}
