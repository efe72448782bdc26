//! What the demo does and claims.

use std::ffi::OsString;
use std::path::Path;

use bulla_attest::{Expected, HostKey, Policy, SignedEvidence, Verdict, appraise};
use bulla_boot_abi::chain::PCR_BOOT_CODE;
use bulla_boot_abi::mailbox::{Reply, Request, Role};
use bulla_tpm_types::{Public, Unmarshal as _};
use bulla_vmm::devices::tpm::TpmInterface;
use bulla_vmm::measure::{BootInputs, expected};
use bulla_vmm::shared::SharedRegion;
use bulla_vmm::tenant::MailboxError;
use serde::Serialize;

use super::vm::{MEMORY, Monitor, TenantVm, failed};
use crate::cli::{Exit, Failure, read_file, say, write_file};

/// Policy of both tenants, measured with their command line: the peer must have booted what I booted.
const CMDLINE: &str = "peer_pcrs=same";
/// Size of the memory shared by the two tenants.
const CHANNEL_SIZE: u64 = 64 * 1024;
/// What the tenants say to each other. Long and repetitive on purpose: it would be easy to find in a dump.
const WORDS: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.",
    "a bulla is sealed; anyone can see that it is, nobody can see what is in it",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "goodbye",
];

/// The claims, each true once it was seen to hold.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Held {
    tenant_a_verified: bool,
    tenant_b_verified: bool,
    flipped_kernel_rejected: bool,
    flipped_kernel_named: bool,
    channel_between_verified_tenants: bool,
    messages_exchanged: bool,
    host_sees_only_ciphertext: bool,
    flipped_bit_detected: bool,
    powered_off: bool,
}

