use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::device::BUFFER_LEN;
use super::regs::*;
use super::*;
use crate::devices::testing::TestLine;
use crate::devices::tpm::{TpmBackend, TpmBackendError};
use crate::devices::{Bus, MmioDevice, RestoreError, SaveRestore, lock};

const IRQ: u8 = 5;

/// What a TPM was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Command(u8, Vec<u8>),
    HashStart,
    HashData(Vec<u8>),
    HashEnd,
    ResetEstablished(u8),
}

/// Echoes: answers each command with a success response that carries the command's body.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<(Vec<Told>, bool)>>);

impl Echo {
    fn told(&self) -> Vec<Told> {
        lock(&self.0).0.clone()
    }

    fn tell(&self, what: Told) {
        lock(&self.0).0.push(what);
    }
}

fn message(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = tag.to_be_bytes().to_vec();
    out.extend((10 + body.len() as u32).to_be_bytes());
    out.extend(code.to_be_bytes());
    out.extend(body);
    out
}

impl TpmBackend for Echo {
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        self.tell(Told::Command(locality, command.to_vec()));
        Ok(message(0x8001, 0, &command[10..]))
    }
    fn established(&mut self) -> Result<bool, TpmBackendError> {
        Ok(lock(&self.0).1)
    }
    fn reset_established(&mut self, locality: u8) -> Result<(), TpmBackendError> {
        self.tell(Told::ResetEstablished(locality));
        lock(&self.0).1 = false;
        Ok(())
    }
    fn hash_start(&mut self) -> Result<(), TpmBackendError> {
        self.tell(Told::HashStart);
        lock(&self.0).1 = true;
        Ok(())
    }
    fn hash_data(&mut self, data: &[u8]) -> Result<(), TpmBackendError> {
        self.tell(Told::HashData(data.to_vec()));
        Ok(())
    }
    fn hash_end(&mut self) -> Result<(), TpmBackendError> {
        self.tell(Told::HashEnd);
        Ok(())
    }
}

