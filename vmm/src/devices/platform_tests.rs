use proptest::prelude::*;

use super::*;
use crate::devices::Space;
use crate::devices::power::PowerEvent;
use crate::devices::testing::{TestClock, TestLine, TestSink, TestWriter};
use crate::devices::tpm::TpmBackendError;

/// Answers each command with TPM_RC_SUCCESS.
struct Obliging;

impl TpmBackend for Obliging {
    fn execute(&mut self, _: u8, _: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        Ok(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0])
    }
}

struct Rig {
    platform: Platform,
    clock: Arc<TestClock>,
    sink: Arc<TestSink>,
    ext_int: Arc<TestLine>,
    console: TestWriter,
    progress: Arc<Mutex<Vec<u32>>>,
    power: Arc<Mutex<Vec<PowerEvent>>>,
}

fn rig() -> Rig {
    rig_with(TpmInterface::Crb)
}

fn rig_with(tpm_interface: TpmInterface) -> Rig {
    let (clock, sink, ext_int, console) = (TestClock::new(), TestSink::new(), TestLine::new(), TestWriter::default());
    clock.set(1_000_000_000);
    clock.set_wall(1_795_363_200_000_000_000);
    let (progress, power) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (progress_log, power_log) = (Arc::clone(&progress), Arc::clone(&power));
    let platform = Platform::new(PlatformParts {
        clock: clock.clone(),
        irq_sink: sink.clone(),
        ext_int: ext_int.clone(),
        com1: Box::new(console.clone()),
        com2: Box::new(std::io::sink()),
        tpm: Box::new(Obliging),
        tpm_interface,
        progress: Box::new(move |value| lock(&progress_log).push(value)),
        power: Arc::new(move |event| lock(&power_log).push(event)),
    });
    Rig { platform: platform.unwrap(), clock, sink, ext_int, console, progress, power }
}

impl Rig {
    fn out(&self, port: u16, value: u8) {
        self.platform.bus().pio_write(port, &[value]);
    }

    /// Unmasks an I/O APIC pin with a vector.
    fn unmask(&self, pin: u32, entry: u32) {
        let bus = self.platform.bus();
        bus.mmio_write(map::IOAPIC_BASE, &(0x10 + 2 * pin).to_le_bytes());
        bus.mmio_write(map::IOAPIC_BASE + 0x10, &entry.to_le_bytes());
    }
}

#[test]
fn devices_are_where_the_boot_contract_puts_them() {
    let rig = rig();
    let find = |space, at: u64| {
        let hit = rig.platform.bus().ranges().find(|(s, r)| *s == space && (r.first..=r.last).contains(&at));
        hit.map(|(_, range)| (range.name, range.first))
    };
    assert_eq!(find(Space::Port, port::PROGRESS.into()), Some(("progress", port::PROGRESS.into())));
    assert_eq!(find(Space::Port, port::COM1.into()), Some(("COM1", port::COM1.into())));
    assert_eq!(find(Space::Port, port::COM2.into()), Some(("COM2", port::COM2.into())));
    assert_eq!(find(Space::Port, port::PM1A_CNT.into()), Some(("ACPI PM1a", port::PM1A_EVT.into())));
    assert_eq!(find(Space::Port, u64::from(port::PM_TMR) + 3), Some(("ACPI PM1a", port::PM1A_EVT.into())));
    assert_eq!(find(Space::Port, port::RESET_CONTROL.into()).unwrap().0, "reset control");
    assert_eq!(find(Space::Memory, map::TPM_BASE), Some(("TPM", map::TPM_BASE)));
    assert_eq!(find(Space::Memory, map::IOAPIC_BASE), Some(("IOAPIC", map::IOAPIC_BASE)));
    assert_eq!(find(Space::Port, 0x80), None, "the delay port is nobody's");
}

#[test]
fn the_firmwares_messages_arrive() {
    let rig = rig();
    rig.platform.bus().pio_write(port::PROGRESS, &0x1F_u32.to_le_bytes());
    assert_eq!(*lock(&rig.progress), [0x1F]);
    rig.platform.bus().pio_write(port::PM1A_CNT, &port::PM1A_CNT_POWER_OFF.to_le_bytes());
    rig.out(port::RESET_CONTROL, 6);
    rig.out(0x64, 0xFE);
    assert_eq!(*lock(&rig.power), [PowerEvent::PowerOff, PowerEvent::Reset, PowerEvent::Reset]);
    for byte in b"hello\n" {
        rig.out(port::COM1, *byte);
    }
    assert_eq!(rig.console.writes(), ["hello\n"]);
}

