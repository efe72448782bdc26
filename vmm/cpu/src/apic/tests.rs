//! The APIC as its owner and its guest see it.

use super::*;

const ID: u16 = 0x20;
const TPR: u16 = 0x80;
const PPR: u16 = 0xA0;
const EOI: u16 = 0xB0;
const LDR: u16 = 0xD0;
const DFR: u16 = 0xE0;
const SVR: u16 = 0xF0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ESR: u16 = 0x280;
const ICR: u16 = 0x300;
const ICR2: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
const LVT_LINT0: u16 = 0x350;
const LVT_LINT1: u16 = 0x360;
const LVT_ERROR: u16 = 0x370;
const INITIAL: u16 = 0x380;
const CURRENT: u16 = 0x390;
const DIVIDE: u16 = 0x3E0;
const BY_1: u32 = 0b1011;
const MASKED: u32 = 1 << 16;

fn raw(id: u32) -> Apic {
    Apic::new(Config { id, bootstrap: id == 0, x2apic: true, tsc_deadline: true, physical_bits: 40 })
}

/// Enabled by software.
fn apic(id: u32) -> Apic {
    let mut apic = raw(id);
    assert_eq!(write(&mut apic, SVR, 0x1FF), Effect::None);
    apic
}

fn x2apic(id: u32) -> Apic {
    let mut apic = apic(id);
    apic.set_base(apic.base() | BASE_X2APIC).unwrap();
    apic
}

fn read_at(apic: &mut Apic, offset: u16, now: u64) -> u32 {
    let mut data = [0xAA; 4];
    apic.mmio_read(offset, &mut data, now);
    u32::from_le_bytes(data)
}

fn read(apic: &mut Apic, offset: u16) -> u32 {
    read_at(apic, offset, 0)
}

fn write(apic: &mut Apic, offset: u16, value: u32) -> Effect {
    apic.mmio_write(offset, &value.to_le_bytes(), 0)
}

fn set(apic: &mut Apic, offset: u16, value: u32) {
    assert_eq!(write(apic, offset, value), Effect::None);
}

fn fixed(vector: u8) -> Message {
    Message { destination: Destination::All, delivery: Delivery::Fixed, vector, level: false }
}

fn msr(register: u16) -> u32 {
    MSR_X2APIC + u32::from(register >> 4)
}