/// Answers every command with the same.
struct Fixed(Result<Vec<u8>, &'static str>);

impl TpmBackend for Fixed {
    fn execute(&mut self, _: u8, _: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        self.0.clone().map_err(Into::into)
    }
}

/// The interface as a driver sees it.
struct Driver {
    tis: Tis,
    line: Arc<TestLine>,
    locality: u8,
}

impl Driver {
    fn with(backend: impl TpmBackend + 'static) -> Self {
        let line = TestLine::new();
        Self { tis: Tis::new(Box::new(backend), IRQ, line.clone()), line, locality: 0 }
    }

    fn at(&self, reg: u16) -> u64 {
        u64::from(self.locality) * LOCALITY_LEN + u64::from(reg)
    }

    fn read8(&mut self, reg: u16) -> u8 {
        let mut data = [0];
        self.tis.mmio_read(self.at(reg), &mut data);
        data[0]
    }

    fn write8(&mut self, reg: u16, value: u8) {
        self.tis.mmio_write(self.at(reg), &[value]);
    }

    fn read(&mut self, reg: u16) -> u32 {
        let mut data = [0; 4];
        self.tis.mmio_read(self.at(reg), &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, reg: u16, value: u32) {
        self.tis.mmio_write(self.at(reg), &value.to_le_bytes());
    }

    fn burst(&mut self) -> usize {
        (self.read(STS) >> STS_BURST_SHIFT & 0xFFFF) as usize
    }

    /// request_locality of Linux (drivers/char/tpm/tpm_tis_core.c), and the check that it got it.
    fn linux_begin(&mut self) {
        self.write8(ACCESS, ACCESS_REQUEST_USE);
        let have = self.read8(ACCESS);
        assert_eq!(have & (ACCESS_ACTIVE | ACCESS_VALID | ACCESS_REQUEST_USE), ACCESS_ACTIVE | ACCESS_VALID);
    }

    /// The status byte as Linux reads it: with one of these bits set it takes the TPM for broken.
    fn linux_status(&mut self) -> u8 {
        let status = self.read8(STS);
        assert_eq!(status & 0x23, 0, "bits that read as zero");
        status
    }

    /// tpm_tis_send and tpm_tis_recv.
    fn linux_transmit(&mut self, command: &[u8]) -> Vec<u8> {
        const READY: u8 = STS_COMMAND_READY as u8;
        const EXPECT: u8 = (STS_VALID | STS_EXPECT) as u8;
        const VALID: u8 = STS_VALID as u8;
        if self.linux_status() & READY == 0 {
            self.write8(STS, READY);
            assert_ne!(self.linux_status() & READY, 0);
        }
        let (last, rest) = command.split_last().unwrap();
        let mut sent = 0;
        while sent < rest.len() {
            let burst = self.burst().min(rest.len() - sent);
            assert!(burst > 0);
            for byte in &rest[sent..sent + burst] {
                self.write8(DATA_FIFO, *byte);
            }
            sent += burst;
            assert_eq!(self.linux_status() & EXPECT, EXPECT);
        }
        self.write8(DATA_FIFO, *last);
        assert_eq!(self.linux_status() & EXPECT, VALID);
        self.write8(STS, STS_GO as u8);
        let mut response = self.linux_receive(6);
        let size = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
        response.extend(self.linux_receive(size - 6));
        assert_eq!(self.linux_status() & STS_DATA_AVAIL as u8, 0, "no data left over");
        self.write8(STS, READY);
        response
    }

    fn linux_receive(&mut self, count: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < count {
            assert_ne!(self.linux_status() & STS_DATA_AVAIL as u8, 0);
            for _ in 0..self.burst().min(count - data.len()) {
                data.push(self.read8(DATA_FIFO));
            }
        }
        data
    }

    fn linux_end(&mut self) {
        self.write8(ACCESS, ACCESS_ACTIVE);
        assert_eq!(self.read8(ACCESS) & ACCESS_ACTIVE, 0);
    }

    fn ready(&mut self) {
        self.linux_begin();
        self.write(STS, STS_COMMAND_READY);
    }
}

fn get_random() -> Vec<u8> {
    message(0x8001, 0x17B, &[0, 32])
}

#[test]
fn linux_sequence() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.linux_begin();
    for n in 0..3_u8 {
        let body = vec![n; 600 * usize::from(n)];
        assert_eq!(driver.linux_transmit(&message(0x8001, 0x144, &body)), message(0x8001, 0, &body));
    }
    driver.linux_end();
    assert_eq!(backend.told().len(), 3);
}

#[test]
fn registers_after_power_on() {
    let mut driver = Driver::with(Echo::default());
    for locality in 0..LOCALITIES {
        driver.locality = locality;
        assert_eq!(driver.read8(ACCESS), ACCESS_VALID | ACCESS_NOT_ESTABLISHED);
        assert_eq!(driver.read(INTERFACE_ID), INTERFACE_ID_VALUE);
        assert_eq!(driver.read(INTERFACE_ID) & 0xFF, 0, "FIFO of PTP, version 0");
        assert_eq!(driver.read(INTF_CAPABILITY) >> 28 & 7, 3, "for TPM 2.0");
        assert_eq!((driver.read(DID_VID), driver.read8(RID)), (0x0001_0000, 1));
        assert_eq!((driver.read(INT_ENABLE), driver.read8(INT_VECTOR), driver.read(INT_STATUS)), (0, 0, 0));
        assert_eq!(driver.read(STS), u32::MAX, "for the locality that has the TPM alone");
        for reserved in [0x04, 0x1C, 0x20, DATA_FIFO, 0x28, 0x2C, 0x34, XDATA_FIFO, XDATA_FIFO_END, 0xEFC, 0xF08, 0xFFC]
        {
            assert_eq!(driver.read(reserved), u32::MAX, "{reserved:#x}");
        }
        for beside in [ACCESS + 1, ACCESS + 3, INT_VECTOR + 1, RID + 1] {
            assert_eq!(driver.read8(beside), 0xFF, "{beside:#x}");
        }
    }
}

#[test]
fn status_through_the_phases_of_a_command() {
    const ALWAYS: u32 = STS_FAMILY_2 | STS_VALID | STS_SELF_TEST_DONE;
    let mut driver = Driver::with(Echo::default());
    let flags = |driver: &mut Driver| driver.read(STS) & !(0xFFFF << STS_BURST_SHIFT);
    driver.linux_begin();
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS, 0), "Idle");
    driver.write(STS, STS_COMMAND_READY);
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS | STS_COMMAND_READY, BUFFER_LEN), "Ready");
    driver.write8(DATA_FIFO, 0x80);
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS | STS_EXPECT, BUFFER_LEN - 1), "Reception");
    for byte in &get_random()[1..] {
        driver.write8(DATA_FIFO, *byte);
    }
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS, 0), "all there");
    driver.write(STS, STS_GO);
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS | STS_DATA_AVAIL, 12), "Completion");
    for _ in 0..12 {
        let _ = driver.read8(DATA_FIFO);
    }
    assert_eq!((flags(&mut driver), driver.burst()), (ALWAYS, 0), "all read");
    assert_eq!(driver.read8(DATA_FIFO), 0xFF);
    driver.write(STS, STS_COMMAND_READY);
    assert_eq!(
        flags(&mut driver),
        ALWAYS | STS_COMMAND_READY,
        "Ready again, without a step through Idle that must be seen"
    );
}

