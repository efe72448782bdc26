//! Writes the seeds: inputs that our own code makes, so that a fuzzer begins behind the first checks.
//!
//! `cargo run -p bulla-fuzz-bodies --example seeds` writes them again, into tests/fuzz/corpus. Files that are not
//! seeds, such as inputs that once were findings, stay as they are. Each run writes the same.

extern crate alloc;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bulla_agent::frame::{Message, Reason};
use bulla_attest::{Bank, Evidence, Expected, ExpectedEvent, HostKey, PcrValues, Root, TakenAt, TpmEvidence};
use bulla_boot_abi::image::BOOTLOADER_MAGIC;
use bulla_boot_abi::mailbox::{Reply, Request, Role};
use bulla_boot_abi::window::{Kind, encode_memory_map, layout, standard_memory_map};
use bulla_boot_abi::{handoff, map};
use bulla_channel::Attester;
use bulla_fuzz_bodies::soft_tpm::SoftTpm;
use bulla_tpm_types::eventlog::ev;
use bulla_tpm_types::{
    Handle, HashAlg, Marshal, PcrSelection, PcrSelectionList, StartupType, command, hash, rh, templates,
};
use bulla_vtpm_client::frame::FrameBuffer;
use bulla_vtpm_client::{Locality, Op, PROTOCOL_VERSION, Status};

#[path = "../../../../firmware/bootloader/src/testing.rs"]
mod testing;
#[path = "seeds/vtpm.rs"]
mod vtpm;

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), bytes).expect("written");
}

/// [`put`] what has a random signature, so that it is not another one each time: only if the file is not there.
fn put_new(target: &str, name: &str, bytes: &[u8]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target).join(name);
    if !file.exists() {
        put(target, name, bytes);
    }
}

fn main() {
    tpm();
    vtpm::vtpm();
    verifier();
    boot();
    wire();
    cpu();
}

/// A 16-bit length, then the bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("short");
    [&len.to_be_bytes()[..], bytes].concat()
}

fn tpm() {
    let key = Handle(0x8000_0000);
    let sequence = Handle(0x8000_0001);
    let selection = [PcrSelection::new(HashAlg::Sha256, &[0, 4, 23])];
    let selection = PcrSelectionList::from_slice(&selection).expect("one bank");
    let runs = [
        (
            "attest",
            vec![
                command::create_primary(rh::OWNER, &templates::ak_p256()),
                command::read_public(key),
                command::pcr_read(&selection),
                command::quote(key, b"nonce", &selection),
                command::flush_context(key),
            ],
        ),
        ("endorse", vec![command::create_primary(rh::ENDORSEMENT, &templates::ek_p256()), command::read_clock()]),
        (
            "measure",
            vec![
                command::pcr_extend(10, &hash::digest_banks(b"x")),
                command::pcr_event(16, b"event"),
                command::pcr_reset(23),
                command::shutdown(StartupType::State),
            ],
        ),
        (
            "sequences",
            vec![
                command::hash_sequence_start(Some(HashAlg::Sha256)),
                command::hash_sequence_start(None),
                command::sequence_update(sequence, b"data"),
                command::event_sequence_complete(Handle(3), sequence, b"more"),
                command::sequence_complete(key, b"data", rh::OWNER),
                command::hash(b"data", HashAlg::Sha384, rh::NULL),
            ],
        ),
        (
            "capabilities",
            vec![
                command::get_capability(6, 0x100, 200),
                command::get_capability(7, 0, 200),
                command::get_capability(8, 0, 200),
                command::get_capability_pcrs(),
                command::get_random(40),
                command::stir_random(b"stir"),
                command::self_test(true),
                command::get_test_result(),
            ],
        ),
    ];
    for (name, commands) in &runs {
        let mut tpm = bulla_fuzz_bodies::prepared::new();
        tpm.init();
        tpm.execute(0, &command::startup(StartupType::Clear));
        let steps: Vec<u8> = commands.iter().flat_map(|c| [&[6, 0][..], &sized(c)].concat()).collect();
        put("tpm_command", name, &[&[0][..], &steps].concat());
        for (number, command) in commands.iter().enumerate() {
            let response = tpm.execute(0, command);
            // Short ones have nothing to parse.
            if response.len() > 30 {
                put("tpm_types", &format!("response_{name}_{number}"), &response);
            }
        }
    }
    let hcrtm =
        [&[0, 0, 1, 2][..], &sized(b"firmware"), &[3, 6, 3], &sized(&command::startup(StartupType::Clear)), &[4, 1, 0]];
    put("tpm_command", "hcrtm", &hcrtm.concat());

    let soft = SoftTpm::new(1);
    let (attest, signature) = soft.sign_quote(b"nonce", &[0, 4], &[7; 64]);
    put("tpm_types", "public_ak", &soft.public().to_vec());
    put("tpm_types", "public_ek", &templates::ek_p256().to_vec());
    put("tpm_types", "attest", &attest);
    put("tpm_types", "signature", &signature);
    put("tpm_types", "selection", &selection.to_vec());
    put("tpm_types", "digests", &hash::digest_banks(b"x").to_vec());
}

