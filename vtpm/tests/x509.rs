//! Certificates that TPM2_CertifyX509 signs, judged by openssl: the partial certificate is `tpm2_certifyX509certutil`'s,
//! and put together with what the TPM adds as Part 3, 18.8 says. Skipped where one of the two is not installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bulla_tpm_types::command::{self, Builder};
use bulla_tpm_types::response::{self, CreatePrimary};
use bulla_tpm_types::{
    AsymScheme, EccParameter, EccParms, EccPoint, HashAlg, KdfScheme, ObjectAttributes as A, Public, PublicKeyRsa,
    PublicKind, Reader, RsaParms, Signature, SignatureValue, StartupType, Symmetric, cc, ecc, rh, templates,
};
use bulla_vtpm_client::{Locality, VtpmProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");

/// A vTPM, and a folder for the tools' files.
struct Judge {
    tpm: VtpmProcess,
    folder: tempfile::TempDir,
}

impl Judge {
    fn start() -> Option<Self> {
        for (tool, arguments) in [("openssl", &["version"][..]), ("tpm2_certifyX509certutil", &["--help=no-man"])] {
            if !Command::new(tool).args(arguments).output().is_ok_and(|o| o.status.success()) {
                println!("skipped: certificates need {tool}");
                return None;
            }
        }
        let mut tpm = VtpmProcess::spawn(Path::new(PROGRAM)).unwrap();
        tpm.client().power_on().unwrap();
        let mut judge = Self { tpm, folder: tempfile::tempdir().unwrap() };
        response::parse_empty(&judge.command(&command::startup(StartupType::Clear))).unwrap();
        Some(judge)
    }

    fn command(&mut self, command: &[u8]) -> Vec<u8> {
        self.tpm.client().command(Locality::ZERO, command).unwrap()
    }

    /// Runs a tool in the folder.
    fn tool(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        Command::new(words.next().unwrap()).args(words).current_dir(self.folder.path()).output().unwrap()
    }

    fn succeeds(&self, line: &str) -> String {
        let output = self.tool(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {text}");
        text
    }

    /// A key that signs by the caller's scheme.
    fn key(&mut self, kind: PublicKind) -> CreatePrimary {
        let template = Public { attributes: A::from_bits(0x0004_0472), kind, ..templates::ak_p256() };
        response::parse_create_primary(&self.command(&command::create_primary(rh::OWNER, &template))).unwrap()
    }

    /// The certificate of a key for its subject, in PEM, in `name.pem`.
    fn certificate(&mut self, name: &str, object: &CreatePrimary, signer: &CreatePrimary, scheme: AsymScheme) {
        let partial = fs::read(self.folder.path().join("partial")).unwrap();
        let certify = Builder::with_empty_auth(cc::CERTIFY_X509, &[object.handle, signer.handle], 2).params(|w| {
            w.tpm2b(b"");
            w.put(&scheme);
            w.tpm2b(&partial);
        });
        let answer = self.command(&certify.build());
        let mut r = Reader::new(response::parse(&answer, false).unwrap().params);
        let added = r.tpm2b(1024, "addedToCertificate").unwrap();
        let _ = r.tpm2b(64, "tbsDigest").unwrap();
        let signature: Signature = r.get().unwrap();
        let [version, serial, algorithm, public_key] = elements(contents(added))[..] else { panic!("{added:02x?}") };
        let [issuer, validity, subject, extensions] = elements(contents(&partial))[..] else {
            panic!("{partial:02x?}")
        };
        let parts = [version, serial, algorithm, issuer, validity, subject, public_key, extensions];
        let whole = [&sequence(&parts.concat())[..], algorithm, &element(3, &bits(&signature))].concat();
        fs::write(self.folder.path().join("der"), sequence(&whole)).unwrap();
        self.succeeds(&format!("openssl x509 -inform der -in der -out {name}.pem"));
    }
}

/// What is in the element that octets are.
fn contents(octets: &[u8]) -> &[u8] {
    let (head, size) = sizes(octets);
    assert_eq!(octets.len(), head + size);
    &octets[head..]
}

/// Octets of the head of the first element, and of what is in it.
fn sizes(octets: &[u8]) -> (usize, usize) {
    match octets[1] {
        0x81 => (3, octets[2].into()),
        0x82 => (4, u16::from_be_bytes([octets[2], octets[3]]).into()),
        short => (2, short.into()),
    }
}

fn elements(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        let (head, size) = sizes(octets);
        let (element, rest) = octets.split_at(head + size);
        all.push(element);
        octets = rest;
    }
    all
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match size {
        [0, short @ ..=0x7f] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&head, content].concat()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    element(0x30, content)
}

/// A signature as certificates have it (RFC 5280, 4.1.1.3; RFC 3279, 2.2).
fn bits(signature: &Signature) -> Vec<u8> {
    let integer = |number: &EccParameter| {
        let digits: Vec<u8> = number.iter().copied().skip_while(|b| *b == 0).collect();
        element(2, &[if digits[0] >= 0x80 { &[0][..] } else { &[] }, &digits].concat())
    };
    let octets = match signature {
        Signature::Signed { value: SignatureValue::Ecdsa { r, s }, .. } => sequence(&[integer(r), integer(s)].concat()),
        Signature::Signed { value: SignatureValue::Rsassa(s) | SignatureValue::Rsapss(s), .. } => s.to_vec(),
        other => panic!("{other:?}"),
    };
    [&[0], &octets[..]].concat()
}

fn curve(curve: u16) -> PublicKind {
    let parms = EccParms { symmetric: Symmetric::Null, scheme: AsymScheme::Null, curve, kdf: KdfScheme::Null };
    PublicKind::Ecc { parms, unique: EccPoint::default() }
}

fn rsa(key_bits: u16) -> PublicKind {
    let parms = RsaParms { symmetric: Symmetric::Null, scheme: AsymScheme::Null, key_bits, exponent: 0 };
    PublicKind::Rsa { parms, unique: PublicKeyRsa::EMPTY }
}

/// The names that openssl has for signatures.
fn name(scheme: AsymScheme) -> String {
    let hash = |alg: HashAlg| format!("{alg:?}").to_uppercase();
    match scheme {
        AsymScheme::Ecdsa(alg) => format!("ecdsa-with-{}", hash(alg)),
        AsymScheme::Rsassa(alg) => format!("{}WithRSAEncryption", hash(alg).to_lowercase()),
        _ => "rsassaPss".to_owned(),
    }
}

#[test]
fn openssl_verifies_what_a_key_says_of_itself() {
    let Some(mut judge) = Judge::start() else { return };
    judge.succeeds("tpm2_certifyX509certutil -o partial -d 10 -i C=US;O=bulla;CN=itself -s C=US;O=bulla;CN=itself");
    for kind in [curve(ecc::NIST_P256), curve(ecc::NIST_P384), curve(ecc::NIST_P521), rsa(1024), rsa(2048)] {
        let key = judge.key(kind);
        let schemes: &[fn(HashAlg) -> AsymScheme] = match kind {
            PublicKind::Ecc { .. } => &[AsymScheme::Ecdsa],
            _ => &[AsymScheme::Rsassa, AsymScheme::Rsapss],
        };
        for scheme in schemes {
            for alg in HashAlg::ALL {
                let scheme = scheme(alg);
                judge.certificate("own", &key, &key, scheme);
                // A key of 1024 bits, and SHA-1, are too weak for openssl unless it is told not to mind.
                judge.succeeds("openssl verify -auth_level 0 -check_ss_sig -CAfile own.pem own.pem");
                let text = judge.succeeds("openssl x509 -in own.pem -noout -text");
                assert!(text.contains(&name(scheme)) && text.contains("Version: 3"), "{scheme:?}: {text}");
                assert!(text.contains("Digital Signature, Certificate Sign, CRL Sign"), "{text}");
            }
        }
        judge.command(&command::flush_context(key.handle));
    }
}

#[test]
fn openssl_verifies_what_a_key_says_of_another() {
    let Some(mut judge) = Judge::start() else { return };
    let (ca, other) = (judge.key(curve(ecc::NIST_P384)), judge.key(rsa(2048)));
    let scheme = AsymScheme::Ecdsa(HashAlg::Sha384);
    judge.succeeds("tpm2_certifyX509certutil -o partial -d 10 -i O=bulla;CN=ca -s O=bulla;CN=ca");
    judge.certificate("ca", &ca, &ca, scheme);
    judge.succeeds("tpm2_certifyX509certutil -o partial -d 10 -i O=bulla;CN=ca -s O=bulla;CN=other");
    judge.certificate("other", &other, &ca, scheme);
    judge.succeeds("openssl verify -check_ss_sig -CAfile ca.pem other.pem");
    // Not so for a certificate that another has signed.
    judge.certificate("wrong", &ca, &other, AsymScheme::Rsapss(HashAlg::Sha256));
    assert!(!judge.tool("openssl verify -CAfile ca.pem wrong.pem").status.success());
    // openssl reads the same key from the certificate.
    let PublicKind::Rsa { unique, .. } = other.public.kind else { panic!("an RSA key") };
    let modulus: String = unique.iter().map(|b| format!("{b:02X}")).collect();
    assert_eq!(judge.succeeds("openssl x509 -in other.pem -noout -modulus").trim(), format!("Modulus={modulus}"));
}