#[test]
fn the_fifo_takes_accesses_of_all_sizes_at_all_its_addresses() {
    let body: Vec<u8> = (0..=255).collect();
    let command = message(0x8001, 1, &body);
    for at in [DATA_FIFO, DATA_FIFO + 1, DATA_FIFO + 3, XDATA_FIFO, XDATA_FIFO + 7, XDATA_FIFO + 32] {
        for size in [1, 2, 3, 4, 8, 16, 32] {
            let fits = if at < XDATA_FIFO { usize::from(DATA_FIFO + 4 - at) } else { 64 };
            if size > fits {
                continue;
            }
            let mut driver = Driver::with(Echo::default());
            driver.ready();
            for chunk in command.chunks(size) {
                driver.tis.mmio_write(driver.at(at), chunk);
            }
            driver.write(STS, STS_GO);
            let mut response = vec![0; command.len()];
            for chunk in response.chunks_mut(size) {
                driver.tis.mmio_read(driver.at(at), chunk);
            }
            assert_eq!(response, message(0x8001, 0, &body), "{size} bytes at {at:#x}");
        }
    }
}

#[test]
fn bytes_behind_a_command_are_not_taken() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.ready();
    let mut padded = get_random();
    padded.resize(16, 0xEE);
    driver.tis.mmio_write(driver.at(XDATA_FIFO), &padded);
    driver.write(STS, STS_GO);
    assert_eq!(backend.told(), [Told::Command(0, get_random())]);
}

#[test]
fn a_response_can_be_read_again() {
    let mut driver = Driver::with(Echo::default());
    driver.ready();
    driver.tis.mmio_write(driver.at(XDATA_FIFO), &get_random());
    driver.write(STS, STS_GO);
    let mut response = [0; 12];
    driver.tis.mmio_read(driver.at(XDATA_FIFO), &mut response);
    driver.write(STS, STS_RESPONSE_RETRY);
    assert_eq!(driver.burst(), 12);
    let mut again = [0; 12];
    driver.tis.mmio_read(driver.at(XDATA_FIFO), &mut again);
    assert_eq!(response, again);
}

#[test]
fn go_before_the_whole_command_and_out_of_turn_does_nothing() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.linux_begin();
    driver.write(STS, STS_GO);
    driver.write8(DATA_FIFO, 0x80);
    driver.write(STS, STS_COMMAND_READY | STS_GO);
    assert_eq!(driver.read(STS) & STS_COMMAND_READY, 0, "two at once mean nothing");
    driver.write(STS, STS_COMMAND_READY);
    driver.write(STS, STS_GO);
    for byte in &get_random()[..11] {
        driver.write8(DATA_FIFO, *byte);
        driver.write(STS, STS_GO);
        driver.write(STS, STS_RESPONSE_RETRY);
        driver.write(STS, STS_CANCEL);
    }
    // From other localities.
    driver.locality = 1;
    driver.write8(DATA_FIFO, 32);
    driver.write(STS, STS_GO);
    assert_eq!(driver.read8(DATA_FIFO), 0xFF);
    assert!(backend.told().is_empty());
    driver.locality = 0;
    driver.write8(DATA_FIFO, 32);
    driver.write(STS, STS_GO);
    assert_eq!(backend.told(), [Told::Command(0, get_random())]);
}

