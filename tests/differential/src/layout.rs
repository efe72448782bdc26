//! The address space both processors give the generated code.
//!
//! Everything lies below 2 GiB, so that absolute and 32-bit addresses reach it, and nothing else lies below 4 GiB, so
//! that what misses it by any displacement faults.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Code: readable, writable and executable, with nothing around it.
pub const CODE: u64 = 0x2000_0000;
/// Bytes of code.
pub const CODE_SIZE: u64 = 2 * PAGE;
/// Data: readable, writable, not executable, with nothing before it and the read-only page behind it.
pub const DATA: u64 = 0x2001_0000;
/// Bytes of writable data.
pub const DATA_SIZE: u64 = 2 * PAGE;
/// A readable page, with nothing behind it.
pub const READ_ONLY: u64 = DATA + DATA_SIZE;
/// What the generated code jumps to when it is through. The software processor has nothing there.
pub const THROUGH: u64 = 0x3000_0000;

/// Bytes of all pages: code, data, the read-only page, in this order.
pub const IMAGE_SIZE: usize = (CODE_SIZE + DATA_SIZE + PAGE) as usize;
/// Where data begin in the image.
pub const DATA_OFFSET: usize = CODE_SIZE as usize;
/// Where the read-only page begins in the image.
pub const READ_ONLY_OFFSET: usize = (CODE_SIZE + DATA_SIZE) as usize;

/// Where return addresses and pointers to code in the image's data point into: filled with INT3.
pub const TRAPS: u64 = CODE + 0x1400;
/// Bytes of that.
pub const TRAPS_SIZE: u64 = 0x400;

/// Place of an address in the image.
pub fn offset(address: u64) -> Option<usize> {
    let within = |base: u64, size: u64| address.checked_sub(base).filter(|o| *o < size).map(|o| o as usize);
    within(CODE, CODE_SIZE).or_else(|| within(DATA, DATA_SIZE + PAGE).map(|o| o + DATA_OFFSET))
}

/// Address of a place in the image.
pub fn address(offset: usize) -> u64 {
    if offset < DATA_OFFSET { CODE + offset as u64 } else { DATA + (offset - DATA_OFFSET) as u64 }
}