#[test]
fn after_power_on_the_registers_are_those_of_the_manual() {
    let mut apic = raw(5);
    assert_eq!(apic.base(), 0xFEE0_0800);
    assert_eq!(raw(0).base(), 0xFEE0_0900);
    let expected = [
        (ID, 5 << 24),
        (0x30, 0x0005_0014),
        (TPR, 0),
        (LDR, 0),
        (DFR, u32::MAX),
        (SVR, 0xFF),
        (ESR, 0),
        (ICR, 0),
        (LVT_TIMER, MASKED),
        (LVT_LINT0, MASKED),
        (LVT_ERROR, MASKED),
        (INITIAL, 0),
        (CURRENT, 0),
        (DIVIDE, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(read(&mut apic, offset), value, "{offset:#x}");
    }
}

#[test]
fn interrupts_are_taken_by_priority_and_nest() {
    let mut apic = apic(0);
    for vector in [0x31, 0x52, 0x57] {
        assert_eq!(apic.receive(&fixed(vector)), None);
    }
    assert_eq!(apic.acknowledge(), 0x57);
    assert_eq!(read(&mut apic, PPR), 0x50);
    assert_eq!(apic.pending(), None, "0x52 is of the class in service");
    apic.receive(&fixed(0x61));
    assert_eq!(apic.acknowledge(), 0x61);
    assert_eq!(read(&mut apic, ISR + 0x20), 1 << 0x17);
    assert_eq!(read(&mut apic, ISR + 0x30), 1 << 1);
    assert_eq!(read(&mut apic, IRR + 0x10), 1 << 0x11);
    set(&mut apic, EOI, 0);
    assert_eq!(apic.pending(), None);
    set(&mut apic, EOI, 0);
    assert_eq!(apic.acknowledge(), 0x52);
    set(&mut apic, EOI, 0);
    assert_eq!(apic.acknowledge(), 0x31);
    set(&mut apic, EOI, 0);
    assert_eq!(apic.acknowledge(), 0xFF, "spurious");
    assert_eq!(read(&mut apic, ISR + 0x70), 0, "a spurious interrupt is not in service");
}

#[test]
fn the_task_priority_holds_back_its_class_and_those_below() {
    let mut apic = apic(0);
    apic.receive(&fixed(0x45));
    apic.set_cr8(4);
    assert_eq!((read(&mut apic, TPR), apic.pending()), (0x40, None));
    apic.set_cr8(3);
    assert_eq!(apic.pending(), Some(0x45));
    set(&mut apic, TPR, 0x4F);
    assert_eq!((apic.cr8(), read(&mut apic, PPR), apic.pending()), (4, 0x4F, None));
    set(&mut apic, TPR, 0);
    assert_eq!(apic.acknowledge(), 0x45);
    set(&mut apic, TPR, 0x2F);
    assert_eq!(read(&mut apic, PPR), 0x40);
}

#[test]
fn only_level_triggered_interrupts_report_their_end() {
    let mut apic = apic(0);
    apic.receive(&Message { level: true, ..fixed(0x41) });
    assert_eq!(read(&mut apic, TMR + 0x20), 1 << 1);
    apic.acknowledge();
    assert_eq!(write(&mut apic, EOI, 0), Effect::EndOfInterrupt(0x41));
    apic.receive(&fixed(0x41));
    assert_eq!(read(&mut apic, TMR + 0x20), 0);
    apic.acknowledge();
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
    assert_eq!(write(&mut apic, EOI, 0), Effect::None, "nothing in service");
}

#[test]
fn disabled_by_software_it_takes_nmi_and_init_only_and_masks_its_own_sources() {
    let mut apic = apic(0);
    set(&mut apic, LVT_TIMER, 0x40);
    set(&mut apic, SVR, 0xFF);
    assert_eq!(read(&mut apic, LVT_TIMER), 0x40 | MASKED);
    set(&mut apic, LVT_TIMER, 0x40);
    assert_eq!(read(&mut apic, LVT_TIMER), 0x40 | MASKED, "cannot be unmasked");
    apic.receive(&fixed(0x41));
    assert_eq!(apic.pending(), None);
    assert_eq!(apic.receive(&Message { delivery: Delivery::Nmi, ..fixed(0) }), Some(Event::Nmi));
    assert_eq!(apic.receive(&Message { delivery: Delivery::Init, ..fixed(0) }), Some(Event::Init));
    assert_eq!(apic.receive(&Message { delivery: Delivery::StartUp, ..fixed(9) }), Some(Event::StartUp(9)));
    set(&mut apic, SVR, 0x1FF);
    assert_eq!(apic.pending(), None, "was not remembered");
}

#[test]
fn errors_show_after_a_write_and_raise_their_interrupt_once() {
    let mut apic = apic(0);
    set(&mut apic, LVT_ERROR, 0x33);
    apic.receive(&fixed(3));
    assert_eq!(read(&mut apic, ESR), 0);
    assert_eq!(apic.acknowledge(), 0x33);
    apic.receive(&fixed(3));
    set(&mut apic, EOI, 0);
    assert_eq!(apic.pending(), None, "the same error again is no news");
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 1 << 6);
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0);
    // An IPI with an illegal vector does not leave.
    set(&mut apic, ICR, 0x4_400F);
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 1 << 5);
    read(&mut apic, 0x3F0);
    set(&mut apic, 0x40, 1);
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 1 << 7);
    // An error interrupt with an illegal vector is an error that nobody hears of.
    set(&mut apic, LVT_ERROR, 3);
    apic.receive(&fixed(3));
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 1 << 6);
}

#[test]
fn what_is_no_aligned_register_reads_zero_and_swallows_writes() {
    let mut apic = apic(0);
    for (offset, len) in [(SVR, 1), (SVR, 2), (SVR, 8), (SVR + 4, 4), (SVR + 2, 4), (0xFFC, 4)] {
        let mut data = vec![0xAA; len];
        apic.mmio_read(offset, &mut data, 0);
        assert_eq!(data, vec![0; len], "{offset:#x} {len}");
        assert_eq!(apic.mmio_write(offset, &vec![0; len], 0), Effect::None);
        assert_eq!(read(&mut apic, SVR), 0x1FF);
    }
    set(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0);
}

