//! Ports, device registers and physical memory.
//!
//! Unsafe rules of this module:
//! 1. All of the guest's code runs on one vCPU with interrupts off, so nothing else of ours runs at the same time.
//! 2. Memory that the host or a device may change is read and written with volatile accesses or in assembly, never
//!    through a reference.
//! 3. Ring 0 opens every port to CPL 3; port and register accesses cannot touch memory on this machine (no device
//!    that the firmware uses does DMA).

use core::arch::asm;

use bulla_boot_abi::map;

use crate::interface::{Registers, WIDE};

/// Writes a byte to a port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: rule 3.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 16 bits to a port.
pub fn out16(port: u16, value: u16) {
    // SAFETY: rule 3.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 32 bits to a port.
pub fn out32(port: u16, value: u32) {
    // SAFETY: rule 3.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from a port.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: rule 3.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Copies bytes out of the boot window into private memory, each byte once. `None` if they lie outside of it.
pub fn copy_from_window(offset: u64, to: &mut [u8]) -> Option<()> {
    let end = offset.checked_add(to.len() as u64)?;
    if end > map::BOOT_WINDOW_MAX {
        return None;
    }
    // SAFETY: the source lies inside the boot window, which holds no object of ours; the destination is a slice.
    // Assembly reads each byte once whatever the host does meanwhile: rule 2.
    unsafe {
        asm!("rep movsb", inout("rsi") map::BOOT_WINDOW_BASE + offset => _, inout("rdi") to.as_mut_ptr() => _,
             inout("rcx") to.len() => _, options(nostack, preserves_flags));
    }
    Some(())
}

/// Takes physical memory for the program's own use.
///
/// # Safety
/// The range must be RAM or firmware memory that the host does not write to, used by nothing else: not by the
/// program's image, heap or stacks, and not taken before.
pub unsafe fn take_memory(base: u64, len: u64) -> &'static mut [u8] {
    // SAFETY: memory is identity-mapped below 4 GiB; the caller vouches for the rest.
    unsafe { core::slice::from_raw_parts_mut(base as *mut u8, len as usize) }
}

/// The registers of the TPM's locality 0.
#[derive(Debug)]
pub struct TpmRegisters {
    _private: (),
}

impl TpmRegisters {
    /// The registers; there is only one user of them, as rule 1 says.
    pub fn locality0() -> Self {
        Self { _private: () }
    }

    fn at(offset: u16) -> u64 {
        map::TPM_BASE + u64::from(offset % 4096)
    }
}

impl Registers for TpmRegisters {
    fn read32(&mut self, offset: u16) -> u32 {
        // SAFETY: an address inside the register page, rules 2 and 3.
        unsafe { (Self::at(offset & !3) as *const u32).read_volatile() }
    }

    fn write32(&mut self, offset: u16, value: u32) {
        // SAFETY: an address inside the register page, rules 2 and 3.
        unsafe { (Self::at(offset & !3) as *mut u32).write_volatile(value) }
    }

    fn read_wide(&mut self, offset: u16) -> [u8; WIDE] {
        let mut value = [0; WIDE];
        // SAFETY: an address inside the register page, rules 2 and 3; `value` has room for the 16 bytes.
        unsafe {
            asm!("movups {wide}, [{from}]", "movups [{to}], {wide}", wide = out(xmm_reg) _,
                 from = in(reg) Self::at(offset & !15), to = in(reg) value.as_mut_ptr(),
                 options(nostack, preserves_flags));
        }
        value
    }

    fn write_wide(&mut self, offset: u16, value: [u8; WIDE]) {
        // SAFETY: an address inside the register page, rules 2 and 3; `value` has the 16 bytes.
        unsafe {
            asm!("movups {wide}, [{from}]", "movups [{to}], {wide}", wide = out(xmm_reg) _,
                 from = in(reg) value.as_ptr(), to = in(reg) Self::at(offset & !15),
                 options(nostack, preserves_flags));
        }
    }
}
