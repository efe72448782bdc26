//! Where a kernel and its companions go, and what the kernel is told: known before anything is unpacked, from the
//! kernel file, the length of the initial RAM disk, the command line and the memory map alone.

use alloc::vec::Vec;

use bulla_boot_abi::map;
use bulla_boot_abi::window::MemoryRange;

pub use crate::error::PlanError;
use crate::kernel::{self, Kernel};
use crate::load;
use crate::memory::{below, low_ram};
use crate::params::{Facts, boot_params, start_info};

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 64-bit mode, `boot_params` in RSI.
    Linux64,
    /// 32-bit mode without paging, `hvm_start_info` in EBX.
    Pvh,
}

/// What the bootloader is going to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The kernel.
    pub kernel: Kernel<'a>,
    /// How it is entered.
    pub protocol: Protocol,
    /// What it is told: `boot_params`, or `hvm_start_info` with what it points at. This is measured.
    pub boot_params: Vec<u8>,
    /// Where that goes.
    pub boot_params_at: u64,
    /// Where the initial RAM disk goes, if there is one.
    pub initrd_at: Option<u64>,
    /// Everything from the kernel's end to here is free until the kernel runs.
    pub free_end: u64,
}

/// Where the bootloader keeps its copy of the kernel file: at the top of low RAM.
///
/// # Errors
/// [`PlanError::NoRoom`] or [`PlanError::NoMemory`].
pub fn kernel_copy_at(kernel_len: u64, memory_map: &[MemoryRange]) -> Result<u64, PlanError> {
    let (start, end) = low_ram(memory_map)?;
    below("kernel file", end, kernel_len, start)
}

/// Plans the boot of a kernel file.
///
/// # Errors
/// [`PlanError`]; the same one wherever the same inputs are planned.
pub fn plan<'a>(
    kernel: &'a [u8],
    initrd_len: Option<u64>,
    cmdline: &[u8],
    memory_map: &[MemoryRange],
) -> Result<Plan<'a>, PlanError> {
    let copy_at = kernel_copy_at(kernel.len() as u64, memory_map)?;
    let kernel = kernel::parse(kernel)?;
    let (cmdline_max, initrd_max) = match &kernel {
        Kernel::BzImage(image) => (image.cmdline_size as usize, u64::from(image.initrd_addr_max)),
        Kernel::Elf(_) => (map::CMDLINE_MAX, u64::from(u32::MAX)),
    };
    check_cmdline(cmdline, cmdline_max.min(map::CMDLINE_MAX))?;
    let (start, _) = low_ram(memory_map)?;
    let (kernel_start, kernel_end) = kernel.extent();
    if kernel_start < start || kernel_end > copy_at {
        let len = kernel_end.saturating_sub(kernel_start);
        return Err(PlanError::NoRoom { what: "kernel", at: kernel_start, len });
    }
    let mut free_end = copy_at;
    let mut initrd = None;
    if let Some(len) = initrd_len {
        let end = copy_at.min(initrd_max.saturating_add(1));
        let at = below("initrd", end, len, kernel_end)?;
        free_end = at;
        initrd = Some((at, len));
    }
    let protocol = match &kernel {
        Kernel::Elf(elf) => load::check_entry(elf)?,
        Kernel::BzImage(_) => Protocol::Linux64,
    };
    let facts = Facts { initrd, memory_map };
    let (boot_params, boot_params_at) = match (protocol, &kernel) {
        (Protocol::Pvh, _) => (start_info(&facts), map::PVH_INFO),
        (Protocol::Linux64, Kernel::Elf(_)) => (boot_params(None, &facts), map::ZERO_PAGE),
        (Protocol::Linux64, Kernel::BzImage(image)) => (boot_params(Some(image.setup_header), &facts), map::ZERO_PAGE),
    };
    Ok(Plan { kernel, protocol, boot_params, boot_params_at, initrd_at: initrd.map(|(at, _)| at), free_end })
}

