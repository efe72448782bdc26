//! Logs and quotes of real machines, where they are at hand: `../shared/vectors` beside the work tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulla_attest::eventlog::Log;
use bulla_attest::quote::{AttestationKey, Quote, QuoteError, QuoteSignature};
use bulla_attest::{Bank, Evidence, PcrValues, Root, TakenAt, TpmEvidence, export};
use bulla_tpm_types::{
    AsymScheme, Digest, HashAlg, Marshal, ObjectAttributes, Public, PublicKeyRsa, PublicKind, RsaParms, Signature,
    SignatureValue, Symmetric,
};

/// The folder of vectors of one kind, or a word on why there is nothing to test.
fn vectors(kind: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(kind);
    if !dir.is_dir() {
        eprintln!("skipped: {} does not exist", dir.display());
        return None;
    }
    Some(dir)
}

fn read(path: PathBuf) -> Vec<u8> {
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn pcrs_json(path: PathBuf) -> PcrValues {
    let json: BTreeMap<String, BTreeMap<u32, String>> = serde_json::from_slice(&read(path)).expect("PCRs as JSON");
    let values = |pcrs: BTreeMap<u32, String>| pcrs.into_iter().map(|(n, v)| (n, hex::decode(v).expect("hex")));
    json.into_iter().filter_map(|(bank, pcrs)| Some((bank.parse().ok()?, values(pcrs).collect()))).collect()
}

#[test]
fn logs_of_real_machines_replay_to_their_known_pcrs() {
    let Some(dir) = vectors("eventlog") else { return };
    let mut replayed = 0;
    for entry in fs::read_dir(dir).expect("listing") {
        let dir = entry.expect("entry").path();
        let bytes = read(dir.join("eventlog.bin"));
        let log = Log::parse(&bytes);
        if dir.ends_with("tt-uefiaction") {
            // Its event lacks digests of two banks that its header lists: what would those banks replay to?
            assert!(log.is_err());
            continue;
        }
        if !dir.join("expected_pcrs.json").exists() {
            // Malformed on purpose, or for another platform: any answer is good that is an answer.
            let _ = log.map(|log| log.replay());
            continue;
        }
        let replay = log.and_then(|log| log.replay()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for (bank, expected) in pcrs_json(dir.join("expected_pcrs.json")) {
            assert_eq!(replay.pcrs.get(&bank), Some(&expected), "{} {bank}", dir.display());
        }
        replayed += 1;
    }
    assert!(replayed >= 17, "only {replayed} logs had known PCRs");
}

#[test]
fn bogus_logs_are_refused() {
    let Some(dir) = vectors("eventlog") else { return };
    assert!(Log::parse(&read(dir.join("keylime-mb-bogus/eventlog.bin"))).is_err());
    let good = read(dir.join("keylime-mb/eventlog.bin"));
    let whole = Log::parse(&good).expect("good");
    // Cut anywhere: either refused, or cut between two events and shorter by those.
    for len in 0..good.len() {
        if let Ok(log) = Log::parse(&good[..len]) {
            assert!(log.events.len() < whole.events.len() && whole.events.starts_with(&log.events), "{len} bytes");
        }
    }
}

/// An RSA-2048 AK from its SubjectPublicKeyInfo.
fn rsa_ak(spki: &[u8]) -> Vec<u8> {
    let modulus = spki.get(33..33 + 256).expect("RSA-2048");
    let attributes = ObjectAttributes::FIXED_TPM | ObjectAttributes::RESTRICTED | ObjectAttributes::SIGN;
    Public {
        name_alg: Some(HashAlg::Sha256),
        attributes,
        auth_policy: Digest::EMPTY,
        kind: PublicKind::Rsa {
            parms: RsaParms {
                symmetric: Symmetric::Null,
                scheme: AsymScheme::Rsassa(HashAlg::Sha256),
                key_bits: 2048,
                exponent: 0,
            },
            unique: PublicKeyRsa::new(modulus).expect("modulus"),
        },
    }
    .to_vec()
}

fn spki_of_pem(pem: &[u8]) -> Vec<u8> {
    pem_rfc7468::decode_vec(pem).expect("PEM").1
}

#[track_caller]
fn quote_is_good(ak: &AttestationKey, msg: &[u8], sig: &[u8], pcrs: &PcrValues, nonce: &[u8]) {
    let quote = Quote::parse(msg).expect("quote");
    let signature = QuoteSignature::parse(sig).expect("signature");
    assert_eq!(ak.verify(msg, &signature), Ok(()));
    assert_eq!(hex::encode(&quote.nonce), hex::encode(nonce));
    assert_eq!(quote.digest_of(pcrs, signature.hash).expect("all values"), quote.pcr_digest);

    for at in [6, msg.len() / 2, msg.len() - 1] {
        let mut changed = msg.to_vec();
        changed[at] ^= 1;
        assert_eq!(ak.verify(&changed, &signature), Err(QuoteError::BadSignature));
    }
    let mut changed = sig.to_vec();
    changed[100] ^= 1;
    assert!(ak.verify(msg, &QuoteSignature::parse(&changed).expect("signature")).is_err());
}

#[test]
fn google_cloud_quotes_verify_and_match_their_log() {
    let Some(dir) = vectors("tpm-quote/gce-cos-85-no-nonce") else { return };
    let ak = AttestationKey::parse(&read(dir.join("ak.tpmt_public"))).expect("AK");
    assert_eq!(ak.weakness(), None);
    let replay = Log::parse(&read(dir.join("eventlog.bin"))).expect("log").replay().expect("replay");
    for bank in Bank::ALL {
        let file = |end: &str| dir.join(format!("{}-{bank}.{end}", if end == "json" { "pcrs" } else { "quote" }));
        let pcrs = pcrs_json(file("json"));
        quote_is_good(&ak, &read(file("msg")), &read(file("sig")), &pcrs, b"");
        for (pcr, value) in replay.pcrs.get(&bank).into_iter().flatten() {
            assert_eq!(pcrs[&bank].get(pcr), Some(value), "{bank} PCR {pcr}");
        }
    }
}

#[test]
fn a_quote_with_its_key_as_spki_verifies() {
    let Some(dir) = vectors("tpm-quote/trustee-tpm-rsa") else { return };
    let der = read(dir.join("ak.der"));
    let ak = AttestationKey::parse(&rsa_ak(&der)).expect("AK");
    assert_eq!(ak.to_spki().expect("SPKI"), der);
    let mut nonce = hex::decode("a04182b506878d4f29b91ee606a71a0d3361ccf1b22db20c98adcaa537bea393").expect("hex");
    nonce.extend(hex::decode("ef0e41a18b3569ab678f1497fbc5c120").expect("hex"));
    nonce.resize(64, 0);
    let pcrs = pcrs_json(dir.join("pcrs.json"));
    quote_is_good(&ak, &read(dir.join("quote.msg")), &read(dir.join("quote.sig")), &pcrs, &nonce);
}

#[test]
fn azure_quotes_verify() {
    let Some(dir) = vectors("azure-hcl") else { return };
    let genoa = "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f";
    let nonces = [
        ("trustee-az-genoa", hex::decode(genoa).expect("hex")),
        ("trustee-az-snp-v0", b"challenge".to_vec()),
        ("trustee-az-snp-v1", b"challenge".to_vec()),
        ("trustee-az-tdx-v1", b"challenge".to_vec()),
    ];
    for (name, nonce) in nonces {
        let dir = dir.join(name);
        let spki = spki_of_pem(&read(dir.join("akpub.pem")));
        let ak = AttestationKey::parse(&rsa_ak(&spki)).expect("AK");
        assert_eq!(ak.to_spki().expect("SPKI"), spki);
        // Azure gives the bare signature.
        let value = SignatureValue::Rsassa(PublicKeyRsa::new(&read(dir.join("quote.sig"))).expect("signature"));
        let sig = Signature::Signed { hash: HashAlg::Sha256, value }.to_vec();
        quote_is_good(&ak, &read(dir.join("quote.msg")), &sig, &pcrs_json(dir.join("pcrs.json")), &nonce);
    }
}

#[test]
fn exports_are_the_files_that_tpm2_quote_writes() {
    let Some(dir) = vectors("tpm-quote/keylime-rsa") else { return };
    // TPM2B_PUBLIC: a size, then the TPMT_PUBLIC.
    let ak_public = read(dir.join("ak.pub")).split_off(2);
    let ak = AttestationKey::parse(&ak_public).expect("AK");
    assert_eq!(ak.name(), read(dir.join("ak.name")));
    let values = [(15, vec![0; 32]), (22, vec![0xff; 32])];
    let debug = hex::decode("9dbb22387e019c04da954773335460 82ce313152c4a7f8a6e1d5f0c77f4fb6f0".replace(' ', ""));
    let mut bank = BTreeMap::from(values);
    bank.insert(16, debug.expect("hex"));
    let tpm = TpmEvidence {
        ak_public,
        quote: read(dir.join("quote.out")),
        signature: read(dir.join("quotesig.out")),
        pcrs: PcrValues::from([(Bank::Sha256, bank)]),
    };
    let nonce = hex::decode("db1db298db6d60e6385b7231743e9c3056a18003").expect("hex");
    quote_is_good(&ak, &tpm.quote, &tpm.signature, &tpm.pcrs, &nonce);

    let evidence = Evidence { nonce, root: Root::VmmHosted, taken_at: TakenAt::Guest, tpm, event_log: Vec::new() };
    let out = tempfile::tempdir().expect("temporary directory");
    export::tpm2_tools(&evidence, out.path()).expect("exported");
    assert_eq!(read(out.path().join("quote.pcrs")), read(dir.join("quotepcr.out")));
    assert_eq!(spki_of_pem(&read(out.path().join("ak.pem"))), spki_of_pem(&read(dir.join("akpub.pem"))));
}

#[test]
fn other_attestations_are_told_from_quotes() {
    let Some(dir) = vectors("tpm-quote/dstack-attest-only") else { return };
    let msg = read(dir.join("quote.msg"));
    assert_eq!(Quote::parse(&msg).expect("quote").nonce, [0x12, 0x34, 0x56, 0x78]);
    let mut other = msg;
    other[5] = 0x19;
    assert!(Quote::parse(&other).is_err(), "TPM_ST_ATTEST_TIME");
}
