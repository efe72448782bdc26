//! Keys that both TPMs are given, and templates of keys that they make.

use super::command::{Cmd, Note, unhex};
use super::generate::Generator;
use super::model::Kind;
use super::valid;

/// RFC 6979, A.2.5: the private key, and the public one.
const ECC: [&str; 3] = [
    "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
];
/// An RSA key of 1024 bits, made for this test: its modulus, and a prime.
const RSA: [&str; 2] = [
    "af5b561678df2a010987d463fad3d3ce4bb1a32f48c14623b3e0a0b943fc478f1adb7364ca870453e7682d7ef1225d568e4dfd5ad23584d41be130c7\
     f7af56e7134d8292b53b231126595ff783ee3e05ca4d1cca4efbb3e6c60f395da95e7af8a52d207098a65d684e12df3ca2557b234bc6034306c385e1\
     2a8aa0ea7f738b0f",
    "e977a9eaa9dc6d0b2e80666a4cd3ff3a2eda1ba1d2de2b098f4086c462b3648234cd7674316ec74931fcbb1ee2530a5d3958a989c49ef2813331da4b\
     1433f41d",
];
/// The generator of P-256.
const BASE: [&str; 2] = [
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
];

/// A point on P-256, usually.
pub(crate) fn point(g: &mut Generator) -> Vec<u8> {
    let [x, y] = if g.rng.chance(50) { [ECC[1], ECC[2]] } else { BASE };
    if g.rng.chance(8) { unhex("0020 00 0020 00") } else { unhex(&format!("0020 {x} 0020 {y}")) }
}

/// A scheme that a key can sign with, usually.
pub(crate) fn signing_scheme(g: &mut Generator, key: u32) -> &'static str {
    let kind = g.model.object(key).map(|o| o.kind);
    match kind {
        _ if g.rng.chance(8) => "0018 0004",
        Some(Kind::RsaSign) => g.rng.pick(&["0014 000b", "0014 0004", "0016 000b"]),
        Some(Kind::Restricted) => g.rng.pick(&["0010", "0018 000b"]),
        Some(Kind::Hmac) => "0005 000b",
        _ => g.rng.pick(&["0018 000b", "0018 000b", "0010", "001c 000b"]),
    }
}

/// LoadExternal.
pub(crate) fn external(g: &mut Generator, cmd: Cmd) -> Cmd {
    let hash = g.rng.pick(&["000b", "000b", "0010", "0004"]);
    let auth = if hash == "0010" { Vec::new() } else { g.password() };
    let policy = String::new();
    let sensitive = |kind: &str, secret: &str| {
        let (auth_hex, n) = (hex(&auth), secret.len() / 2);
        unhex(&format!("{kind} {:04x} {auth_hex} 0000 {n:04x} {secret}", auth.len()))
    };
    let with_private = g.rng.chance(85);
    let (kind, private, public) = match g.rng.below(4) {
        0 => {
            let (attributes, kind) =
                g.rng.pick(&[("00040440", Kind::Sign), ("00020440", Kind::Exchange), ("00060440", Kind::Sign)]);
            let public =
                format!("0023 {hash} {attributes} 0000{policy} 0010 0010 0003 0010 0020 {} 0020 {}", ECC[1], ECC[2]);
            (kind, sensitive("0023", ECC[0]), public)
        }
        1 => {
            let attributes = g.rng.pick(&["00040440", "00060440", "00020440"]);
            (
                Kind::RsaSign,
                sensitive("0001", RSA[1]),
                format!("0001 {hash} {attributes} 0000 0010 0010 0400 00000000 0080 {}", RSA[0]),
            )
        }
        2 => {
            let secret = "000102030405060708090a0b0c0d0e0f";
            let unique = if hash == "0010" { "0000".to_owned() } else { keys_unique(hash, secret) };
            let (attributes, scheme) =
                g.rng.pick(&[("00040440", "0005 000b"), ("00040440", "0010"), ("00000440", "0010")]);
            let kind = if attributes == "00000440" { Kind::Sealed } else { Kind::Hmac };
            (kind, sensitive("0008", secret), format!("0008 {hash} {attributes} 0000 {scheme} {unique}"))
        }
        _ => {
            let secret = "2b7e151628aed2a6abf7158809cf4f3c";
            let unique = if hash == "0010" { "0000".to_owned() } else { keys_unique(hash, secret) };
            let mode = g.rng.pick(&["0043", "0010", "0040", "0042", "003f"]);
            let attributes = g.rng.pick(&["00060440", "00020440", "00040440"]);
            (Kind::Aes, sensitive("0025", secret), format!("0025 {hash} {attributes} 0000 0006 0080 {mode} {unique}"))
        }
    };
    let public = unhex(&public);
    if with_private {
        cmd.sized(&private).sized(&public).u32(valid::NULL).note(Note::Object(kind, valid::trimmed(&auth), true))
    } else {
        let hierarchy = g.rng.pick(&[valid::OWNER, valid::NULL, valid::PLATFORM]);
        cmd.sized(b"").sized(&public).u32(hierarchy).note(Note::Object(Kind::Public, Vec::new(), true))
    }
}

