//! Evidence of a real VM, changed on its way to the verifier in every manner that a carrier could think of, and signed again
//! with a host key of the carrier's own: `bulla-attest verify` exits 1 and says which.

use std::path::PathBuf;

use bulla_attest::{Bank, Evidence, Expected, HostKey, SignedEvidence};
use bulla_tests::{NONCE, TempDir, command, kvm_or_skip, read, run_expecting, write};
use bulla_tpm_types::{HashAlg, PcrSelection, PcrSelectionList, command as tpm, response, rh, templates};
use bulla_vtpm_client::{Locality, VtpmProcess};

struct Genuine {
    dir: TempDir,
    evidence: Evidence,
    expected: PathBuf,
}

fn boot() -> Genuine {
    let dir = TempDir::new().unwrap();
    let (evidence, expected) = (dir.path().join("ev.cbor"), dir.path().join("exp.cbor"));
    let shape = ["--kernel", "tenant", "--memory", "32M", "--cmdline", "quiet"];
    let mut run = command("bulla");
    run.arg("run").args(shape).arg("--evidence").arg(&evidence).args(["--nonce", NONCE]);
    let _ = run_expecting(run.args(["--until", "handover", "--console", "none"]), 0);
    let _ = run_expecting(command("bulla").arg("measure").args(shape).arg("--out").arg(&expected), 0);
    let evidence = SignedEvidence::from_bytes(&read(&evidence)).unwrap().evidence().clone();
    Genuine { dir, evidence, expected }
}

impl Genuine {
    /// Signs `evidence` anew and verifies it; returns the verdict.
    fn verify(&self, evidence: &Evidence, code: i32) -> serde_json::Value {
        let signed = evidence.sign(&HostKey::generate().unwrap()).unwrap();
        let path = write(&self.dir, "forged.cbor", &signed);
        let mut verify = command("bulla-attest");
        verify.arg("verify").arg("--evidence").arg(path).arg("--expected").arg(&self.expected);
        serde_json::from_str(&run_expecting(verify.args(["--nonce", NONCE, "--json"]), code)).unwrap()
    }

    fn rejected_for(&self, evidence: &Evidence, reason: &str) -> serde_json::Value {
        let verdict = self.verify(evidence, 1);
        let reasons = verdict["reasons"].as_array().unwrap();
        assert!(reasons.iter().any(|r| r["code"] == reason), "no {reason} in {verdict:#}");
        verdict
    }

    /// Rewrites the log's events through the types of the expected values, which can be turned into a log again.
    fn with_events(&self, change: impl FnOnce(&mut Vec<bulla_attest::ExpectedEvent>)) -> Evidence {
        let mut expected = Expected::from_bytes(&read(&self.expected)).unwrap();
        assert_eq!(expected.to_event_log().unwrap(), self.evidence.event_log);
        change(&mut expected.events);
        Evidence { event_log: expected.to_event_log().unwrap(), ..self.evidence.clone() }
    }
}

fn position(events: &[bulla_attest::ExpectedEvent], name: &str) -> usize {
    events.iter().position(|e| e.name == name).unwrap()
}

#[test]
fn a_carrier_can_change_nothing_of_the_log() {
    if !kvm_or_skip("forged logs") {
        return;
    }
    let genuine = boot();
    assert_eq!(genuine.verify(&genuine.evidence, 0)["accepted"], true);

    let edited = genuine.with_events(|events| {
        let kernel = position(events, "kernel");
        events[kernel].digests.get_mut(&Bank::Sha256).unwrap()[0] ^= 1;
    });
    let verdict = genuine.rejected_for(&edited, "event-log-replay");
    assert_eq!((&verdict["differences"][0]["pcr"], &verdict["differences"][0]["event"]), (&4.into(), &"kernel".into()));

    let removed = genuine.with_events(|events| drop(events.remove(position(events, "command line"))));
    let verdict = genuine.rejected_for(&removed, "event-missing");
    assert_eq!(verdict["differences"][0]["event"], "command line");

    let swapped = genuine.with_events(|events| {
        let (bootloader, kernel) = (position(events, "bootloader"), position(events, "kernel"));
        events.swap(bootloader, kernel);
    });
    genuine.rejected_for(&swapped, "event-log-replay");
}