#[test]
fn a_periodic_timer_ticks_and_a_masked_one_only_counts() {
    let mut apic = apic(0);
    set(&mut apic, DIVIDE, BY_1);
    set(&mut apic, LVT_TIMER, 0x40 | 1 << 17);
    set(&mut apic, INITIAL, 1000);
    assert_eq!(apic.next_deadline(), Some(1000));
    assert_eq!(read_at(&mut apic, CURRENT, 400), 600);
    apic.advance(999);
    assert_eq!(apic.pending(), None);
    apic.advance(2500);
    assert_eq!((apic.acknowledge(), apic.next_deadline()), (0x40, Some(3000)));
    set(&mut apic, EOI, 0);
    assert_eq!(apic.mmio_write(LVT_TIMER, &(0x40 | 1 << 17 | MASKED).to_le_bytes(), 2600), Effect::None);
    assert_eq!(apic.next_deadline(), None);
    assert_eq!(read_at(&mut apic, CURRENT, 3300), 700);
    assert_eq!(apic.mmio_write(LVT_TIMER, &(0x40_u32 | 1 << 17).to_le_bytes(), 3900), Effect::None);
    assert_eq!((apic.pending(), apic.next_deadline()), (None, Some(4000)));
    assert_eq!(apic.mmio_write(INITIAL, &[0; 4], 3950), Effect::None);
    assert_eq!(apic.next_deadline(), None);
}

#[test]
fn the_deadline_works_in_its_mode_only_and_disarms_itself() {
    let mut apic = apic(0);
    apic.set_tsc_deadline(500, 0).unwrap();
    assert_eq!(apic.tsc_deadline(0), Ok(0), "another mode");
    set(&mut apic, LVT_TIMER, 0x40 | 2 << 17);
    set(&mut apic, INITIAL, 77);
    assert_eq!(read(&mut apic, INITIAL), 0);
    apic.set_tsc_deadline(500, 0).unwrap();
    assert_eq!((apic.tsc_deadline(499), apic.next_deadline()), (Ok(500), Some(500)));
    assert_eq!(apic.tsc_deadline(500), Ok(0));
    assert_eq!(apic.acknowledge(), 0x40);
    set(&mut apic, EOI, 0);
    apic.set_tsc_deadline(400, 600).unwrap();
    assert_eq!(apic.acknowledge(), 0x40, "one that has passed is due at once");
    apic.set_tsc_deadline(900, 600).unwrap();
    set(&mut apic, LVT_TIMER, 0x40);
    set(&mut apic, LVT_TIMER, 0x40 | 2 << 17);
    assert_eq!(apic.tsc_deadline(600), Ok(0), "a change of mode disarms");
    let mut without = Apic::new(Config { tsc_deadline: false, ..apic.config() });
    assert_eq!(without.set_tsc_deadline(1, 0), Err(Refused));
    assert_eq!(without.tsc_deadline(0), Err(Refused));
}

#[test]
fn modes_change_only_along_the_arrows_of_the_manual() {
    const XAPIC: u64 = DEFAULT_BASE | BASE_ENABLED;
    const X2APIC: u64 = XAPIC | BASE_X2APIC;
    const OFF: u64 = DEFAULT_BASE;
    let states = [OFF, XAPIC, X2APIC];
    let allowed = [(XAPIC, X2APIC), (XAPIC, OFF), (X2APIC, OFF), (OFF, XAPIC)];
    for from in states {
        for to in states {
            let mut apic = raw(1);
            for step in [XAPIC, from] {
                let _ = apic.set_base(step);
            }
            assert_eq!(apic.base(), from);
            let expected = if from == to || allowed.contains(&(from, to)) { Ok(()) } else { Err(Refused) };
            assert_eq!(apic.set_base(to), expected, "{from:#x} → {to:#x}");
        }
    }
    let mut apic = raw(0);
    for bad in [XAPIC | 1, XAPIC | 1 << 9, XAPIC | 1 << 40, DEFAULT_BASE | BASE_X2APIC] {
        assert_eq!(apic.set_base(bad), Err(Refused), "{bad:#x}");
    }
    let mut old = Apic::new(Config { x2apic: false, ..apic.config() });
    assert_eq!(old.set_base(X2APIC), Err(Refused));
    assert_eq!(apic.set_base(0x1234_5000 | BASE_ENABLED), Ok(()));
    assert!(apic.claims(0x1234_5FFF) && !apic.claims(0x1234_6000) && !apic.claims(DEFAULT_BASE));
}