fn check_cmdline(cmdline: &[u8], max: usize) -> Result<(), PlanError> {
    if cmdline.len() > max {
        return Err(PlanError::CommandLineLength { len: cmdline.len(), max });
    }
    if let Err(e) = core::str::from_utf8(cmdline) {
        return Err(PlanError::CommandLineText(e.valid_up_to()));
    }
    match cmdline.iter().position(|b| *b == 0) {
        Some(at) => Err(PlanError::CommandLineText(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ElfImage, bzimage, note};
    use bulla_boot_abi::map::MIB;
    use bulla_boot_abi::window::standard_memory_map;
    use proptest::prelude::*;

    #[test]
    fn the_initrd_lies_below_the_copy_of_the_kernel_and_above_the_kernel() {
        let file = bzimage(b"payload");
        let map = standard_memory_map(64 * MIB);
        let plan = plan(&file, Some(5000), b"quiet", &map).unwrap();
        let copy = kernel_copy_at(file.len() as u64, &map).unwrap();
        assert_eq!(copy, 64 * MIB - 4096);
        assert_eq!(plan.initrd_at, Some(copy - 8192));
        assert_eq!(plan.free_end, copy - 8192);
        assert_eq!((plan.protocol, plan.boot_params_at), (Protocol::Linux64, map::ZERO_PAGE));
    }

    #[test]
    fn the_initrd_stays_below_the_address_the_kernel_names() {
        let file = bzimage(b"payload");
        let plan = plan(&file, Some(4096), b"", &standard_memory_map(3 << 30)).unwrap();
        assert_eq!(plan.initrd_at, Some(0x7fff_f000));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let file = bzimage(b"payload");
        let no_room = |initrd, ram| match plan(&file, initrd, b"", &standard_memory_map(ram)) {
            Err(PlanError::NoRoom { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(no_room(None, 16 * MIB), "kernel");
        assert_eq!(no_room(Some(48 * MIB), 64 * MIB), "initrd");
        let low = ElfImage::new(0x1000).load(0x1000, &[0; 8], 8).build();
        let error = plan(&low, None, b"", &standard_memory_map(64 * MIB)).unwrap_err();
        assert_eq!(error, PlanError::NoRoom { what: "kernel", at: 0x1000, len: 8 });
        let map = [MemoryRange { base: MIB, len: 4096, kind: bulla_boot_abi::window::MemoryKind::Ram }];
        let error = plan(&bzimage(&[1; 5000]), None, b"", &map).unwrap_err();
        assert!(matches!(error, PlanError::NoRoom { what: "kernel file", .. }));
    }

    #[test]
    fn an_elf_with_the_note_is_entered_by_pvh_and_one_without_in_64_bit_mode() {
        let map = standard_memory_map(64 * MIB);
        let plain = ElfImage::new(0x20_0000).load(0x20_0000, &[0; 8], 8);
        let with_note = plain.clone().note(&note(b"Xen\0", 18, &0x20_0004_u32.to_le_bytes()));
        let plain = plain.build();
        assert_eq!(plan(&plain, None, b"", &map).unwrap().protocol, Protocol::Linux64);
        let with_note = with_note.build();
        let plan = plan(&with_note, None, b"", &map).unwrap();
        assert_eq!((plan.protocol, plan.boot_params_at), (Protocol::Pvh, map::PVH_INFO));
    }

    #[test]
    fn command_lines_that_a_kernel_would_cut_are_refused() {
        let file = bzimage(b"payload");
        let map = standard_memory_map(64 * MIB);
        let refused = |cmdline: &[u8]| plan(&file, None, cmdline, &map).unwrap_err();
        assert_eq!(refused(&[b'a'; 2048]), PlanError::CommandLineLength { len: 2048, max: 2047 });
        assert_eq!(refused(b"a\0b"), PlanError::CommandLineText(1));
        assert_eq!(refused(b"ab\xff"), PlanError::CommandLineText(2));
        assert!(plan(&file, None, &[b'a'; 2047], &map).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_placed_never_overlaps(
            ram in 16 * MIB..6 << 30,
            initrd in proptest::option::of(0u64..1 << 30),
            payload in 0usize..100_000,
        ) {
            let file = bzimage(&alloc::vec![1; payload]);
            let map = standard_memory_map(ram & !4095);
            if let Ok(plan) = plan(&file, initrd, b"x", &map) {
                let copy = kernel_copy_at(file.len() as u64, &map).unwrap();
                let (start, end) = plan.kernel.extent();
                prop_assert!(MIB <= start && end <= plan.free_end && plan.free_end <= copy);
                if let (Some(at), Some(len)) = (plan.initrd_at, initrd) {
                    prop_assert!(end <= at && at + len <= copy && at % 4096 == 0 && at + len <= 0x8000_0000);
                }
                prop_assert!(copy + file.len() as u64 <= low_ram(&map).unwrap().1);
            }
        }
    }
}
