//! The command line of `bulla-vtpm setup`: that of `swtpm_setup --tpm2` as far as it has meaning here, and more.

use std::os::fd::RawFd;
use std::path::PathBuf;

use bulla_tpm_types::HashAlg;
use clap::Args;

use super::SetupError;
use super::keys::{Curve, EndorsementKey, RsaSize};
use crate::state::KeyFormat;
use crate::swtpm::{GivenKey, KeyOption, PathOrFd, parse_key};

/// Manufacture a TPM's state before its first use: endorsement keys, certificates for them, PCR banks.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Folder of the state, which is made if it is not there: DIR, dir=DIR or dir://DIR
    #[arg(long, alias = "tpm-state", value_name = "DIR", value_parser = folder, required_unless_present = "print_capabilities")]
    pub tpmstate: Option<PathBuf>,
    /// Be a TPM 2.0, which this program is in any case; accepted for scripts made for swtpm_setup
    #[arg(long)]
    pub tpm2: bool,
    /// Make endorsement keys, which is done in any case; accepted for scripts made for swtpm_setup
    #[arg(long, aliases = ["create-ek", "decryption"])]
    pub createek: bool,
    /// Make a certificate of each endorsement key and write it into its NV Index
    #[arg(long)]
    pub create_ek_cert: bool,
    /// Make a platform certificate, too, in NV Index 0x01c08000; implies --create-ek-cert
    #[arg(long)]
    pub create_platform_cert: bool,
    /// Make a storage root key at 0x81000001: RSA 2048, or P-256 with --ecc
    #[arg(long)]
    pub create_spk: bool,
    /// Folder of the certificate authority, which is made at first use; implies --create-ek-cert. Without it
    /// $XDG_DATA_HOME/bulla/vtpm-ca, or ~/.local/share/bulla/vtpm-ca
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Name of the virtual machine, for the subject of its certificates
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub vmid: Option<String>,
    /// Write each certificate also into a file of this folder: ek-rsa2048.crt, ek-secp256r1.crt, …
    #[arg(long, value_name = "DIR")]
    pub write_ek_cert_files: Option<PathBuf>,
    /// Lengths of RSA endorsement keys
    #[arg(long, value_name = "BITS", value_enum, value_delimiter = ',', default_value = "2048")]
    pub rsa_keysize: Vec<RsaSize>,
    /// Curves of endorsement keys
    #[arg(long, value_name = "CURVES", value_enum, value_delimiter = ',', default_value = "p256,p384")]
    pub curve: Vec<Curve>,
    /// Make no RSA key
    #[arg(long, conflicts_with_all = ["rsa_keysize", "all"])]
    pub ecc: bool,
    /// Use the templates of the high range, H-1 and H-2, for RSA 2048 and P-256 instead of L-1 and L-2
    #[arg(long)]
    pub high_range: bool,
    /// Make the keys of all templates: L-1, L-2, H-1 to H-4, H-6, H-7
    #[arg(long, conflicts_with_all = ["rsa_keysize", "curve", "high_range"])]
    pub all: bool,
    /// PCR banks, such as sha256,sha384; - for all. Without it those the TPM has: sha1,sha256,sha384
    #[arg(long, value_name = "BANKS", value_parser = banks)]
    pub pcr_banks: Option<Banks>,
    /// Lock the NV Indices of the certificates, so that they cannot be written again
    #[arg(long)]
    pub lock_nvram: bool,
    /// Replace a state that is there; its keys are lost
    #[arg(long, conflicts_with = "not_overwrite")]
    pub overwrite: bool,
    /// Leave a state that is there as it is, and end well
    #[arg(long)]
    pub not_overwrite: bool,
    /// Key of the state, as of `socket`: file=P|fd=N[,format=hex|binary] | pwdfile=P|pwdfd=N; [mode=M][,kdf=K][,remove] |
    /// host-tpm[,pcrs=N+N][,tcti=TCTI]
    #[arg(long, value_name = "OPTIONS", value_parser = parse_key, group = "a_key")]
    pub key: Option<KeyOption>,
    /// File of the key, in hexadecimal digits
    #[arg(long, value_name = "FILE", group = "a_key")]
    pub keyfile: Option<PathBuf>,
    /// Like --keyfile, by its descriptor
    #[arg(long, value_name = "N", group = "a_key", value_parser = clap::value_parser!(RawFd).range(3..))]
    pub keyfile_fd: Option<RawFd>,
    /// File of a passphrase
    #[arg(long, value_name = "FILE", group = "a_key")]
    pub pwdfile: Option<PathBuf>,
    /// Like --pwdfile, by its descriptor
    #[arg(long, value_name = "N", group = "a_key", value_parser = clap::value_parser!(RawFd).range(3..))]
    pub pwdfile_fd: Option<RawFd>,
    /// A cipher of swtpm's; accepted for scripts made for swtpm_setup: a state is encrypted with XChaCha20-Poly1305
    #[arg(long, value_name = "CIPHER", value_parser = ["aes-cbc", "aes-128-cbc", "aes-256-cbc"], requires = "a_key")]
    pub cipher: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write what was made into this file, at its end, and not to standard output
    #[arg(long, value_name = "FILE")]
    pub logfile: Option<PathBuf>,
    /// Say what was made, which is done in any case; accepted for scripts made for swtpm_setup
    #[arg(long)]
    pub display: bool,
    /// Print, as JSON, which of swtpm_setup's abilities this program has
    #[arg(long)]
    pub print_capabilities: bool,
}