#[test]
fn commands_with_impossible_sizes_are_answered_without_the_backend() {
    for size in [0_u32, 1, 9, BUFFER_LEN as u32 + 1, 0x1_0000, u32::MAX] {
        let backend = Echo::default();
        let mut driver = Driver::with(backend.clone());
        driver.ready();
        let mut command = get_random();
        command[2..6].copy_from_slice(&size.to_be_bytes());
        for byte in command {
            driver.write8(DATA_FIFO, byte);
        }
        driver.write(STS, STS_GO);
        assert_eq!(driver.linux_receive(10), message(0x8001, 0x142, &[]), "size {size:#x}");
        assert!(backend.told().is_empty());
    }
}

#[test]
fn the_largest_command_goes_through_and_failures_are_told_by_a_response() {
    let mut driver = Driver::with(Echo::default());
    driver.linux_begin();
    let body = vec![0xA5; BUFFER_LEN - 10];
    assert_eq!(driver.linux_transmit(&message(0x8001, 1, &body)), message(0x8001, 0, &body));
    let too_long = message(0x8001, 0, &[0; BUFFER_LEN - 9]);
    for answer in [Err("gone"), Ok(vec![]), Ok(vec![0x80; 9]), Ok(too_long)] {
        let mut driver = Driver::with(Fixed(answer));
        driver.linux_begin();
        assert_eq!(driver.linux_transmit(&get_random()), message(0x8001, 0x101, &[]));
    }
}

#[test]
fn localities_wait_for_each_other_and_higher_ones_may_seize() {
    let mut driver = Driver::with(Echo::default());
    let access = |driver: &mut Driver, locality, value| {
        driver.locality = locality;
        driver.write8(ACCESS, value);
        (0..LOCALITIES).find(|l| {
            driver.locality = *l;
            driver.read8(ACCESS) & ACCESS_ACTIVE != 0
        })
    };
    assert_eq!(access(&mut driver, 0, ACCESS_REQUEST_USE), Some(0));
    assert_eq!(access(&mut driver, 1, ACCESS_REQUEST_USE), Some(0));
    assert_eq!(access(&mut driver, 3, ACCESS_REQUEST_USE), Some(0));
    driver.locality = 1;
    assert_eq!(driver.read8(ACCESS) & !1, ACCESS_VALID | ACCESS_REQUEST_USE | ACCESS_PENDING_REQUEST);
    // A request that is taken back is forgotten.
    assert_eq!(access(&mut driver, 2, ACCESS_REQUEST_USE), Some(0));
    assert_eq!(access(&mut driver, 2, ACCESS_ACTIVE), Some(0));
    assert_eq!(access(&mut driver, 0, ACCESS_ACTIVE), Some(3));
    assert_eq!(access(&mut driver, 3, ACCESS_ACTIVE), Some(1));
    assert_eq!(access(&mut driver, 0, ACCESS_SEIZE), Some(1), "a lower locality cannot seize");
    driver.locality = 1;
    driver.write(STS, STS_COMMAND_READY);
    driver.write8(DATA_FIFO, 0x80);
    assert_eq!(access(&mut driver, 2, ACCESS_SEIZE), Some(2));
    driver.locality = 2;
    assert_eq!(driver.read(STS) & (STS_COMMAND_READY | STS_EXPECT), 0, "what locality 1 wrote is gone");
    driver.locality = 1;
    assert_ne!(driver.read8(ACCESS) & ACCESS_BEEN_SEIZED, 0);
    driver.write8(ACCESS, ACCESS_BEEN_SEIZED);
    assert_eq!(driver.read8(ACCESS) & ACCESS_BEEN_SEIZED, 0);
    assert_eq!(access(&mut driver, 2, ACCESS_ACTIVE), None);
    assert_eq!(access(&mut driver, 3, ACCESS_SEIZE), Some(3), "nobody to take it from");
}

#[test]
fn the_backend_learns_the_locality() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.locality = 2;
    driver.linux_begin();
    driver.linux_transmit(&get_random());
    assert_eq!(backend.told(), [Told::Command(2, get_random())]);
}

#[test]
fn locality_4_and_its_hash_interface_are_out_of_reach_of_software() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.locality = 4;
    for value in [ACCESS_REQUEST_USE, ACCESS_SEIZE, 0xFF] {
        driver.write8(ACCESS, value);
        assert_eq!(driver.read8(ACCESS) & (ACCESS_ACTIVE | ACCESS_REQUEST_USE), 0);
    }
    for register in [HASH_START, HASH_DATA, HASH_END] {
        driver.write(register, 1);
    }
    assert!(backend.told().is_empty());
}