#[test]
fn a_quote_by_another_ak_is_rejected() {
    if !kvm_or_skip("a quote by another AK") {
        return;
    }
    let (genuine, other) = (boot(), boot());
    let mut forged = genuine.evidence.clone();
    forged.tpm.quote.clone_from(&other.evidence.tpm.quote);
    forged.tpm.signature.clone_from(&other.evidence.tpm.signature);
    genuine.rejected_for(&forged, "quote-signature");

    // All of the other VM's evidence is as good as the first one's, until the verifier knows which AK it wants.
    let mut verify = command("bulla-attest");
    let signed = other.evidence.sign(&HostKey::generate().unwrap()).unwrap();
    let path = write(&genuine.dir, "other.cbor", &signed);
    verify.arg("verify").arg("--evidence").arg(path).arg("--expected").arg(&genuine.expected).args(["--nonce", NONCE]);
    let policy = format!("[attestation_keys]\nnames = [\"{}\"]\n", ak_name(&genuine.evidence));
    let _ = run_expecting(verify.arg("--policy").arg(write(&genuine.dir, "policy.toml", policy.as_bytes())), 1);
}

fn ak_name(evidence: &Evidence) -> String {
    use bulla_tpm_types::Unmarshal as _;
    hex::encode(bulla_tpm_types::Public::from_bytes(&evidence.tpm.ak_public).unwrap().name().as_bytes())
}

#[test]
fn a_wrong_nonce_and_an_edited_pcr_value_are_rejected() {
    if !kvm_or_skip("a wrong nonce") {
        return;
    }
    let genuine = boot();
    let mut edited = genuine.evidence.clone();
    edited.tpm.pcrs.get_mut(&Bank::Sha256).unwrap().get_mut(&4).unwrap()[0] ^= 1;
    genuine.rejected_for(&edited, "pcr-digest");
    let mut stale = genuine.evidence.clone();
    stale.nonce[0] ^= 1;
    genuine.rejected_for(&stale, "nonce-mismatch");
}

/// A vTPM in which the same events were extended, asked for a quote that leaves PCR 4 out.
#[test]
fn a_pcr_selection_that_leaves_one_out_is_rejected() {
    if !kvm_or_skip("a narrower selection") {
        return;
    }
    let genuine = boot();
    let expected = Expected::from_bytes(&read(&genuine.expected)).unwrap();
    let mut process = VtpmProcess::spawn(&bulla_tests::program("bulla-vtpm")).unwrap();
    let vtpm = process.client();
    vtpm.power_on().unwrap();
    let _ = vtpm.hash_sequence(bulla_firmware::FIRMWARE).unwrap();
    let mut ask = |bytes: &[u8]| vtpm.command(Locality::ZERO, bytes).unwrap();
    response::parse_empty(&ask(&tpm::startup(bulla_tpm_types::StartupType::Clear))).unwrap();
    for event in expected.events.iter().skip(1) {
        let mut digests = bulla_tpm_types::DigestValues::new();
        for alg in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
            let bank = Bank::from_id(alg.id().0).unwrap();
            assert!(digests.push(bulla_tpm_types::Ha::new(alg, &event.digests[&bank]).unwrap()));
        }
        response::parse_empty(&ask(&tpm::pcr_extend(event.pcr, &digests))).unwrap();
    }
    let ak =
        response::parse_create_primary(&ask(&tpm::create_primary(rh::ENDORSEMENT, &templates::ak_p256()))).unwrap();
    let mut quote_of = |pcrs: &[u32]| {
        let mut selection = PcrSelectionList::new();
        assert!(selection.push(PcrSelection::new(HashAlg::Sha256, pcrs)));
        let answer = ask(&tpm::quote(ak.handle, &genuine.evidence.nonce, &selection));
        let quote = response::parse_quote(&answer).unwrap();
        let mut evidence = genuine.evidence.clone();
        evidence.tpm.ak_public = bulla_tpm_types::Marshal::to_vec(&ak.public);
        evidence.tpm.quote = quote.attest_bytes.to_vec();
        evidence.tpm.signature = bulla_tpm_types::Marshal::to_vec(&quote.signature);
        evidence.tpm.pcrs.get_mut(&Bank::Sha256).unwrap().retain(|pcr, _| pcrs.contains(pcr));
        evidence
    };
    let all: Vec<u32> = genuine.evidence.tpm.pcrs[&Bank::Sha256].keys().copied().collect();
    assert_eq!(genuine.verify(&quote_of(&all), 0)["accepted"], true);
    let without_4: Vec<u32> = all.iter().copied().filter(|pcr| *pcr != 4).collect();
    let verdict = genuine.rejected_for(&quote_of(&without_4), "pcr-selection");
    assert!(verdict["reasons"].to_string().contains('4'), "{verdict:#}");
}
