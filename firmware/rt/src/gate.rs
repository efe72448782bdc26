//! What ring 0 does for CPL 3. None of it comes back.

use core::arch::asm;

/// The descriptor table a kernel starts with, to be written to [`bulla_boot_abi::map::BOOT_GDT`] before
/// [`enter_linux`] or [`enter_pvh`]: 0x10 code and 0x18 data as the 64-bit boot protocol has them, 0x20 32-bit code.
pub const BOOT_GDT: [u64; 5] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_9b00_0000_ffff];

const HALT: u32 = 1;
const ENTER_BOOTLOADER: u32 = 2;
const ENTER_LINUX: u32 = 3;
const ENTER_PVH: u32 = 4;

fn call(function: u32, entry: u64, argument: u64) -> ! {
    // SAFETY: int3 enters `ring0.s`, which never returns here; what is entered instead replaces this program.
    unsafe { asm!("int3", in("eax") function, in("rdi") entry, in("rsi") argument, options(noreturn)) }
}

/// Stops the vCPU for good.
pub fn halt() -> ! {
    call(HALT, 0, 0)
}

/// Makes the bootloader's text executable and enters it at CPL 3.
pub fn enter_bootloader(entry: u64) -> ! {
    call(ENTER_BOOTLOADER, entry, 0)
}

/// Enters a kernel at ring 0 by the 64-bit boot protocol, with `boot_params` in RSI.
pub fn enter_linux(entry: u64, boot_params: u64) -> ! {
    call(ENTER_LINUX, entry, boot_params)
}

/// Enters a kernel at ring 0 by the PVH protocol, with `start_info` in EBX.
pub fn enter_pvh(entry: u64, start_info: u64) -> ! {
    call(ENTER_PVH, entry, start_info)
}