#[test]
fn an_open_hash_interface_launches_dynamically() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.tis = driver.tis.with_hash_interface();
    driver.ready();
    driver.write8(DATA_FIFO, 0x80);
    driver.locality = 4;
    driver.write(HASH_DATA, 1);
    driver.write(HASH_END, 1);
    assert!(backend.told().is_empty(), "not before the start");
    driver.write8(HASH_START, 0);
    assert_eq!(driver.read8(ACCESS), ACCESS_VALID | ACCESS_ACTIVE, "established, so the bit is clear");
    driver.write(HASH_DATA, 0x6463_6261);
    driver.write8(HASH_DATA, b'e');
    driver.locality = 0;
    assert_eq!(driver.read8(ACCESS), ACCESS_VALID | ACCESS_BEEN_SEIZED);
    driver.write8(ACCESS, ACCESS_REQUEST_USE);
    driver.locality = 4;
    driver.write8(HASH_END, 0);
    let hashed = [Told::HashStart, Told::HashData(b"abcd".to_vec()), Told::HashData(b"e".to_vec()), Told::HashEnd];
    assert_eq!(backend.told(), hashed);
    driver.locality = 0;
    assert_ne!(driver.read8(ACCESS) & ACCESS_ACTIVE, 0, "who waited has it");
    assert_eq!(driver.read(STS) & STS_EXPECT, 0, "the command of before is gone");
}

#[test]
fn the_mark_of_a_dynamic_launch_is_reset_from_locality_3_alone() {
    let backend = Echo::default();
    lock(&backend.0).1 = true;
    let mut driver = Driver::with(backend.clone());
    for locality in 0..4 {
        driver.locality = locality;
        assert_eq!(driver.read8(ACCESS) & ACCESS_NOT_ESTABLISHED, 0);
        driver.write(STS, STS_RESET_ESTABLISHMENT);
        assert!(backend.told().is_empty(), "without the TPM");
        driver.linux_begin();
        driver.write(STS, STS_RESET_ESTABLISHMENT);
        driver.linux_end();
    }
    assert_eq!(backend.told(), [Told::ResetEstablished(3)]);
    assert_eq!(driver.read8(ACCESS) & ACCESS_NOT_ESTABLISHED, ACCESS_NOT_ESTABLISHED);
}

#[test]
fn interrupts_come_for_what_was_asked_and_stay_until_cleared() {
    let mut driver = Driver::with(Echo::default());
    driver.linux_begin();
    driver.write8(INT_VECTOR, IRQ);
    driver.write(INT_ENABLE, INT_GLOBAL | INT_COMMAND_READY | INT_DATA_AVAIL);
    driver.write(STS, STS_COMMAND_READY);
    assert_eq!((driver.read(INT_STATUS), driver.line.is_high()), (INT_COMMAND_READY, true));
    driver.write(INT_STATUS, INT_COMMAND_READY);
    assert_eq!((driver.read(INT_STATUS), driver.line.is_high()), (0, false));
    driver.tis.mmio_write(driver.at(XDATA_FIFO), &get_random());
    driver.write(STS, STS_GO);
    assert_eq!((driver.read(INT_STATUS), driver.line.is_high()), (INT_DATA_AVAIL, true));
    // Another interrupt number has no wire.
    driver.write8(INT_VECTOR, IRQ + 1);
    assert!(!driver.line.is_high());
    driver.write8(INT_VECTOR, IRQ);
    assert!(driver.line.is_high());
    // Byte-wise writes leave the other bytes alone.
    driver.write8(INT_ENABLE, 0xFF);
    assert_eq!(driver.read(INT_ENABLE), INT_GLOBAL | INT_TYPE_POLARITY | INT_ALL);
    driver.write8(INT_ENABLE + 3, 0);
    assert_eq!(driver.read(INT_ENABLE), INT_TYPE_POLARITY | INT_ALL);
    assert!(!driver.line.is_high());
    driver.tis.reset();
    assert_eq!((driver.read(INT_ENABLE), driver.read(INT_STATUS)), (0, 0));
}