#[test]
fn switched_off_it_forgets_and_takes_nothing() {
    let mut apic = apic(0);
    apic.receive(&fixed(0x41));
    apic.set_base(DEFAULT_BASE).unwrap();
    assert!(!apic.claims(DEFAULT_BASE));
    assert_eq!(apic.receive(&Message { delivery: Delivery::Nmi, ..fixed(0) }), None);
    apic.set_base(DEFAULT_BASE | BASE_ENABLED).unwrap();
    assert_eq!((read(&mut apic, SVR), apic.pending()), (0xFF, None));
}

#[test]
fn x2apic_registers_refuse_reserved_bits_and_wrong_directions() {
    let mut apic = x2apic(0x23);
    assert!(!apic.claims(DEFAULT_BASE));
    // Register, value that goes, value that is refused; `None`: read-only or write-only.
    let writes: [(u16, Option<u64>, Option<u64>); 14] = [
        (ID, None, Some(0)),
        (0x30, None, Some(0)),
        (TPR, Some(0xFF), Some(0x100)),
        (PPR, None, Some(0)),
        (EOI, Some(0), Some(1)),
        (LDR, None, Some(0)),
        (SVR, Some(0x1FF), Some(0x400)),
        (ISR, None, Some(0)),
        (ESR, Some(0), Some(1)),
        (LVT_TIMER, Some(0x6_1040), Some(0x100)),
        (LVT_LINT0, Some(0x1_F7FF), Some(1 << 17)),
        (LVT_ERROR, Some(0x1_10FF), Some(1 << 8)),
        (INITIAL, Some(0xFFFF_FFFF), Some(1 << 32)),
        (DIVIDE, Some(0xB), Some(4)),
    ];
    for (register, good, bad) in writes {
        if let Some(good) = good {
            assert_eq!(apic.msr_write(msr(register), good, 0), Ok(Effect::None), "{register:#x}");
        }
        if let Some(bad) = bad {
            assert_eq!(apic.msr_write(msr(register), bad, 0), Err(Refused), "{register:#x}");
        }
    }
    for register in [ID, 0x30, TPR, PPR, LDR, SVR, ISR, IRR + 0x70, ESR, ICR, LVT_LINT1, INITIAL, CURRENT, DIVIDE] {
        assert!(apic.msr_read(msr(register), 0).is_ok(), "{register:#x}");
    }
    // Write-only, xAPIC only, not there.
    for register in [EOI, 0x3F0, 0x90, 0xC0, DFR, ICR2, 0x0, 0x40, 0x290, 0x2F0, 0x3A0, 0x400, 0xFF0] {
        assert_eq!(apic.msr_read(msr(register), 0), Err(Refused), "{register:#x}");
    }
    for register in [0x90, 0xC0, DFR, ICR2, CURRENT, 0x2F0, 0x400] {
        assert_eq!(apic.msr_write(msr(register), 0, 0), Err(Refused), "{register:#x}");
    }
    for bit in [13, 16, 17, 20, 31] {
        assert_eq!(apic.msr_write(msr(ICR), 0x40 | 1 << bit, 0), Err(Refused), "{bit}");
    }
    assert_eq!(apic.msr_read(msr(ID), 0), Ok(0x23));
    assert_eq!(apic.msr_read(msr(LDR), 0), Ok(0x2_0008));
    let mut xapic = self::apic(0);
    assert_eq!(xapic.msr_read(msr(ID), 0), Err(Refused));
    assert_eq!(xapic.msr_write(msr(EOI), 0, 0), Err(Refused));
}

