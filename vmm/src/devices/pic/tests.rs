use std::sync::{Arc, Mutex};

use super::*;
use crate::devices::testing::TestLine;
use crate::devices::{BytePorts, RestoreError, SaveRestore, Shared, lock};

struct Pc {
    pair: Shared<PicPair>,
    output: Arc<TestLine>,
    master: PicPorts,
    slave: PicPorts,
    elcr: PicPorts,
}

impl Pc {
    fn new() -> Self {
        let output = TestLine::new();
        let pair = Arc::new(Mutex::new(PicPair::new(output.clone())));
        let ports = |range| PicPorts::new(pair.clone(), range);
        Self {
            output,
            master: ports(PicRange::Master),
            slave: ports(PicRange::Slave),
            elcr: ports(PicRange::Elcr),
            pair,
        }
    }

    /// What Linux's init_8259A does, with all inputs unmasked in the end.
    fn initialised() -> Self {
        let mut pc = Self::new();
        for (chip, base, icw3) in [(&mut pc.master, 0x30, 4), (&mut pc.slave, 0x38, 2)] {
            chip.write_port(1, 0xFF);
            chip.write_port(0, 0x11);
            chip.write_port(1, base);
            chip.write_port(1, icw3);
            chip.write_port(1, 1);
            chip.write_port(1, 0);
        }
        pc
    }

    fn irq(&self, irq: u8, high: bool) {
        lock(&self.pair).set_irq(irq, high);
    }

    fn ack(&self) -> u8 {
        lock(&self.pair).acknowledge()
    }
}

#[test]
fn linux_probe_finds_the_pair() {
    // probe_8259A: mask the slave, write the master's mask, read it back.
    let mut pc = Pc::new();
    pc.slave.write_port(1, 0xFF);
    pc.master.write_port(1, 0xFB);
    assert_eq!(pc.master.read_port(1), 0xFB);
    assert_eq!(pc.slave.read_port(1), 0xFF);
    assert_eq!(pc.master.read_port(2), 0xFF);
}

#[test]
fn an_edge_is_delivered_once_and_held_until_acknowledged() {
    let mut pc = Pc::initialised();
    pc.irq(4, true);
    assert!(pc.output.is_high());
    pc.irq(4, false);
    assert!(pc.output.is_high(), "the edge is latched");
    assert_eq!(pc.master.read_port(0), 0x10, "IRR");
    assert_eq!(pc.ack(), 0x34);
    assert!(!pc.output.is_high());
    pc.master.write_port(0, 0x0B);
    assert_eq!(pc.master.read_port(0), 0x10, "ISR");
    pc.irq(4, true);
    assert!(!pc.output.is_high(), "in service");
    pc.master.write_port(0, 0x20);
    assert!(pc.output.is_high());
}

#[test]
fn priorities_and_specific_end_of_interrupt() {
    let mut pc = Pc::initialised();
    pc.irq(5, true);
    assert_eq!(pc.ack(), 0x35);
    pc.irq(6, true);
    assert!(!pc.output.is_high(), "lower priority waits");
    pc.irq(1, true);
    assert_eq!(pc.ack(), 0x31, "higher priority interrupts");
    pc.master.write_port(0, 0x65);
    assert!(!pc.output.is_high(), "1 is still in service");
    pc.master.write_port(0, 0x61);
    assert_eq!(pc.ack(), 0x36);
    // Rotation: after a rotating EOI of 6, 7 has the highest priority and 0 the second.
    pc.master.write_port(0, 0xE6);
    pc.irq(0, true);
    pc.irq(7, true);
    assert_eq!(pc.ack(), 0x37);
}

#[test]
fn the_slave_comes_through_the_cascade() {
    let mut pc = Pc::initialised();
    pc.irq(8, true);
    pc.irq(12, true);
    assert_eq!(pc.ack(), 0x38);
    assert!(!pc.output.is_high());
    pc.slave.write_port(0, 0x20);
    assert!(!pc.output.is_high(), "the master's input 2 is in service");
    pc.master.write_port(0, 0x20);
    assert_eq!(pc.ack(), 0x3C);
    // Masked at the slave.
    pc.slave.write_port(1, 0x80);
    pc.slave.write_port(0, 0x20);
    pc.master.write_port(0, 0x20);
    pc.irq(15, true);
    assert!(!pc.output.is_high());
    pc.slave.write_port(1, 0);
    assert!(pc.output.is_high());
    // The cascade itself is no interrupt request of a device.
    assert_eq!(pc.ack(), 0x3F);
    pc.slave.write_port(0, 0x20);
    pc.master.write_port(0, 0x20);
    pc.irq(2, true);
    pc.irq(16, true);
    pc.irq(255, true);
    assert!(!pc.output.is_high());
}