#[test]
fn a_command_survives_save_and_restore_in_every_phase() {
    let mut driver = Driver::with(Echo::default());
    driver.locality = 1;
    let mut states = vec![driver.tis.save()];
    driver.ready();
    driver.write8(INT_VECTOR, IRQ);
    driver.write(INT_ENABLE, INT_GLOBAL | INT_ALL);
    for byte in get_random() {
        states.push(driver.tis.save());
        driver.write8(DATA_FIFO, byte);
    }
    driver.write(STS, STS_GO);
    for _ in 0..12 {
        states.push(driver.tis.save());
        let _ = driver.read8(DATA_FIFO);
    }
    states.push(driver.tis.save());
    for state in states {
        let json = serde_json::to_string(&state).unwrap();
        let mut other = Driver::with(Echo::default());
        other.tis.restore(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(other.tis.save(), state);
        assert_eq!(other.line.is_high(), state.int_status != 0);
        other.tis.reset();
        assert_eq!(other.tis.save(), Driver::with(Echo::default()).tis.save());
        assert!(!other.line.is_high());
    }
}

#[test]
fn impossible_saved_states_are_refused() {
    let mut driver = Driver::with(Echo::default());
    driver.ready();
    let good = driver.tis.save();
    let command = TisState { phase: TisPhase::Reception, buffer: vec![0x80], ..good.clone() };
    let bad = [
        (TisState { active: Some(4), ..good.clone() }, "active"),
        (TisState { requested: 0x10, ..good.clone() }, "requested"),
        (TisState { seized: 0x20, ..good.clone() }, "seized"),
        (TisState { buffer: vec![0; 10], ..good.clone() }, "buffer"),
        (TisState { buffer: vec![], ..command.clone() }, "buffer"),
        (TisState { buffer: vec![0; BUFFER_LEN + 1], ..command.clone() }, "buffer"),
        (TisState { read: 1, ..command.clone() }, "read"),
        (TisState { phase: TisPhase::Completion, read: 2, ..command }, "read"),
        (TisState { int_enable: 1 << 8, ..good.clone() }, "int_enable"),
        (TisState { int_vector: 16, ..good.clone() }, "int_vector"),
        (TisState { int_status: 1 << 31, ..good.clone() }, "int_status"),
    ];
    for (state, field) in bad {
        let error = driver.tis.restore(&state).unwrap_err();
        assert_eq!(error, RestoreError::Invalid { device: "TPM FIFO interface", field });
    }
    let newer = TisState { version: 9, ..good.clone() };
    assert!(matches!(driver.tis.restore(&newer), Err(RestoreError::Version { found: 9, .. })));
    assert_eq!(driver.tis.save(), good);
}

proptest! {
    /// Whatever the guest does, the interface stays consistent and can be taken back into use.
    #[test]
    fn any_accesses_leave_a_usable_interface(
        accesses in proptest::collection::vec((0..0x5100_u64, 0..17_usize, any::<u64>(), any::<bool>()), 0..200)
    ) {
        const BASE: u64 = 0xFED4_0000;
        let tis = Driver::with(Echo::default()).tis.with_hash_interface();
        let tis = Arc::new(Mutex::new(tis));
        let mut bus = Bus::new();
        bus.add_mmio("tpm", BASE, 0x5000, tis.clone()).unwrap();
        for (offset, len, value, write) in accesses {
            // Mostly at registers.
            let offset = if offset & 1 == 0 { offset & 0x7_703F } else { offset };
            let mut data: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(len).collect();
            if write { bus.mmio_write(BASE + offset, &data) } else { bus.mmio_read(BASE + offset, &mut data) }
        }
        let mut driver = Driver::with(Echo::default());
        driver.tis = driver.tis.with_hash_interface();
        driver.tis.restore(&lock(&tis).save()).unwrap();
        driver.locality = 4;
        driver.write(HASH_END, 0);
        for locality in 0..LOCALITIES {
            driver.locality = locality;
            driver.write8(ACCESS, ACCESS_ACTIVE);
        }
        for locality in 0..LOCALITIES {
            driver.locality = locality;
            driver.write8(ACCESS, ACCESS_ACTIVE);
        }
        driver.locality = 0;
        driver.linux_begin();
        prop_assert_eq!(driver.linux_transmit(&get_random()), message(0x8001, 0, &[0, 32]));
        driver.linux_end();
    }
}