#[test]
fn an_ipi_goes_where_the_command_says() {
    let sent = |effect| match effect {
        Effect::Send(message) => message,
        other => panic!("{other:?}"),
    };
    let mut apic = apic(2);
    set(&mut apic, ICR2, 5 << 24);
    let message = Message { destination: Destination::Physical(5), ..fixed(0x41) };
    assert_eq!(sent(write(&mut apic, ICR, 0x4041)), message);
    let logical = Message { destination: Destination::Logical(5), delivery: Delivery::LowestPriority, ..message };
    assert_eq!(sent(write(&mut apic, ICR, 0x4941)), logical);
    assert_eq!(sent(write(&mut apic, ICR, 0x4_4041)).destination, Destination::Physical(2));
    assert_eq!(sent(write(&mut apic, ICR, 0x8_4041)).destination, Destination::All);
    assert_eq!(sent(write(&mut apic, ICR, 0xC_4041)).destination, Destination::AllBut(2));
    assert_eq!(sent(write(&mut apic, ICR, 0xC_4500)).delivery, Delivery::Init);
    assert_eq!(write(&mut apic, ICR, 0xC_8500), Effect::None, "INIT level de-assert");
    let start = sent(write(&mut apic, ICR, 0xC_4609));
    assert_eq!((start.delivery, start.vector), (Delivery::StartUp, 9));
    assert_eq!(read(&mut apic, ICR), 0xC_4609);
    set(&mut apic, ICR2, 0xFF << 24);
    assert_eq!(sent(write(&mut apic, ICR, 0x4041)).destination, Destination::All);

    let mut apic = x2apic(2);
    let mut send = |value| sent(apic.msr_write(msr(ICR), value, 0).unwrap()).destination;
    assert_eq!(send(0x1_2345_0000_4041), Destination::Physical(0x12345));
    assert_eq!(send(0xFF_0000_4041), Destination::Physical(0xFF));
    assert_eq!(send(0xFFFF_FFFF_0000_4041), Destination::All);
    assert_eq!(send(0x2_0001_0000_4841), Destination::Logical(0x20001));
    assert_eq!(apic.msr_read(msr(ICR), 0), Ok(0x2_0001_0000_4841));
    let own = sent(apic.msr_write(MSR_X2APIC + 0x3F, 0x77, 0).unwrap());
    assert_eq!((own.destination, own.vector), (Destination::Physical(2), 0x77));
}

#[test]
fn logical_destinations_follow_the_model() {
    let logical = |to| Message { destination: Destination::Logical(to), ..fixed(0x41) };
    let mut flat = apic(0);
    set(&mut flat, LDR, 0x04 << 24);
    assert!(flat.is_addressed_by(&logical(0x0C)));
    assert!(!flat.is_addressed_by(&logical(0x0B)));
    let mut cluster = apic(0);
    set(&mut cluster, LDR, 0x24 << 24);
    set(&mut cluster, DFR, 0);
    assert_eq!(read(&mut cluster, DFR), 0x0FFF_FFFF);
    assert!(cluster.is_addressed_by(&logical(0x2C)));
    assert!(!cluster.is_addressed_by(&logical(0x1C)));
    assert!(!cluster.is_addressed_by(&logical(0x23)));
    let x2 = x2apic(0x23);
    assert!(x2.is_addressed_by(&logical(0x2_0009)));
    assert!(!x2.is_addressed_by(&logical(0x2_0007)));
    assert!(!x2.is_addressed_by(&logical(0x1_0008)));
}

#[test]
fn lowest_priority_is_for_one_and_shorthands_are_for_many() {
    let (mut a, mut b, mut c) = (apic(0), apic(1), apic(2));
    a.set_cr8(5);
    c.set_cr8(2);
    set(&mut b, SVR, 0xFF);
    let mut events = Vec::new();
    let lowest = Message { delivery: Delivery::LowestPriority, ..fixed(0x61) };
    deliver(&lowest, &mut [&mut a, &mut b, &mut c], |place, event| events.push((place, event)));
    // b is of lower priority but takes no interrupts.
    assert_eq!((a.pending(), b.pending(), c.pending()), (None, None, Some(0x61)));
    let others = Message { destination: Destination::AllBut(1), delivery: Delivery::Nmi, ..fixed(0) };
    deliver(&others, &mut [&mut a, &mut b, &mut c], |place, event| events.push((place, event)));
    assert_eq!(events, [(0, Event::Nmi), (2, Event::Nmi)]);
}

