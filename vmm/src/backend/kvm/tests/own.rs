//! What only KVM does.

use super::guest::{CODE, Guest, NOTHING, STOP_CODE};
use crate::backend::kvm::probe::{Kind, Probe};
use crate::backend::kvm::{IDENTITY_MAP_BASE, TSS_BASE};
use crate::backend::{VcpuError, VcpuExit};

#[test]
fn running_where_no_memory_is_ends_in_an_error_that_names_the_place() {
    // mov ebx, 0xE0000000; jmp rbx
    let Some(mut guest) = Guest::new(&[0xBB, 0, 0, 0, 0xE0, 0xFF, 0xE3]) else { return };
    let error = guest.run().unwrap_err();
    assert!(matches!(error, VcpuError::CannotExecute { rip: NOTHING, .. }), "{error:?}");
    assert!(error.to_string().contains("0xe0000000"), "{error}");
}

#[test]
fn an_instruction_the_host_cannot_emulate_is_named_with_its_bytes() {
    const PXOR: [u8; 4] = [0x66, 0x0F, 0xEF, 0xC0]; // pxor xmm0, xmm0
    let Some(mut guest) = Guest::new(&[&[0x90][..], &PXOR, &STOP_CODE].concat()) else { return };
    if Probe::take().kind != Kind::DePrivileged {
        // A processor with hardware virtualization runs it, and that is right too.
        assert!(matches!(guest.run(), Ok(VcpuExit::Kicked)));
        return;
    }
    match guest.run().unwrap_err() {
        VcpuError::CannotExecute { rip, instruction, .. } => {
            assert_eq!(rip, CODE + 1);
            assert!(instruction.as_slice().starts_with(&PXOR), "{instruction}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn kvm_s_own_pages_lie_where_the_machine_has_nothing() {
    use bulla_boot_abi::map;
    let own = IDENTITY_MAP_BASE..TSS_BASE + 0x3000;
    let used = [
        (0, map::LOW_RAM_MAX),
        (map::CHANNEL_BASE, map::CHANNEL_MAX),
        (map::MAILBOX_BASE, map::MAILBOX_SIZE),
        (map::BOOT_WINDOW_BASE, map::BOOT_WINDOW_MAX),
        (map::IOAPIC_BASE, 0x1000),
        (map::TPM_BASE, map::TPM_SIZE),
        (map::LAPIC_BASE, 0x10_0000),
        (map::FIRMWARE_BASE, map::FIRMWARE_REGION_SIZE),
        (map::HIGH_RAM_BASE, u64::MAX - map::HIGH_RAM_BASE),
    ];
    for (base, len) in used {
        assert!(base >= own.end || base + len <= own.start, "{base:#x}");
    }
}