/// PCR banks, at least one and none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banks(pub Vec<HashAlg>);

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = match text.split_once("://") {
        Some(("dir", path)) => path,
        Some(("file", _)) => return Err("a state is a folder here: use dir://".to_owned()),
        _ => text.strip_prefix("dir=").unwrap_or(text),
    };
    if path.is_empty() { Err("no folder".to_owned()) } else { Ok(path.into()) }
}

/// More than libvirt's names of machines have, with their UUIDs; certificates with it still fit their NV Indices.
const MOST_OF_A_NAME: usize = 256;

fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("no name".to_owned()),
        1..=MOST_OF_A_NAME => Ok(text.to_owned()),
        more => Err(format!("a name has at most {MOST_OF_A_NAME} characters, not {more}")),
    }
}

fn banks(text: &str) -> Result<Banks, String> {
    if text == "-" {
        return Ok(Banks(HashAlg::ALL.to_vec()));
    }
    let mut banks = Vec::new();
    for word in text.split(',') {
        let alg = HashAlg::ALL.into_iter().find(|alg| alg.to_string() == word);
        let alg = alg.ok_or_else(|| format!("there is no bank `{word}`; there are sha1, sha256, sha384, sha512"))?;
        if !banks.contains(&alg) {
            banks.push(alg);
        }
    }
    Ok(Banks(banks))
}

