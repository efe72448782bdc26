//! A machine in software: a host key, an attestation key, and the log of a boot. What it signs is real; only the
//! TPM around the key is missing.

use bulla_attest::{
    Bank, Evidence, Expected, ExpectedEvent, HostKey, PcrValues, Policy, Root, SignedEvidence, TakenAt, TpmEvidence,
    Verdict, appraise,
};
use bulla_tpm_types::eventlog::ev;
use bulla_tpm_types::{
    AsymScheme, Attest, Attested, ClockInfo, Data, Digest, EccParameter, EccPoint, HashAlg, Marshal, Name,
    ObjectAttributes, PcrSelection, PcrSelectionList, Public, PublicKind, Signature, SignatureValue, ecc, templates,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub(crate) const NONCE: [u8; 16] = *b"sixteen byte 123";
pub(crate) const PCRS: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12];

/// An attestation key outside any TPM.
pub(crate) struct SoftAk {
    pair: EcdsaKeyPair,
    pub(crate) public: Public,
    hash: HashAlg,
}

impl SoftAk {
    pub(crate) fn p256() -> Self {
        Self::new(HashAlg::Sha256)
    }

    pub(crate) fn p384() -> Self {
        Self::new(HashAlg::Sha384)
    }

    fn new(hash: HashAlg) -> Self {
        let (algorithm, curve) = match hash {
            HashAlg::Sha384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, ecc::NIST_P384),
            _ => (&ECDSA_P256_SHA256_FIXED_SIGNING, ecc::NIST_P256),
        };
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).expect("key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(hash.size());
        let mut public = templates::ak_p256();
        if let PublicKind::Ecc { parms, unique } = &mut public.kind {
            parms.curve = curve;
            parms.scheme = AsymScheme::Ecdsa(hash);
            *unique = EccPoint { x: EccParameter::new(x).expect("x"), y: EccParameter::new(y).expect("y") };
        }
        Self { pair, public, hash }
    }

    /// The same key with other attributes.
    pub(crate) fn without(mut self, attribute: ObjectAttributes) -> Self {
        self.public.attributes = self.public.attributes.without(attribute);
        self
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.pair.sign(&SystemRandom::new(), message).expect("signed");
        let (r, s) = raw.as_ref().split_at(raw.as_ref().len() / 2);
        let value = SignatureValue::Ecdsa { r: EccParameter::new(r).expect("r"), s: EccParameter::new(s).expect("s") };
        Signature::Signed { hash: self.hash, value }.to_vec()
    }

    /// TPM2_Quote, as far as a verifier can tell.
    pub(crate) fn quote(&self, nonce: &[u8], selection: &[(HashAlg, &[u32])], values: &PcrValues) -> TpmEvidence {
        let mut pcrs = PcrValues::new();
        let mut concatenated = Vec::new();
        for (alg, selected) in selection {
            let bank = Bank::from_id(alg.id().0).expect("a bank");
            for &pcr in *selected {
                let value = values.get(&bank).and_then(|v| v.get(&pcr)).cloned().unwrap_or(vec![0; bank.size()]);
                concatenated.extend_from_slice(&value);
                pcrs.entry(bank).or_default().insert(pcr, value);
            }
        }
        let digest = bulla_tpm_types::hash::digest(self.hash, &[&concatenated]);
        let select: Vec<_> = selection.iter().map(|(alg, pcrs)| PcrSelection::new(*alg, pcrs)).collect();
        let quote = Attest {
            qualified_signer: Name::new(self.public.name().as_bytes()).expect("name"),
            extra_data: Data::new(nonce).expect("nonce"),
            clock_info: ClockInfo { clock: 1234, reset_count: 1, restart_count: 0, safe: true },
            firmware_version: 1,
            attested: Attested::Quote {
                pcr_select: PcrSelectionList::from_slice(&select).expect("selection"),
                pcr_digest: Digest::new(digest.as_bytes()).expect("digest"),
            },
        }
        .to_vec();
        TpmEvidence { ak_public: self.public.to_vec(), signature: self.sign(&quote), quote, pcrs }
    }
}

/// The events of a boot like bulla's, with this kernel.
pub(crate) fn boot(kernel: &[u8]) -> Vec<ExpectedEvent> {
    let event = ExpectedEvent::measure;
    let mut events = vec![
        event(0, ev::EFI_HCRTM_EVENT, "firmware", b"the firmware image", b"HCRTM"),
        event(0, ev::S_CRTM_VERSION, "firmware version", b"1\0\0\0", b"1\0\0\0"),
        event(1, ev::PLATFORM_CONFIG_FLAGS, "ACPI tables", b"RSDP and others", b"bulla: ACPI tables"),
        event(1, ev::PLATFORM_CONFIG_FLAGS, "memory map", b"one range", b"bulla: memory map"),
    ];
    events.extend((0..8).map(|pcr| event(pcr, ev::SEPARATOR, "separator", &[0; 4], &[0; 4])));
    events.extend([
        event(4, ev::IPL, "bootloader", b"the bootloader", b"bulla: bootloader"),
        event(4, ev::IPL, "kernel", kernel, b"bulla: kernel"),
        event(9, ev::IPL, "initrd", b"an initrd", b"bulla: initrd"),
        event(12, ev::IPL, "command line", CMDLINE, CMDLINE),
        event(5, ev::IPL, "boot parameters", b"zero page", b"bulla: boot parameters"),
    ]);
    events
}

pub(crate) fn expected(kernel: &[u8]) -> Expected {
    Expected::from_events(4, boot(kernel)).expect("a possible boot")
}

/// A machine that booted.
pub(crate) struct Machine {
    pub(crate) ak: SoftAk,
    pub(crate) host: HostKey,
    pub(crate) booted: Expected,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::booting(b"a good kernel")
    }

    pub(crate) fn booting(kernel: &[u8]) -> Self {
        Self { ak: SoftAk::p256(), host: HostKey::generate().expect("host key"), booted: expected(kernel) }
    }

    /// Honest evidence for [`NONCE`].
    pub(crate) fn evidence(&self) -> Evidence {
        self.evidence_over(&[(HashAlg::Sha256, &PCRS)])
    }

    pub(crate) fn evidence_over(&self, selection: &[(HashAlg, &[u32])]) -> Evidence {
        Evidence {
            nonce: NONCE.to_vec(),
            root: Root::VmmHosted,
            taken_at: TakenAt::Handover,
            tpm: self.ak.quote(&NONCE, selection, &self.booted.pcrs),
            event_log: self.booted.to_event_log().expect("log"),
        }
    }

    /// The evidence with the log of other events, quote unchanged: what a lying host would send.
    pub(crate) fn with_log_of(&self, events: Vec<ExpectedEvent>) -> Evidence {
        let log = Expected::from_events(4, events).expect("events").to_event_log().expect("log");
        Evidence { event_log: log, ..self.evidence() }
    }

    pub(crate) fn sign(&self, evidence: &Evidence) -> SignedEvidence {
        SignedEvidence::from_bytes(&evidence.sign(&self.host).expect("signed")).expect("readable")
    }

    /// Appraises against the values of the good kernel, with the default policy.
    pub(crate) fn appraise(&self, evidence: &Evidence) -> Verdict {
        appraise(&self.sign(evidence), &NONCE, Some(&expected(b"a good kernel")), &Policy::default())
    }
}

/// `console=ttyS0` as it is measured: UTF-16LE with NUL.
const CMDLINE: &[u8] = b"c\0o\0n\0s\0o\0l\0e\0=\0t\0t\0y\0S\x000\0\0\0";