#[test]
fn lint0_passes_an_8259_through_when_told_to() {
    let mut apic = apic(0);
    assert_eq!(apic.set_lint(0, true), None);
    assert!(!apic.ext_int(), "masked");
    set(&mut apic, LVT_LINT0, 7 << 8);
    assert!(apic.ext_int());
    apic.set_lint(0, false);
    assert!(!apic.ext_int());
    apic.set_lint(0, true);
    apic.set_base(DEFAULT_BASE).unwrap();
    assert!(apic.ext_int(), "without an APIC the pin is INTR");
    let mut apic = self::apic(0);
    set(&mut apic, LVT_LINT1, 4 << 8);
    assert_eq!(apic.set_lint(1, true), Some(Event::Nmi));
    assert_eq!(apic.set_lint(1, true), None, "no edge");
    set(&mut apic, LVT_LINT0, 0x44);
    apic.set_lint(0, true);
    assert_eq!(apic.pending(), Some(0x44));
    assert_eq!(apic.set_lint(2, true), None);
}

#[test]
fn a_saved_state_goes_on_at_another_time() {
    let mut one = apic(3);
    set(&mut one, DIVIDE, BY_1);
    set(&mut one, LVT_TIMER, 0x40 | 1 << 17);
    set(&mut one, INITIAL, 1000);
    one.receive(&Message { level: true, ..fixed(0x55) });
    one.acknowledge();
    one.receive(&fixed(0x77));
    let state = one.save(400);
    let mut two = raw(3);
    two.restore(&state, 1_000_000).unwrap();
    assert_eq!(two.next_deadline(), Some(1_000_600));
    assert_eq!(two.save(1_000_000), state);
    assert_eq!(two.acknowledge(), 0x77);
    set(&mut two, EOI, 0);
    assert_eq!(write(&mut two, EOI, 0), Effect::EndOfInterrupt(0x55));
}

#[test]
fn a_state_that_cannot_be_is_refused_by_name_and_changes_nothing() {
    let good = apic(0).save(0);
    let bad = [
        ("base", ApicState { base: 1, ..good.clone() }),
        ("ldr", ApicState { ldr: 1, ..good.clone() }),
        ("dfr", ApicState { dfr: 0, ..good.clone() }),
        ("svr", ApicState { svr: 1 << 12, ..good.clone() }),
        ("esr", ApicState { errors: 1 << 8, ..good.clone() }),
        ("isr", ApicState { isr: [1 << 15, 0, 0, 0], ..good.clone() }),
        ("tmr", ApicState { tmr: [1, 0, 0, 0], ..good.clone() }),
        ("irr", ApicState { irr: [1, 0, 0, 0], ..good.clone() }),
        ("icr", ApicState { icr: 1 << 31, ..good.clone() }),
        ("lvt", ApicState { lvt: [1 << 8, 0, 0, 0, 0, 0], ..good.clone() }),
        ("lvt", ApicState { svr: 0, lvt: [0; 6], ..good.clone() }),
        ("divide", ApicState { divide: 4, ..good.clone() }),
    ];
    let mut apic = apic(0);
    for (field, state) in bad {
        assert_eq!(apic.restore(&state, 0), Err(BadState { field }));
        assert_eq!(apic.save(0), good);
    }
    assert_eq!(apic.restore(&good, 0), Ok(()));
}

proptest::proptest! {
    /// No sequence of accesses panics, leads to a state that cannot be restored, or to an illegal vector.
    #[test]
    fn whatever_the_guest_does_the_state_stays_possible(
        accesses in proptest::collection::vec((0u16..0x1000, proptest::prelude::any::<u64>(), 0u8..6), 0..64),
    ) {
        let mut apic = apic(1);
        let mut now = 0u64;
        for (offset, value, kind) in accesses {
            now = now.saturating_add(value >> 40);
            match kind {
                0 => { let _ = apic.mmio_write(offset & 0xFF0, &(value as u32).to_le_bytes(), now); }
                1 => { apic.mmio_read(offset, &mut [0; 4], now); }
                2 => { let _ = apic.msr_write(MSR_X2APIC + u32::from(offset & 0xFF), value >> (offset >> 6), now); }
                3 => { let _ = apic.set_base(DEFAULT_BASE | value & (BASE_ENABLED | BASE_X2APIC)); }
                4 => {
                    if let Some(message) = (Msi { address: 0xFEE0_0000 | value >> 44, data: value as u32 }).message() {
                        apic.receive(&message);
                    }
                }
                _ => { apic.acknowledge(); }
            }
            apic.advance(now);
            proptest::prop_assert!(apic.pending().is_none_or(|vector| vector >= 16));
            let state = apic.save(now);
            proptest::prop_assert_eq!(raw(1).restore(&state, now), Ok(()));
        }
    }
}
