use std::sync::{Arc, Mutex};

use super::*;
use crate::devices::power::PowerEvent;
use crate::devices::testing::{TestClock, TestLine};
use crate::devices::{PioDevice, RestoreError, SaveRestore, lock};

struct Rig {
    pm: Pm,
    clock: Arc<TestClock>,
    sci: Arc<TestLine>,
    events: Arc<Mutex<Vec<PowerEvent>>>,
}

fn rig() -> Rig {
    let (clock, sci, events) = (TestClock::new(), TestLine::new(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&events);
    let pm = Pm::new(5, clock.clone(), sci.clone(), Arc::new(move |event| lock(&log).push(event)));
    Rig { pm, clock, sci, events }
}

fn read16(pm: &mut Pm, offset: u16) -> u16 {
    let mut data = [0; 2];
    pm.pio_read(offset, &mut data);
    u16::from_le_bytes(data)
}

fn read32(pm: &mut Pm, offset: u16) -> u32 {
    let mut data = [0; 4];
    pm.pio_read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn the_timer_runs_at_its_frequency_and_wraps() {
    let mut rig = rig();
    assert_eq!(read32(&mut rig.pm, 8), 0);
    rig.clock.set(1_000_000_000);
    assert_eq!(read32(&mut rig.pm, 8), 3_579_545);
    rig.clock.set(1_200 * 1_000_000_000);
    assert_eq!(read32(&mut rig.pm, 8), (1_200 * 3_579_545_u64) as u32);
    rig.pm.pio_write(8, &[0; 4]);
    assert_eq!(read32(&mut rig.pm, 8), (1_200 * 3_579_545_u64) as u32, "read-only");
}

#[test]
fn s5_powers_off_and_nothing_else_does() {
    let mut rig = rig();
    assert_eq!(read16(&mut rig.pm, 4), 1, "ACPI mode from the start");
    for sleep_type in (0..8_u16).filter(|t| *t != 5) {
        rig.pm.pio_write(4, &(sleep_type << 10 | 1 << 13).to_le_bytes());
    }
    // The way ACPICA does it: first the type, then the type with the enable bit.
    rig.pm.pio_write(4, &(5_u16 << 10).to_le_bytes());
    assert!(lock(&rig.events).is_empty());
    rig.pm.pio_write(4, &(5_u16 << 10 | 1 << 13).to_le_bytes());
    assert_eq!(*lock(&rig.events), [PowerEvent::PowerOff]);
    assert_eq!(read16(&mut rig.pm, 4), 5 << 10 | 1, "SLP_EN reads as zero");
    // The tenant's way, and byte-wise.
    rig.pm.pio_write(4, &bulla_boot_abi::port::PM1A_CNT_POWER_OFF.to_le_bytes());
    rig.pm.pio_write(5, &[(bulla_boot_abi::port::PM1A_CNT_POWER_OFF >> 8) as u8]);
    assert_eq!(lock(&rig.events).len(), 3);
}

#[test]
fn the_power_button_interrupts_if_enabled_until_cleared() {
    let mut rig = rig();
    rig.pm.press_power_button();
    assert!(!rig.sci.is_high());
    rig.pm.pio_write(2, &0x0100_u16.to_le_bytes());
    assert!(rig.sci.is_high());
    assert_eq!(read16(&mut rig.pm, 0), 0x0100);
    rig.pm.pio_write(0, &0xFEFF_u16.to_le_bytes());
    assert!(rig.sci.is_high(), "writing zero clears nothing");
    rig.pm.pio_write(1, &[1]);
    assert!(!rig.sci.is_high());
    assert_eq!(read32(&mut rig.pm, 0), 0x0100_0000);
}

#[test]
fn the_timer_carry_is_an_event() {
    let mut rig = rig();
    let carry = 599_933_560_000; // just after 2³¹ ticks
    rig.pm.pio_write(2, &1_u16.to_le_bytes());
    let deadline = rig.pm.next_deadline().unwrap();
    assert!((599_900_000_000..carry).contains(&deadline), "{deadline}");
    rig.pm.tick(deadline - 1);
    assert!(!rig.sci.is_high());
    rig.pm.tick(deadline);
    assert!(rig.sci.is_high());
    assert_eq!(rig.pm.next_deadline(), None);
    rig.clock.set(carry);
    rig.pm.pio_write(0, &1_u16.to_le_bytes());
    assert!(!rig.sci.is_high());
    assert_eq!(rig.pm.next_deadline().unwrap() / 1_000_000_000, 1199);
    // Not enabled: noticed at the next read of the status.
    rig.pm.pio_write(2, &0_u16.to_le_bytes());
    assert_eq!(rig.pm.next_deadline(), None);
    rig.clock.set(1_300_000_000_000);
    assert_eq!(read16(&mut rig.pm, 0), 1);
}

#[test]
fn undefined_bits_stay_clear() {
    let mut rig = rig();
    rig.pm.pio_write(0, &[0xFF; 4]);
    assert_eq!(read32(&mut rig.pm, 0), 0x0721_0000);
    rig.pm.pio_write(4, &[0xFF, 0]);
    assert_eq!(read32(&mut rig.pm, 4), 3);
}

#[test]
fn a_restored_block_goes_on_where_the_saved_one_was() {
    let mut rig = rig();
    rig.pm.pio_write(2, &0x0101_u16.to_le_bytes());
    rig.pm.press_power_button();
    let json = serde_json::to_string(&rig.pm.save()).unwrap();
    let mut other = self::rig();
    other.pm.restore(&serde_json::from_str(&json).unwrap()).unwrap();
    assert!(other.sci.is_high());
    assert_eq!(other.pm.save(), rig.pm.save());
    assert_eq!(other.pm.next_deadline(), rig.pm.next_deadline());
    other.pm.reset();
    assert!(!other.sci.is_high());
    assert_eq!(other.pm.save(), self::rig().pm.save());
}

#[test]
fn impossible_saved_states_are_refused() {
    let mut rig = rig();
    let good = rig.pm.save();
    for bad in [
        PmState { status: 2, ..good },
        PmState { enable: 2, ..good },
        PmState { control: 0, ..good },
        PmState { control: 1 << 13 | 1, ..good },
    ] {
        assert!(matches!(rig.pm.restore(&bad), Err(RestoreError::Invalid { .. })), "{bad:?}");
    }
    assert_eq!(rig.pm.save(), good);
}
