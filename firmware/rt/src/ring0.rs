//! The assembly part: see `ring0.s`.

use bulla_boot_abi::map;

core::arch::global_asm!(
    include_str!("ring0.s"),
    firmware_base = const map::FIRMWARE_BASE,
    firmware_size = const map::FIRMWARE_SIZE,
    bootloader_base = const map::BOOTLOADER_BASE,
    bootloader_memory = const map::HANDOFF_BASE - map::BOOTLOADER_BASE,
    boot_stack = const map::BOOT_STACK_TOP,
    boot_gdt = const map::BOOT_GDT,
    boot_gdt_limit = const crate::gate::BOOT_GDT.len() * 8 - 1,
    kernel_base = const 0x20_0000_u64,
    options(att_syntax)
);

// `ring0.s` counts its pages from these.
const _: () = assert!(map::FIRMWARE_BASE.is_multiple_of(0x20_0000));
const _: () = assert!(map::FIRMWARE_SIZE == 256 * 4096);
const _: () = assert!(map::BOOTLOADER_BASE == map::FIRMWARE_BASE + map::FIRMWARE_SIZE);
const _: () = assert!(map::FIRMWARE_BASE + map::FIRMWARE_REGION_SIZE == 1 << 32);