impl Options {
    /// The endorsement keys that are wanted, each once.
    #[must_use]
    pub fn keys(&self) -> Vec<EndorsementKey> {
        if self.all {
            return EndorsementKey::ALL.to_vec();
        }
        let sizes: &[RsaSize] = if self.ecc { &[] } else { &self.rsa_keysize };
        let rsa = sizes.iter().map(|&size| EndorsementKey::rsa(size, self.high_range));
        let mut keys: Vec<_> = rsa.chain(self.curve.iter().map(|&c| EndorsementKey::ecc(c, self.high_range))).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Whether certificates are wanted.
    #[must_use]
    pub const fn certificates(&self) -> bool {
        self.create_ek_cert || self.create_platform_cert || self.ca_dir.is_some() || self.write_ek_cert_files.is_some()
    }

    /// The authority's folder.
    pub(super) fn authority(&self) -> Result<PathBuf, SetupError> {
        let from = |variable: &str| std::env::var_os(variable).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let data = || from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")));
        let dir = self.ca_dir.clone().or_else(|| data().map(|data| data.join("bulla/vtpm-ca")));
        dir.ok_or(SetupError::NoAuthority)
    }

    /// The key that protects the state, by whichever option it is given.
    pub(super) fn state_key(&self) -> Option<KeyOption> {
        let option = |place, format| KeyOption::Given(GivenKey { place, format, remove: false });
        let hex = Some(KeyFormat::Hex);
        (self.key.clone())
            .or_else(|| Some(option(PathOrFd::Path(self.keyfile.clone()?), hex)))
            .or_else(|| Some(option(PathOrFd::Fd(self.keyfile_fd?), hex)))
            .or_else(|| Some(option(PathOrFd::Path(self.pwdfile.clone()?), None)))
            .or_else(|| Some(option(PathOrFd::Fd(self.pwdfile_fd?), None)))
    }

    /// The number of the descriptor that the command line names.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        self.state_key()?.descriptor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndorsementKey as Ek;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(["setup", "--tpmstate", "dir"].into_iter().chain(words.split_whitespace()))
            .map(|l| l.options)
    }

    #[test]
    fn keys_are_chosen_by_size_curve_and_range() {
        for (words, keys) in [
            ("", &[Ek::L1Rsa2048, Ek::L2P256, Ek::H3P384][..]),
            ("--ecc", &[Ek::L2P256, Ek::H3P384]),
            ("--ecc --curve nist-p256 --high-range", &[Ek::H2P256]),
            ("--rsa-keysize max --curve p521,p521", &[Ek::H4P521, Ek::H7Rsa4096]),
            ("--rsa-keysize 3072,2048 --high-range --curve p384", &[Ek::H1Rsa2048, Ek::H3P384, Ek::H6Rsa3072]),
            ("--all", &Ek::ALL),
        ] {
            assert_eq!(parse(words).unwrap().keys(), keys, "{words}");
        }
        for wrong in ["--all --curve p256", "--ecc --rsa-keysize 2048", "--rsa-keysize 1024", "--curve p192"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// How the key is written; `None`: it is a passphrase.
    fn format(options: &Options) -> Option<KeyFormat> {
        match options.state_key() {
            Some(KeyOption::Given(key)) => key.format,
            other => panic!("{other:?}"),
        }
    }

    /// The words of libvirt's virtTPM driver.
    #[test]
    fn swtpm_setup_s_words_are_understood() {
        let options = parse(
            "--tpm2 --createek --create-ek-cert --create-platform-cert --lock-nvram --not-overwrite --vmid a:b \
             --logfile log --pwdfile-fd 7 --cipher aes-256-cbc --pcr-banks sha256,sha384,sha256",
        )
        .unwrap();
        assert!(options.certificates() && options.lock_nvram && options.not_overwrite);
        assert_eq!(options.descriptor(), Some(7));
        assert_eq!(format(&options), None, "a passphrase");
        assert_eq!(options.pcr_banks, Some(Banks(vec![HashAlg::Sha256, HashAlg::Sha384])));
        assert_eq!(format(&parse("--keyfile k").unwrap()), Some(KeyFormat::Hex));
        assert_eq!(format(&parse("--key pwdfile=p").unwrap()), None);
        for wrong in
            ["--keyfile a --pwdfile b", "--overwrite --not-overwrite", "--pcr-banks md5", "--pcr-banks sha256,"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_is_written_in_three_ways_and_a_name_has_a_length() {
        assert_eq!(
            (name(&"x".repeat(256)).is_ok(), name(&"x".repeat(257)).is_ok(), name("").is_ok()),
            (true, false, false)
        );
        for text in ["/x/y", "dir=/x/y", "dir:///x/y"] {
            assert_eq!(folder(text), Ok("/x/y".into()));
        }
        for wrong in ["", "dir=", "dir://", "file:///x"] {
            assert!(folder(wrong).is_err(), "{wrong}");
        }
    }
}