impl Held {
    pub(crate) fn list(&self) -> [(&'static str, bool); 9] {
        [
            ("the quote of tenant A verifies against the values of `bulla measure`", self.tenant_a_verified),
            ("the quote of tenant B verifies against the values of `bulla measure`", self.tenant_b_verified),
            ("a VM with one flipped bit in its kernel is rejected", self.flipped_kernel_rejected),
            ("…and the verdict names the PCR and the event", self.flipped_kernel_named),
            ("each tenant's channel ends at the other tenant's attested key", self.channel_between_verified_tenants),
            ("the tenants exchange messages both ways", self.messages_exchanged),
            ("a dump of the shared memory shows only ciphertext", self.host_sees_only_ciphertext),
            ("a bit flipped in the shared memory by the host is detected", self.flipped_bit_detected),
            ("both tenants power off cleanly", self.powered_off),
        ]
    }

    pub(crate) fn all(&self) -> bool {
        self.list().iter().all(|(_, held)| *held)
    }
}

/// The demo as it goes on.
pub(crate) struct Story {
    aloud: bool,
    /// For the monitors' `--accel`.
    accel: &'static str,
    held: Held,
    details: Vec<String>,
}

impl Story {
    pub(crate) fn new(aloud: bool, accel: &'static str) -> Self {
        Self { aloud, accel, held: Held::default(), details: Vec::new() }
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    pub(crate) fn details(&self) -> &[String] {
        &self.details
    }

    pub(crate) fn say(&mut self, text: &str) {
        if self.aloud {
            say!("· {text}");
        }
        self.details.push(text.to_owned());
    }

    /// Everything, in order. An error ends the story early; what held until then stays held.
    pub(crate) fn tell(&mut self) -> Result<(), Failure> {
        let kernel = bulla_firmware::TENANT;
        let channel = SharedRegion::create("bulla-channel", CHANNEL_SIZE)
            .map_err(|e| Failure::because(Exit::HostFailed, "channel", &e))?;
        let scratch = tempfile::tempdir().map_err(|e| Failure::because(Exit::HostFailed, "scratch folder", &e))?;
        let nonce = fresh_nonce()?;

        self.say("starting three VMs: tenants A and B, and one with a flipped bit in its kernel");
        let flipped_path = scratch.path().join("flipped-kernel");
        write_file(&flipped_path, &flip_last_bit(kernel))?;
        let evidence_path = scratch.path().join("flipped.cbor");
        let mut a = TenantVm::start("tenant A", self.accel, CMDLINE, &channel)?;
        let mut b = TenantVm::start("tenant B", self.accel, CMDLINE, &channel)?;
        let mut flipped = start_flipped(self.accel, &flipped_path, &evidence_path, &nonce)?;

        let expected = self.measure(kernel)?;
        let key = HostKey::generate().map_err(|e| Failure::because(Exit::HostFailed, "host key", &e))?;
        let quote = Request::Quote { nonce: nonce.clone() };
        a.post(&quote)?;
        b.post(&quote)?;
        let ak_a = self.appraise_tenant(&mut a, &nonce, &expected, &key)?;
        self.held.tenant_a_verified = ak_a.is_some();
        let ak_b = self.appraise_tenant(&mut b, &nonce, &expected, &key)?;
        self.held.tenant_b_verified = ak_b.is_some();

        flipped.wait()?;
        self.appraise_flipped(&evidence_path, &nonce, &expected)?;

        if let (Some(ak_a), Some(ak_b)) = (ak_a, ak_b) {
            self.open_channel(&mut a, &mut b, &ak_a, &ak_b)?;
            self.exchange(&mut a, &mut b)?;
            self.look_into(&channel)?;
            self.flip_in_flight(&mut a, &mut b, &channel)?;
        }
        self.held.powered_off = a.power_off()? & b.power_off()?;
        Ok(())
    }

    fn measure(&mut self, kernel: &[u8]) -> Result<Expected, Failure> {
        let inputs = BootInputs {
            firmware: bulla_firmware::FIRMWARE,
            bootloader: bulla_firmware::BOOTLOADER,
            kernel,
            initrd: None,
            cmdline: CMDLINE,
            memory: MEMORY,
            vcpus: 1,
            tpm_interface: TpmInterface::Crb,
        };
        let expected = expected(&inputs).map_err(|e| Failure::because(Exit::HostFailed, "measure", &e))?;
        self.say(&format!("expected values computed offline: {} events", expected.events.len()));
        Ok(expected)
    }

    /// Takes a tenant's quote and judges it; the Name of its AK if it is accepted.
    fn appraise_tenant(
        &mut self,
        vm: &mut TenantVm,
        nonce: &[u8],
        expected: &Expected,
        key: &HostKey,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let reply = vm.wait()?;
        let evidence = bulla_vmm::evidence::from_tenant(nonce, reply)
            .map_err(|e| Failure::because(Exit::GuestFailed, vm.name(), &e))?
            .ok_or_else(|| failed(vm.name(), &MailboxError::Unexpected("a request for a quote")))?;
        let name = ak_name(&evidence.tpm.ak_public);
        let signed = evidence.sign(key).map_err(|e| Failure::because(Exit::GuestFailed, vm.name(), &e))?;
        let verdict = judge(&signed, nonce, expected)?;
        self.say(&format!("{}: {}", vm.name(), summary(&verdict)));
        Ok(name.filter(|_| verdict.accepted))
    }

    fn appraise_flipped(&mut self, path: &Path, nonce: &[u8], expected: &Expected) -> Result<(), Failure> {
        let verdict = judge(&read_file(path)?, nonce, expected)?;
        self.held.flipped_kernel_rejected = !verdict.accepted;
        let kernel_named = |d: &bulla_attest::Difference| d.pcr == u32::from(PCR_BOOT_CODE) && d.event == "kernel";
        self.held.flipped_kernel_named = verdict.differences.iter().any(kernel_named);
        self.say(&format!("the VM with the flipped bit: {}", summary(&verdict)));
        Ok(())
    }

    fn open_channel(&mut self, a: &mut TenantVm, b: &mut TenantVm, ak_a: &[u8], ak_b: &[u8]) -> Result<(), Failure> {
        b.post(&Request::ChannelOpen { role: Role::Responder })?;
        a.post(&Request::ChannelOpen { role: Role::Initiator })?;
        let mut peers = Vec::new();
        for vm in [&mut *a, &mut *b] {
            let Reply::Opened { peer_ak_name } = vm.wait()? else {
                return Err(failed(vm.name(), &MailboxError::Unexpected("a request to open the channel")));
            };
            peers.push(peer_ak_name);
        }
        self.held.channel_between_verified_tenants = peers == [ak_b, ak_a];
        self.say(&format!("channel open between AK {} and AK {}", short(ak_a), short(ak_b)));
        Ok(())
    }

    fn exchange(&mut self, a: &mut TenantVm, b: &mut TenantVm) -> Result<(), Failure> {
        let mut arrived = 0;
        for words in WORDS {
            arrived += usize::from(carry(a, b, words)? == words.as_bytes());
            arrived += usize::from(carry(b, a, words)? == words.as_bytes());
        }
        self.held.messages_exchanged = arrived == 2 * WORDS.len();
        self.say(&format!("{arrived} of {} messages arrived as they were sent", 2 * WORDS.len()));
        Ok(())
    }

    /// What the host sees of all this.
    fn look_into(&mut self, channel: &SharedRegion) -> Result<(), Failure> {
        let dump = dump(channel)?;
        let traffic = dump.iter().filter(|b| **b != 0).count();
        let sent: usize = WORDS.iter().map(|w| 2 * w.len()).sum();
        // Any eight bytes in a row of anything that was said would give it away.
        let leaks =
            WORDS.iter().flat_map(|w| w.as_bytes().windows(8.min(w.len()))).filter(|w| contains(&dump, w)).count();
        self.held.host_sees_only_ciphertext = traffic >= sent && leaks == 0;
        let sample = dump.iter().copied().filter(|b| *b != 0).rev().take(24).collect::<Vec<u8>>();
        self.say(&format!(
            "the host's dump of the shared memory: {traffic} bytes written, {leaks} pieces of plaintext, e.g. {}",
            hex::encode(sample)
        ));
        Ok(())
    }

    fn flip_in_flight(&mut self, a: &mut TenantVm, b: &mut TenantVm, channel: &SharedRegion) -> Result<(), Failure> {
        let before = dump(channel)?;
        let message = WORDS[0].as_bytes().to_vec();
        a.ask(&Request::Send { message })?;
        let after = dump(channel)?;
        let target = middle_of_longest_change(&before, &after).ok_or_else(|| {
            Failure::new(Exit::GuestFailed, "tenant A's message did not show up in the shared memory")
        })?;
        let changed = after.get(target).copied().unwrap_or_default() ^ 0x10;
        channel.write(target, &[changed]).map_err(|e| Failure::because(Exit::HostFailed, "channel", &e))?;
        b.post(&Request::Recv)?;
        match b.try_wait() {
            Err(MailboxError::Refused(reason)) => {
                self.held.flipped_bit_detected = true;
                self.say(&format!("the host flipped one bit at byte {target}: tenant B says \"{reason}\""));
            }
            Ok(reply) => self.say(&format!("the host flipped one bit, and tenant B did not notice: {reply:?}")),
            Err(error) => return Err(failed(b.name(), &error)),
        }
        Ok(())
    }
}

fn start_flipped(accel: &str, kernel: &Path, evidence: &Path, nonce: &[u8]) -> Result<Monitor, Failure> {
    let more: [OsString; 6] = [
        "--evidence".into(),
        evidence.into(),
        "--nonce".into(),
        hex::encode(nonce).into(),
        "--until".into(),
        "handover".into(),
    ];
    Monitor::start("the VM with the flipped bit", accel, kernel, CMDLINE, &more)
}

fn carry(from: &mut TenantVm, to: &mut TenantVm, words: &str) -> Result<Vec<u8>, Failure> {
    from.ask(&Request::Send { message: words.as_bytes().to_vec() })?;
    match to.ask(&Request::Recv)? {
        Reply::Message { message } => Ok(message),
        _ => Err(failed(to.name(), &MailboxError::Unexpected("a request to receive"))),
    }
}

fn judge(signed: &[u8], nonce: &[u8], expected: &Expected) -> Result<Verdict, Failure> {
    let signed = SignedEvidence::from_bytes(signed).map_err(|e| Failure::because(Exit::GuestFailed, "evidence", &e))?;
    Ok(appraise(&signed, nonce, Some(expected), &Policy::default()))
}

fn summary(verdict: &Verdict) -> String {
    if verdict.accepted {
        return format!("accepted (root of trust: {})", verdict.root);
    }
    let reasons: Vec<&str> = verdict.reasons.iter().map(|r| r.text.as_str()).collect();
    format!("rejected: {}", reasons.join("; "))
}

fn ak_name(ak_public: &[u8]) -> Option<Vec<u8>> {
    let public = Public::from_bytes(ak_public).ok()?;
    Some(public.name().as_bytes().to_vec())
}

fn fresh_nonce() -> Result<Vec<u8>, Failure> {
    let mut nonce = vec![0; 32];
    getrandom::fill(&mut nonce).map_err(|e| Failure::new(Exit::HostFailed, format!("no randomness: {e}")))?;
    Ok(nonce)
}

fn flip_last_bit(image: &[u8]) -> Vec<u8> {
    let mut copy = image.to_vec();
    if let Some(last) = copy.last_mut() {
        *last ^= 1;
    }
    copy
}

fn dump(channel: &SharedRegion) -> Result<Vec<u8>, Failure> {
    channel.read(0, channel.len()).map_err(|e| Failure::because(Exit::HostFailed, "channel", &e))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn short(name: &[u8]) -> String {
    hex::encode(name.get(2..8).unwrap_or(name))
}

/// The middle of the longest run of bytes that differ between two dumps of one length.
fn middle_of_longest_change(before: &[u8], after: &[u8]) -> Option<usize> {
    let mut best = None;
    let mut start = None;
    for (i, (x, y)) in before.iter().zip(after).enumerate() {
        if x == y {
            start = None;
            continue;
        }
        let from = *start.get_or_insert(i);
        if best.is_none_or(|(len, _)| i - from >= len) {
            best = Some((i - from + 1, from));
        }
    }
    best.map(|(len, from)| from + len / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_change_is_found() {
        assert_eq!(middle_of_longest_change(b"aaaaaaaaaa", b"abaabbbbba"), Some(6));
        assert_eq!(middle_of_longest_change(b"aaaa", b"aaaa"), None);
    }

    #[test]
    fn no_claim_holds_before_it_was_seen() {
        assert!(Held::default().list().iter().all(|(_, held)| !held));
    }
}