fn verifier() {
    let event = ExpectedEvent::measure;
    let events = vec![
        event(0, ev::EFI_HCRTM_EVENT, "firmware", b"the firmware image", b"HCRTM"),
        event(4, ev::IPL, "kernel", b"a kernel", b"bulla: kernel"),
        event(4, ev::SEPARATOR, "separator", &[0; 4], &[0; 4]),
    ];
    for locality in [0, 4] {
        let mut expected = Expected::from_events(locality, events.clone()).expect("a possible boot");
        expected.machine.insert("memory".to_owned(), "256 MiB".to_owned());
        let log = expected.to_event_log().expect("a log");
        put("eventlog", &format!("locality_{locality}"), &log);
        put("eventlog", &format!("area_{locality}"), &[&log[..], &[0; 64]].concat());
        if locality == 4 {
            put("expected", "boot", &expected.to_bytes().expect("written"));
            put_new("evidence", "handover", &evidence(&expected, log));
        }
    }
    let other = Expected::from_events(0, events[1..2].to_vec()).expect("a possible boot");
    put("expected", "one_event", &other.to_bytes().expect("written"));
    put_new("evidence", "empty_log", &evidence(&other, Vec::new()));
    put_new("evidence", "log", &evidence(&other, other.to_event_log().expect("a log")));
    put("expected", "empty", &Expected::from_events(3, vec![]).expect("nothing").to_bytes().expect("written"));
    let legacy = [&[4, 0, 0, 0, 13, 0, 0, 0][..], &[5; 20], &[3, 0, 0, 0], b"ipl"].concat();
    put("eventlog", "legacy", &legacy);

    put("policy", "counts", b"minimum_root = \"vmm-hosted\"\nmaximum_reset_count = 1\nmaximum_restart_count = 0\n");
    put("policy", "pcrs", b"require_endorsement = true\n[pcrs]\nsha256 = [0, 1, 23]\nsha1 = []\n");
    let name: String = SoftTpm::new(1).public().name().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let pem = host().public().to_pem();
    let keys = format!(
        "[attestation_keys]\nnames = [\"{name}\"]\npem = [\"\"\"{pem}\"\"\"]\n[host_keys]\npem = [\"\"\"{pem}\"\"\"]\n"
    );
    put("policy", "keys", keys.as_bytes());
    let thumbprints = format!("[host_keys]\nthumbprints = [\"{}\"]\n", "5a".repeat(32));
    put("policy", "thumbprints", thumbprints.as_bytes());
}

/// A host whose private key is the number 1, which is nobody's secret.
fn host() -> HostKey {
    const ONE: &str = "\
    -----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA\n\
    AAAAAAAAAAAAAAAAAAAAAAAAAAGhRANCAARrF9Hy4SxCR/i85uVjpEDydwN9gS3r\n\
    M6D0oTlF2JjClk/jQuL+Gn+bjufrSnwPnhYrzjNXazFezsu2QGg3v1H1\n\
    -----END PRIVATE KEY-----\n";
    HostKey::from_pem(ONE).expect("a key")
}

fn evidence(booted: &Expected, event_log: Vec<u8>) -> Vec<u8> {
    let values: BTreeMap<u32, Vec<u8>> = booted.pcrs.get(&Bank::Sha256).cloned().unwrap_or_default();
    let pcrs: Vec<u32> = values.keys().copied().collect();
    let soft = SoftTpm::new(1);
    let nonce = b"sixteen byte 123";
    let (quote, signature) = soft.sign_quote(nonce, &pcrs, &values.values().flatten().copied().collect::<Vec<u8>>());
    let pcrs = PcrValues::from([(Bank::Sha256, values)]);
    let tpm = TpmEvidence { ak_public: soft.public().to_vec(), quote, signature, pcrs };
    let evidence =
        Evidence { nonce: nonce.to_vec(), root: Root::VmmHosted, taken_at: TakenAt::Handover, tpm, event_log };
    evidence.sign(&host()).expect("signed")
}

