//! What the tests build machines from.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bulla_boot_abi::image::{BOOTLOADER_MAGIC, FIRMWARE_MAGIC, HEADER_LEN};
use bulla_boot_abi::map::{BOOTLOADER_BASE, FIRMWARE_BASE, FIRMWARE_SIZE, RAM_MIN};
use bulla_boot_abi::progress::Progress;
use bulla_vtpm_client::frame::FrameBuffer;
use bulla_vtpm_client::{Op, Status, VtpmClient};

use crate::backend::kvm::KvmBackend;
use crate::machine::{AtProgress, BuildError, Images, Machine, MachineConfig, ProgressHandler};

/// Offsets in the test firmware: code, PML4, PDPT, four page directories.
const CODE: usize = 0x40;
const TABLES: usize = 0x1000;
const LEN: usize = TABLES + 6 * 0x1000;
/// Digests that the listening vTPM says it has extended.
pub(super) const DIGESTS: &[u8] = b"digests";

/// `mov edx, 0xB10; mov eax, value; out dx, eax`
pub(super) fn progress(value: u32) -> Vec<u8> {
    let mut code = vec![0xBA, 0x10, 0x0B, 0, 0, 0xB8];
    code.extend(value.to_le_bytes());
    code.push(0xEF);
    code
}

/// `mov edx, 0x3F8; mov al, byte; out dx, al` for each byte
pub(super) fn print(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| [0xBA, 0xF8, 0x03, 0, 0, 0xB0, byte, 0xEE]).collect()
}

/// `mov edx, 0x604; mov eax, 0x3400; out dx, ax; jmp $` (SLP_TYP 5, SLP_EN)
pub(super) const POWER_OFF: &[u8] = &[0xBA, 0x04, 0x06, 0, 0, 0xB8, 0x00, 0x34, 0, 0, 0x66, 0xEF, 0xEB, 0xFE];

/// A firmware image that runs `code` with 4 GiB mapped one to one.
pub(super) fn firmware(code: &[u8]) -> Vec<u8> {
    const PRESENT_WRITE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let mut image = vec![0; LEN];
    let mut put = |at: usize, value: u64| image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(8, FIRMWARE_BASE + CODE as u64);
    put(16, FIRMWARE_BASE + TABLES as u64);
    put(24, FIRMWARE_SIZE);
    put(TABLES, (FIRMWARE_BASE + TABLES as u64 + 0x1000) | PRESENT_WRITE);
    for directory in 0..4 {
        let at = TABLES + 0x2000 + directory * 0x1000;
        put(TABLES + 0x1000 + directory * 8, (FIRMWARE_BASE + at as u64) | PRESENT_WRITE);
        for entry in 0..512 {
            put(at + entry * 8, ((directory * 512 + entry) as u64) << 21 | LARGE | PRESENT_WRITE);
        }
    }
    image[..8].copy_from_slice(&FIRMWARE_MAGIC);
    image[CODE..CODE + code.len()].copy_from_slice(code);
    image
}

/// A bootloader image that is never run.
pub(super) fn bootloader() -> Vec<u8> {
    let mut image = BOOTLOADER_MAGIC.to_vec();
    for field in [BOOTLOADER_BASE, 0, 4096] {
        image.extend(field.to_le_bytes());
    }
    assert_eq!(image.len(), HEADER_LEN);
    image
}

/// A shared log.
pub(super) type Log<T> = Arc<Mutex<Vec<T>>>;

pub(super) fn taken<T: Clone>(log: &Log<T>) -> Vec<T> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A console that remembers.
pub(super) struct Console(pub(super) Log<u8>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A vTPM that agrees to everything and remembers what it was asked.
pub(super) fn listening_vtpm() -> (VtpmClient, Log<(u8, Vec<u8>)>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let log = Log::default();
    let heard = Arc::clone(&log);
    thread::spawn(move || {
        let mut buffer = FrameBuffer::new();
        while let Ok(Some(request)) = buffer.receive_request(&mut theirs) {
            let op = request.op;
            heard.lock().unwrap().push((op, request.payload.to_vec()));
            let answer = if op == Op::HashEnd as u8 { DIGESTS } else { &[] };
            buffer.send_reply(&mut theirs, Status::Done, answer).unwrap();
        }
    });
    (VtpmClient::new(ours).unwrap(), log)
}

pub(super) fn backend() -> Option<KvmBackend> {
    if !std::path::Path::new("/dev/kvm").exists() {
        eprintln!("skipped: no /dev/kvm");
        return None;
    }
    Some(KvmBackend::open().unwrap())
}

pub(super) fn small() -> MachineConfig {
    MachineConfig { memory: RAM_MIN, ..MachineConfig::default() }
}

/// Lets everything pass.
pub(super) fn go_on() -> ProgressHandler {
    Box::new(|_, _| ControlFlow::Continue(()))
}

/// Calls `f` and remembers what was told.
pub(super) fn watching(
    mut f: impl FnMut(Progress, &mut AtProgress<'_>) -> ControlFlow<()> + Send + 'static,
) -> (ProgressHandler, Log<Progress>) {
    let log = Log::default();
    let told = Arc::clone(&log);
    let handler: ProgressHandler = Box::new(move |progress, at| {
        told.lock().unwrap().push(progress);
        f(progress, at)
    });
    (handler, log)
}

/// Builds a machine whose firmware is `code`; `None` without KVM.
pub(super) fn build(
    code: &[u8],
    config: MachineConfig,
    handler: ProgressHandler,
) -> Option<Result<Machine, BuildError>> {
    let backend = backend()?;
    let (firmware, bootloader) = (firmware(code), bootloader());
    let images = Images {
        firmware: &firmware,
        bootloader: &bootloader,
        kernel: b"kernel",
        initrd: Some(b"initrd"),
        cmdline: "quiet",
    };
    Some(Machine::build(config, &images, &backend, listening_vtpm().0, handler))
}

/// The same, started.
pub(super) fn started(code: &[u8], config: MachineConfig, handler: ProgressHandler) -> Option<Machine> {
    let mut machine = build(code, config, handler)?.unwrap();
    machine.start().unwrap();
    Some(machine)
}
