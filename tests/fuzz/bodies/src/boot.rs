//! What the firmware and the bootloader read from a host that may change it at any time.

use bulla_boot_abi::handoff::{self, Handoff};
use bulla_boot_abi::image::{BOOTLOADER_MAGIC, FIRMWARE_MAGIC, Header};
use bulla_boot_abi::mailbox::{Reply, Request};
use bulla_boot_abi::map;
use bulla_boot_abi::window::{
    Directory, HEADER_LEN, Kind, MemoryRange, decode_memory_map, encode_memory_map, standard_memory_map,
};
use bulla_bootloader::elf::Elf;
use bulla_bootloader::kernel::Kernel;
use bulla_bootloader::load::{Unpacking, check_unpacked, unpacking};
use bulla_bootloader::memory::low_ram;
use bulla_bootloader::payload::{Format, Payload};
use bulla_bootloader::plan::{Plan, kernel_copy_at, plan};

use crate::script::Script;

const KINDS: [Kind; 7] = [
    Kind::Bootloader,
    Kind::Acpi,
    Kind::MemoryMap,
    Kind::Kernel,
    Kind::Initrd,
    Kind::CommandLine,
    Kind::FirmwareDigests,
];

/// Everything of the boot contract that is read as bytes: the window's directory, the memory map, the hand-off page,
/// the headers of both images, and the mailbox. Answers whether the bytes were any of them.
pub fn boot_window(bytes: &[u8]) -> bool {
    let directory = Directory::parse(bytes);
    directory.iter().for_each(check_directory);
    let memory_map = decode_memory_map(bytes);
    memory_map.iter().for_each(|ranges| check_memory_map(ranges));
    let handoff = Handoff::parse(bytes);
    if let Some(handoff) = &handoff {
        check_directory(&handoff.directory);
        check_memory_map(&handoff.memory_map);
        let header = bytes.get(24..24 + 512).expect("parsed");
        let again = handoff::encode(handoff.log_len, header, &handoff.memory_map);
        assert_eq!(Handoff::parse(&again).as_ref(), Some(handoff));
    }
    let mut images = 0;
    for (magic, base, room) in [
        (FIRMWARE_MAGIC, map::FIRMWARE_BASE, map::FIRMWARE_SIZE),
        (BOOTLOADER_MAGIC, map::BOOTLOADER_BASE, map::BOOTLOADER_SIZE),
    ] {
        if let Ok(header) = Header::parse(bytes, magic, base, room) {
            assert!(header.memory <= room && bytes.len() as u64 <= header.memory);
            assert!((base..base + bytes.len() as u64).contains(&header.entry));
            images += 1;
        }
    }
    let request = Request::decode(bytes);
    request.iter().for_each(|request| assert_eq!(request.encode(), bytes));
    let reply = Reply::decode(bytes);
    reply.iter().for_each(|reply| assert_eq!(reply.encode(), bytes));
    let read = [directory.is_ok(), memory_map.is_ok(), handoff.is_some(), images > 0, request.is_ok(), reply.is_ok()];
    read.contains(&true)
}

fn check_directory(directory: &Directory) {
    for extent in KINDS.into_iter().filter_map(|kind| directory.get(kind)) {
        let end = extent.offset.checked_add(extent.len).expect("an extent does not wrap");
        assert!(extent.offset >= HEADER_LEN as u64 && end <= map::BOOT_WINDOW_MAX);
    }
}

fn check_memory_map(ranges: &[MemoryRange]) {
    assert!(ranges.iter().all(|range| range.len > 0 && range.base.checked_add(range.len).is_some()));
    assert!(ranges.is_sorted_by(|a, b| a.base + a.len <= b.base));
    assert_eq!(decode_memory_map(&encode_memory_map(ranges)).as_deref(), Ok(ranges));
}

/// Longest payload that is unpacked: the claim is about the decoders, not about the time they take.
const MAX_UNPACKED: u32 = 1 << 20;
const COMMAND_LINE: &[u8] = b"console=ttyS0";

/// A kernel file: planned and, if compressed, unpacked. The input begins with the VM's memory (a byte, in 16 MiB) and
/// the length of the initial RAM disk (16 bits, in pages; 0: none). What follows is the file, and taken also as a
/// payload by itself. Answers whether it is a kernel that can be entered.
pub fn kernel(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let Some([ram, pages @ ..]) = script.array::<3>() else { return false };
    let file = script.rest();
    unpack(&Payload::new(file));
    let map = standard_memory_map((u64::from(ram) + 1) * 16 * map::MIB);
    let initrd = Some(u64::from(u16::from_be_bytes(pages)) * 4096).filter(|len| *len != 0);
    let Ok(plan) = plan(file, initrd, COMMAND_LINE, &map) else { return false };
    let copy = kernel_copy_at(file.len() as u64, &map).expect("planned");
    let (floor, ceiling) = low_ram(&map).expect("planned");
    let (start, end) = plan.kernel.extent();
    assert!(floor <= start && start < end && end <= plan.free_end && plan.free_end <= copy);
    assert!(copy + file.len() as u64 <= ceiling);
    if let (Some(at), Some(len)) = (plan.initrd_at, initrd) {
        assert!(plan.free_end <= at && at + len <= copy);
    }
    match &plan.kernel {
        Kernel::Elf(elf) => {
            check_segments(elf);
            true
        }
        Kernel::BzImage(image) => {
            check_places(&plan, unpacking(&plan, image), &image.payload);
            let Some(content) = unpack(&image.payload) else { return false };
            let Ok(elf) = Elf::parse(&content) else { return false };
            let Ok(entry) = check_unpacked(&elf, image) else { return false };
            check_segments(&elf);
            assert!((start..end).contains(&entry) && elf.extent().0 >= start && elf.extent().1 <= end);
            true
        }
    }
}

fn check_segments(elf: &Elf<'_>) {
    assert!(elf.segments.iter().all(|s| s.data.len() as u64 <= s.memory && s.memory > 0));
    assert!(elf.segments.is_sorted_by(|a, b| a.end() <= b.address));
}

fn check_places(plan: &Plan<'_>, unpacking: Unpacking, payload: &Payload<'_>) {
    if let Unpacking::Here { buffer, heap } = unpacking {
        assert!(payload.format() != Format::Other && heap >= map::MIB);
        assert!(heap + payload.heap_needed() <= buffer && buffer >= plan.kernel.extent().1);
        assert!(buffer + u64::from(payload.unpacked_len()) <= plan.free_end);
    }
}

fn unpack(payload: &Payload<'_>) -> Option<Vec<u8>> {
    let len = payload.unpacked_len();
    if len > MAX_UNPACKED {
        return None;
    }
    let mut out = vec![0; len as usize];
    payload.unpack(&mut out).ok().map(|()| out)
}