fn boot() {
    let memory_map = standard_memory_map(4 << 30);
    let (header, ..) = layout(&[(Kind::Bootloader, 5000), (Kind::Kernel, 1), (Kind::Acpi, 0)]).expect("fits");
    put("boot_window", "directory", &header[..512]);
    put("boot_window", "memory_map", &encode_memory_map(&memory_map));
    put("boot_window", "handoff", &handoff::encode(1234, &header, &memory_map));
    let image = [
        &BOOTLOADER_MAGIC[..],
        &(map::BOOTLOADER_BASE + 32).to_le_bytes(),
        &[0; 8],
        &9000u64.to_le_bytes(),
        &[0x90; 8],
    ];
    put("boot_window", "image", &image.concat());
    put("boot_window", "request_quote", &Request::Quote { nonce: vec![7; 32] }.encode());
    put("boot_window", "request_open", &Request::ChannelOpen { role: Role::Responder }.encode());
    let part = || vec![1, 2, 3];
    let quote = Reply::Quote { ak_public: part(), attest: part(), signature: part(), event_log: part() };
    put("boot_window", "reply_quote", &quote.encode());
    put("boot_window", "reply_failed", &Reply::Failed { reason: "no".to_owned() }.encode());

    // 64 MiB, and an initial RAM disk of a page.
    let file = |bytes: &[u8]| [&[3, 0, 1][..], bytes].concat();
    let elf = |entry| testing::ElfImage::new(entry).load(0x100_0000, &[0x90; 16], 8192);
    let content = elf(0x100_0000).load(0x110_0000, &[7; 3000], 3000).build();
    put("kernel", "elf", &file(&elf(0x100_0000).build()));
    let pvh = elf(0).note(&testing::note(b"Xen\0", 18, &0x100_0000_u32.to_le_bytes()));
    put("kernel", "elf_pvh", &file(&pvh.build()));
    let packed =
        [("gzip", testing::gzip(&content)), ("lz4", testing::lz4(&content)), ("zstd", testing::zstd(&content))];
    for (name, payload) in packed {
        put("kernel", name, &file(&payload));
        put("kernel", &format!("bzimage_{name}"), &file(&testing::bzimage(&payload)));
    }
}