/// The unique field of a keyed hash or a symmetric key without a seed: the hash of its secret (Part 1, 27.5).
fn keys_unique(hash: &str, secret: &str) -> String {
    use bulla_tpm_types::{HashAlg, hash as h};
    let alg = if hash == "0004" { HashAlg::Sha1 } else { HashAlg::Sha256 };
    let digest = h::digest(alg, &[&unhex(secret)]);
    format!("{:04x} {}", digest.as_bytes().len(), hex(digest.as_bytes()))
}

/// A key to create: what it is, the TPMS_SENSITIVE_CREATE, the TPMT_PUBLIC. `primary` keys are not of RSA, which takes
/// its time.
pub(crate) fn template(g: &mut Generator, primary: bool, auth: &[u8]) -> (Kind, Vec<u8>, Vec<u8>) {
    let da = if g.rng.chance(70) { 0x400 } else { 0 };
    let policy = g.policy_digest();
    let (kind, attributes, parms, unique, data): (_, u32, _, _, &[u8]) = match g.rng.below(if primary { 8 } else { 6 })
    {
        0 => (Kind::Sign, 0x0004_0072, "0010 0018 000b 0003 0010", "0000 0000", b""),
        1 => (Kind::Restricted, 0x0005_0072, "0010 0018 000b 0003 0010", "0000 0000", b""),
        2 => (Kind::Exchange, 0x0002_0072, "0010 0010 0003 0010", "0000 0000", b""),
        3 => (Kind::Hmac, 0x0004_0072, "0005 000b", "0000", b""),
        4 => (Kind::Sealed, 0x0000_0052, "0010", "0000", b"a secret"),
        5 => (Kind::Aes, 0x0006_0072, "0006 0080 0043", "0000", b""),
        _ => (Kind::Storage, 0x0003_0072, "0006 0080 0043 0010 0003 0010", "0000 0000", b""),
    };
    let algorithm = match kind {
        Kind::Hmac | Kind::Sealed => "0008",
        Kind::Aes => "0025",
        _ => "0023",
    };
    let mut attributes = attributes | da;
    for bit in [0x40, 0x80, 0x02, 0x10, 0x800] {
        if g.rng.chance(4) {
            attributes ^= bit;
        }
    }
    let sensitive = Cmd::new(0).sized(auth).sized(data).params[0].clone();
    let name_alg = g.rng.pick(&["000b", "000b", "000b", "000b", "000c"]);
    let public = Cmd::new(0).hex(algorithm).hex(name_alg).u32(attributes).sized(&policy).hex(parms).hex(unique).params
        [0]
    .clone();
    (kind, sensitive, public)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