#[test]
fn automatic_end_of_interrupt_delivers_all_that_waits() {
    let mut pc = Pc::initialised();
    for chip in [&mut pc.master, &mut pc.slave] {
        chip.write_port(0, 0x11);
        chip.write_port(1, 0x30);
        chip.write_port(1, 0);
        chip.write_port(1, 3);
    }
    pc.irq(9, true);
    pc.irq(10, true);
    assert_eq!([pc.ack(), pc.ack()], [0x31, 0x32]);
    assert!(!pc.output.is_high());
}

#[test]
fn a_request_that_goes_away_is_a_spurious_interrupt() {
    let mut pc = Pc::initialised();
    pc.elcr.write_port(0, 0x20);
    pc.irq(5, true);
    assert!(pc.output.is_high());
    pc.irq(5, false);
    assert!(!pc.output.is_high());
    assert_eq!(pc.ack(), 0x37);
    pc.master.write_port(0, 0x0B);
    assert_eq!(pc.master.read_port(0), 0, "nothing is in service");
}

#[test]
fn level_triggered_requests_come_back() {
    let mut pc = Pc::initialised();
    pc.elcr.write_port(1, 0xFF);
    assert_eq!(pc.elcr.read_port(1), 0xDE, "some inputs are edge-triggered for ever");
    pc.elcr.write_port(0, 0xFF);
    assert_eq!(pc.elcr.read_port(0), 0xF8);
    pc.irq(9, true);
    assert_eq!(pc.ack(), 0x39);
    pc.slave.write_port(0, 0x20);
    pc.master.write_port(0, 0x20);
    assert_eq!(pc.ack(), 0x39, "still high");
    pc.irq(9, false);
    pc.slave.write_port(0, 0x20);
    pc.master.write_port(0, 0x20);
    assert!(!pc.output.is_high());
}

#[test]
fn poll_acknowledges() {
    let mut pc = Pc::initialised();
    pc.master.write_port(0, 0x0C);
    assert_eq!(pc.master.read_port(0), 0);
    pc.irq(3, true);
    pc.master.write_port(0, 0x0C);
    assert_eq!(pc.master.read_port(0), 0x83);
    assert!(!pc.output.is_high());
    assert_eq!(pc.master.read_port(0), 0, "IRR again");
}

#[test]
fn special_mask_mode_lets_lower_priorities_through() {
    let mut pc = Pc::initialised();
    pc.irq(1, true);
    assert_eq!(pc.ack(), 0x31);
    pc.irq(4, true);
    assert!(!pc.output.is_high());
    pc.master.write_port(0, 0x68);
    pc.master.write_port(1, 0x02);
    assert_eq!(pc.ack(), 0x34);
    pc.master.write_port(0, 0x48);
    pc.irq(5, true);
    assert!(!pc.output.is_high());
}

#[test]
fn a_restored_pair_goes_on_where_the_saved_one_was() {
    let mut pc = Pc::initialised();
    pc.irq(12, true);
    pc.irq(5, true);
    assert_eq!(pc.ack(), 0x3C);
    pc.master.write_port(0, 0x11);
    let json = serde_json::to_string(&lock(&pc.pair).save()).unwrap();
    let mut other = Pc::new();
    lock(&other.pair).restore(&serde_json::from_str(&json).unwrap()).unwrap();
    for pc in [&mut pc, &mut other] {
        for icw in [0x40, 4, 1] {
            pc.master.write_port(1, icw);
        }
        pc.irq(6, true);
        assert_eq!(pc.ack(), 0x46);
    }
    assert_eq!(lock(&pc.pair).save(), lock(&other.pair).save());
}

#[test]
fn impossible_saved_states_are_refused() {
    let pc = Pc::initialised();
    let good = lock(&pc.pair).save();
    let master = good.master;
    let bad = [
        ChipState { next_icw: 1, ..master },
        ChipState { next_icw: 5, ..master },
        ChipState { lowest_priority: 8, ..master },
        ChipState { vector_base: 1, ..master },
        ChipState { elcr: 1, ..master },
    ];
    for master in bad {
        let error = lock(&pc.pair).restore(&PicState { master, ..good }).unwrap_err();
        assert!(matches!(error, RestoreError::Invalid { device: "8259A pair", .. }));
    }
    assert_eq!(lock(&pc.pair).save(), good);
}