fn wire() {
    let mut buffer = FrameBuffer::new();
    let command = command::get_random(8);
    let version = PROTOCOL_VERSION.to_be_bytes();
    for (name, op, payload) in
        [("command", Op::Command, &command[..]), ("power_on", Op::PowerOn, &version), ("info", Op::Info, &[])]
    {
        let mut sent = vec![5];
        buffer.send_request(&mut sent, op, Locality::ZERO, payload).expect("memory");
        put("vtpm_frame", name, &sent);
    }
    let mut sent = vec![0];
    buffer.send_reply(&mut sent, Status::Done, &[0x5a; 100]).expect("memory");
    put("vtpm_frame", "reply", &sent);

    let pcrs = bulla_agent::tpm::QUOTE_PCRS.map(|pcr| (pcr, vec![0; 32])).to_vec();
    let parts = bulla_agent::claims::Parts {
        nonce: vec![7; 16],
        ak_public: vec![1; 90],
        quote: vec![2; 100],
        signature: vec![3; 72],
        pcrs,
        event_log: vec![4; 100],
    };
    let agent = [Message::Hello, Message::Evidence(parts.to_claims()), Message::Failed(Reason::new("no TPM"))];
    let monitor = [Message::Challenge(vec![7; 16]), Message::Done, Message::Declined(Reason::new("no"))];
    for (name, messages) in [("agent", agent), ("monitor", monitor)] {
        let frames: Vec<_> = messages.iter().map(|message| message.to_frame().expect("short")).collect();
        put("agent_line", name, &[&[3][..], &frames.concat()].concat());
    }
    let hello = Message::Hello.to_frame().expect("short");
    put("agent_line", "noise", &[&b"\x00login: \xB7bla\x01\x02\x05"[..], &hello, &hello].concat());

    let identity = SoftTpm::new(1).quote(&[7; 48]).expect("quoted");
    put("channel", "identity", &[&[1][..], &identity.encode().expect("fits")].concat());
    put("channel", "handshake", &[&[0][..], &sized(&[9; 32]), &sized(&[7; 500])].concat());
    // Steps of `conversation`: polls of both ends until they are open, a message each way, goodbye.
    let open = [2, 0, 1, 0, 1];
    let talk = [&[4][..], &sized(b"ping"), &[7, 5], &sized(b"pong"), &[6, 10, 7]].concat();
    put("channel", "conversation", &[&open[..], &talk].concat());
    let flip = [4, 0, 3, b'o', b'n', b'e', 12, 2, 4, 1, 7];
    put("channel", "tampering", &[&open[..], &flip].concat());
    let word = [14, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    put("channel", "overwriting", &[&[2, 0][..], &word].concat());
}

/// Modes, tables, registers, code and handlers of the software processor: see `bulla_fuzz_bodies::cpu`.
fn cpu() {
    let machine = |mode: u8, bits: u8, words: &[(u16, u64)], flags: u64, code: &[u8], handler: &[u8], rest: &[u8]| {
        let mut bytes = vec![mode, bits, words.len() as u8];
        for (place, value) in words {
            bytes.extend(place.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(7u64.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        let sized = |code: &[u8]| [&(code.len() as u16).to_be_bytes()[..], code].concat();
        [bytes, sized(code), sized(handler), rest.to_vec()].concat()
    };
    // mov ecx, 2; again: mov al, 1; out 0xF4, al; mov byte ptr [rip - 10], 7; loop again; ud2
    let changing = [0xB9, 2, 0, 0, 0, 0xB0, 1, 0xE6, 0xF4, 0xC6, 5, 0xF6, 255, 255, 255, 7, 0xE2, 0xF3, 0x0F, 0x0B];
    put("cpu", "self_modifying", &machine(4, 0, &[], 0, &changing, &[], &[]));
    // int 0x21; mov ax, [bx]; push ax; lodsb; div bl; jmp back
    let real = [0xCD, 0x21, 0x8B, 7, 0x50, 0xAC, 0xF6, 0xF3, 0xEB, 0xF6];
    put("cpu", "real_mode", &machine(0, 0, &[], 0, &real, &[], b"memory"));
    // mov [edi], esi; mov cr3, eax; in al, dx; iret; single steps
    let flat = [0x89, 0x37, 0x0F, 0x22, 0xD8, 0xEC, 0xF4, 0xCF];
    put("cpu", "single_step", &machine(1, 1, &[], 0x302, &flat, &[0x58, 0xCF], &[0x90]));
    // Wild tables; rep movsq; syscall; mov rax, [rsi]
    let wild = [(0, 0x1007), (512, u64::MAX), (1030, 0xFEE0_0087), (1540, 0x8001)];
    let user = [0xF3, 0x48, 0xA5, 0x0F, 5, 0x48, 0x8B, 6, 0xEB, 0xF6];
    put("cpu", "wild_tables", &machine(5, 4, &wild, 0, &user, &[0x48, 0x83, 0xC4, 8, 0x48, 0xCF], &[0x90, 0xC3]));
    // fld1; fldpi; fdivp; sqrtps xmm0, xmm1; pcmpistri; fxsave [rdi]; cpuid; rdmsr; far jump through [rbx]
    let vectors = [
        0xD9, 0xE8, 0xD9, 0xEB, 0xDE, 0xF9, 0x0F, 0x51, 0xC1, 0x66, 0x0F, 0x3A, 0x63, 0xC1, 0x0C, 0x0F, 0xAE, 7, 0x0F,
        0xA2, 0x0F, 0x32, 0xFF, 0x2B,
    ];
    put("cpu", "vectors_pae", &machine(3, 8, &[], 0, &vectors, &[0x83, 0xC4, 4, 0xCF], &[1, 2, 3]));
    put(
        "cpu",
        "watchpoints",
        &machine(2, 32, &[], 0, &[0xA3, 0, 0x90, 0, 0, 0x0F, 0x23, 0xF8, 0xEB, 0xF6], &[0xCF], &[]),
    );
    put("cpu", "no_idt", &machine(4, 2, &[], 0, &[0xCC], &[], &[]));
}