#[test]
fn interrupts_reach_both_controllers() {
    let rig = rig();
    rig.unmask(4, 0x34);
    rig.unmask(2, 0x32);
    // Console input.
    rig.out(port::COM1 + 1, 1);
    assert_eq!(rig.platform.console_input(b"x"), 1);
    assert_eq!(rig.sink.take_vectors(), [0x34]);
    assert!(rig.ext_int.is_high(), "the 8259 pair sees it too");
    // The timer is IRQ 0 on pin 2.
    rig.out(0x43, 0x34);
    rig.out(0x40, 0x00);
    rig.out(0x40, 0x10);
    let deadline = rig.platform.next_deadline().unwrap();
    rig.platform.tick(deadline);
    assert_eq!(rig.sink.take_vectors(), [0x32]);
    let vectors = [rig.platform.acknowledge_ext_int(), rig.platform.acknowledge_ext_int()];
    assert_eq!(vectors, [0, 7], "IRQ 0 first; IRQ 4 waits for its end, so the second is spurious");
}

#[test]
fn a_level_interrupt_stays_until_the_guest_has_served_it() {
    let rig = rig();
    rig.unmask(u32::from(SCI_IRQ), 0x39 | 1 << 15);
    rig.platform.bus().pio_write(port::PM1A_EVT + 2, &0x0100_u16.to_le_bytes());
    rig.platform.press_power_button();
    assert_eq!(rig.sink.take_vectors(), [0x39]);
    let mut io = &rig.platform;
    GuestIo::end_of_interrupt(&mut io, 0x39);
    assert_eq!(rig.sink.take_vectors(), [0x39]);
    GuestIo::pio_write(&mut io, port::PM1A_EVT, &0x0100_u16.to_le_bytes());
    GuestIo::end_of_interrupt(&mut io, 0x39);
    assert!(rig.sink.take_vectors().is_empty());
}

/// Values that guests could try at a register.
const VALUES: [u64; 4] = [0, u64::MAX, 0x0102_0304_0506_0708, 0x8001_0000_000C_0000];

#[test]
fn every_port_takes_every_size() {
    let rig = rig();
    let bus = rig.platform.bus();
    for port in 0..=0xFFFF_u16 {
        for len in 1..=8 {
            for value in VALUES {
                let mut data = value.to_le_bytes();
                bus.pio_write(port, &data[..len]);
                bus.pio_read(port, &mut data[..len]);
            }
        }
        rig.clock.advance(10_000);
        rig.platform.tick(1_000_000_000 + u64::from(port) * 10_000);
        rig.platform.next_deadline();
    }
    // All devices still work, and what they are in can be saved and taken back.
    let state = rig.platform.save();
    let other = self::rig();
    other.platform.restore(&state).unwrap();
    assert_eq!(other.platform.save(), state);
}

#[test]
fn every_mmio_register_takes_every_size() {
    for interface in [TpmInterface::Crb, TpmInterface::Tis] {
        every_register_takes_every_size_with(interface);
    }
}

fn every_register_takes_every_size_with(interface: TpmInterface) {
    let rig = rig_with(interface);
    let bus = rig.platform.bus();
    for (base, len) in [(map::TPM_BASE, map::TPM_SIZE), (map::IOAPIC_BASE, IOAPIC_LEN)] {
        // From before the device to behind it, in every state its registers bring it into.
        for gpa in base - 16..base + len + 16 {
            for size in (1..=8).chain([16, 17, 4096]) {
                let mut data = [0x5A; 4096];
                bus.mmio_read(gpa, &mut data[..size]);
                for value in VALUES {
                    data[..8].copy_from_slice(&value.to_le_bytes());
                    bus.mmio_write(gpa, &data[..size.min(64)]);
                }
            }
        }
    }
    let state = rig.platform.save();
    let other = rig_with(interface);
    other.platform.restore(&state).unwrap();
    assert_eq!(other.platform.save(), state);
}

