//! System instructions on tables full of noise: whatever happens, the processor goes on or shuts down, and never panics.

use proptest::prelude::*;

use super::*;

/// Openings of the instructions that read tables, stacks and selectors; operands follow as noise.
const OPENINGS: &[&[u8]] = &[
    &[0x8E],
    &[0x8C],
    &[0x0F, 0xA1],
    &[0x0F, 0xA9],
    &[0x07],
    &[0x17],
    &[0x1F],
    &[0x0F, 0xB2],
    &[0x0F, 0xB4],
    &[0xC5],
    &[0xEA],
    &[0x9A],
    &[0xFF],
    &[0x48, 0xFF],
    &[0xCB],
    &[0x48, 0xCB],
    &[0xCA],
    &[0xCF],
    &[0x48, 0xCF],
    &[0x66, 0xCF],
    &[0xCD],
    &[0xCC],
    &[0xF1],
    &[0xCE],
    &[0x0F, 0x05],
    &[0x48, 0x0F, 0x07],
    &[0x0F, 0x34],
    &[0x0F, 0x35],
    &[0x0F, 0x00],
    &[0x0F, 0x01],
    &[0x0F, 0x02],
    &[0x0F, 0x03],
    &[0x63],
    &[0x62],
    &[0x9C],
    &[0x9D],
    &[0xFA],
    &[0xFB],
    &[0x6C],
    &[0xF3, 0x6D],
    &[0xF2, 0x6E],
    &[0xE4],
    &[0xED],
    &[0xE7],
    &[0x0F, 0x20],
    &[0x0F, 0x21],
    &[0x0F, 0x22],
    &[0x0F, 0x23],
    &[0x0F, 0x30],
    &[0x0F, 0x32],
    &[0x0F, 0xA2],
    &[0x0F, 0x31],
    &[0x0F, 0xC7],
    &[0xF3, 0x0F, 0xAE],
    &[0x0F, 0xAE],
    &[0x66, 0x0F, 0x38, 0x82],
    &[0x0F, 0x18],
    &[0x0F, 0x1F],
    &[0x0F, 0x06],
    &[0xF4],
];
/// Numbers that mean something somewhere.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    8,
    0x10,
    0x33,
    0x70,
    0x80,
    0xB0,
    0xFFFC,
    0x1A0,
    0x277,
    0x800,
    0xC000_0080,
    0xC000_0100,
    GDT,
    IDT,
    TSS,
    DATA,
    HOLE - 1,
    KERNEL,
    STACK,
    1 << 31,
    0xFFFF_FFFF,
    1 << 47,
    0x7FFF_FFFF_FFFF,
    0xFFFF_8000_0000_0000,
    u64::MAX,
];

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![prop::sample::select(NUMBERS), any::<u64>(), (0..0x100_u64)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_in_tables_and_registers(
        kind in 0..5_u8,
        flags in any::<u64>(),
        regs in prop::collection::vec(number(), 16),
        tables in prop::collection::vec((0..0x100_u64, any::<u64>()), 0..24),
        gates in prop::collection::vec((0..0xFF9_u64, number()), 0..24),
        tss in prop::collection::vec((0..0x70_u64, number()), 0..12),
        stack in prop::collection::vec(number(), 10),
        limits in prop::collection::vec(prop_oneof![Just(0xFFFF_u16), any::<u16>()], 2),
        code in prop::collection::vec((prop::sample::select(OPENINGS), any::<[u8; 6]>()), 6),
    ) {
        let mut m = match kind {
            0 | 1 => Machine::long(),
            2 | 3 => Machine::protected(),
            _ => Machine::real(),
        };
        match kind {
            1 => { m.user64(); }
            3 => { m.user32(); }
            _ => {}
        }
        let sp = m.core().regs[reg::RSP];
        for (n, value) in regs.into_iter().enumerate().filter(|(n, _)| *n != reg::RSP) {
            m.core().regs[n] = value;
        }
        m.core().set_rflags(flags & !fl::VM);
        for (at, value) in tables {
            m.put(GDT + at, value);
        }
        for (at, value) in gates {
            m.put(IDT + at, value);
        }
        for (at, value) in tss {
            m.put(TSS + at, value);
        }
        let base = m.core().seg[seg::SS].base;
        for (n, value) in (0..).zip(stack) {
            m.put(base + sp + 8 * n, value);
        }
        (m.core().gdtr.limit, m.core().idtr.limit) = (limits[0], limits[1]);
        let bytes: Vec<u8> = code.into_iter().flat_map(|(opening, rest)| [opening, &rest[..]].concat()).collect();
        let at = m.core().seg[seg::CS].base + m.core().regs[reg::RIP];
        for (at, byte) in (at..).zip(bytes) {
            m.put(at, byte);
        }
        for _ in 0..8 {
            if m.core().halted || m.cpu.run_for(&mut m.ports, 16) == Some(Exit::Shutdown) {
                break;
            }
        }
        let core = m.core();
        // What the rest of the processor counts on.
        prop_assert!(core.cpl <= 3 && core.flags & fl::FIXED != 0 && core.flags & fl::ARITH == 0);
        let paging = core.cr0 & cr::CR0_PG != 0;
        prop_assert!(!paging || core.cr0 & cr::CR0_PE != 0);
        prop_assert_eq!(core.long_mode(), paging && core.efer & cr::EFER_LME != 0);
        prop_assert!(!core.long_mode() || core.cr4 & cr::CR4_PAE != 0);
        prop_assert!(Core::canonical(core.seg[seg::FS].base) && Core::canonical(core.msr.lstar));
    }
}