#[test]
fn reset_brings_the_power_on_state_back() {
    let rig = rig();
    let fresh = rig.platform.save();
    rig.out(0x43, 0x34);
    rig.out(0x40, 1);
    rig.out(0x21, 0xFF);
    rig.out(port::COM1 + 1, 3);
    rig.unmask(4, 0x34);
    rig.platform.press_power_button();
    rig.platform.bus().mmio_write(map::TPM_BASE + 8, &1_u32.to_le_bytes());
    assert_ne!(rig.platform.save(), fresh);
    rig.platform.reset();
    assert_eq!(rig.platform.save(), fresh);
}

#[derive(Clone, Debug)]
enum Action {
    Pio(u16, usize, u64, bool),
    Mmio(u64, usize, u64, bool),
    Advance(u32),
    Eoi(u8),
    Input(Vec<u8>),
}

/// Ports with something behind them, mostly.
fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![
        0x18..0x24_u16,
        0x40..0x44_u16,
        0x60..0x65_u16,
        0x70..0x72_u16,
        0xA0..0xA2_u16,
        0x2F8..0x300_u16,
        0x3F8..0x400_u16,
        0x4D0..0x4D2_u16,
        0x600..0x60C_u16,
        0xB0E..0xB15_u16,
        0xCF8..0xCFC_u16,
        any::<u16>(),
    ]
}

fn any_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..5_u64, 0..0x90_u64).prop_map(|(locality, offset)| map::TPM_BASE + locality * 0x1000 + offset),
        (0..map::TPM_SIZE).prop_map(|offset| map::TPM_BASE + offset),
        (0..0x48_u64).prop_map(|offset| map::IOAPIC_BASE + offset),
        any::<u64>(),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    let value = prop_oneof![0..0x100_u64, any::<u64>()];
    prop_oneof![
        6 => (any_port(), 1..9_usize, value.clone(), any::<bool>()).prop_map(|(p, l, v, w)| Action::Pio(p, l, v, w)),
        6 => (any_address(), 1..9_usize, value, any::<bool>()).prop_map(|(a, l, v, w)| Action::Mmio(a, l, v, w)),
        1 => any::<u32>().prop_map(Action::Advance),
        1 => any::<u8>().prop_map(Action::Eoi),
        1 => proptest::collection::vec(any::<u8>(), 0..100).prop_map(Action::Input),
    ]
}

impl Rig {
    /// What the guest sees of an action.
    fn perform(&self, action: &Action) -> [u8; 8] {
        let bus = self.platform.bus();
        let mut data = [0; 8];
        match action {
            Action::Pio(port, len, value, true) => bus.pio_write(*port, &value.to_le_bytes()[..*len]),
            Action::Pio(port, len, _, false) => bus.pio_read(*port, &mut data[..*len]),
            Action::Mmio(gpa, len, value, true) => bus.mmio_write(*gpa, &value.to_le_bytes()[..*len]),
            Action::Mmio(gpa, len, _, false) => bus.mmio_read(*gpa, &mut data[..*len]),
            Action::Advance(ns) => {
                self.clock.advance((*ns).into());
                self.platform.tick(self.clock.now());
            }
            Action::Eoi(vector) => self.platform.end_of_interrupt(*vector),
            Action::Input(bytes) => _ = self.platform.console_input(bytes),
        }
        data
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any guest: nothing panics, and a machine restored in the middle goes on as the original does.
    #[test]
    fn a_restored_machine_behaves_like_the_original(
        before in proptest::collection::vec(any_action(), 0..120),
        after in proptest::collection::vec(any_action(), 0..120),
    ) {
        let original = rig();
        for action in &before {
            original.perform(action);
        }
        let state = original.platform.save();
        let json = serde_json::to_string(&state).unwrap();
        let restored = rig();
        restored.clock.set(original.clock.now());
        restored.clock.set_wall(original.clock.wall());
        restored.platform.restore(&serde_json::from_str(&json).unwrap()).unwrap();
        prop_assert_eq!(restored.platform.save(), state);
        prop_assert_eq!(restored.platform.next_deadline(), original.platform.next_deadline());
        original.sink.take_vectors();
        restored.sink.take_vectors();
        for action in &after {
            prop_assert_eq!(restored.perform(action), original.perform(action), "{:?}", action);
            prop_assert_eq!(restored.sink.take_vectors(), original.sink.take_vectors(), "{:?}", action);
            prop_assert_eq!(restored.ext_int.is_high(), original.ext_int.is_high(), "{:?}", action);
        }
        prop_assert_eq!(restored.platform.save(), original.platform.save());
    }
}
