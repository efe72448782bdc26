use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::regs::*;
use super::*;
use crate::devices::tpm::{TpmBackend, TpmBackendError};
use crate::devices::{Bus, MmioDevice, RestoreError, SaveRestore, lock};

const BASE: u64 = 0xFED4_0000;

/// A locality and the command that came from it.
type Received = (u8, Vec<u8>);

/// Echoes: answers each command with a success response that carries the command's body.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<Received>>>);

fn message(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = tag.to_be_bytes().to_vec();
    out.extend((10 + body.len() as u32).to_be_bytes());
    out.extend(code.to_be_bytes());
    out.extend(body);
    out
}

impl TpmBackend for Echo {
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        lock(&self.0).push((locality, command.to_vec()));
        Ok(message(0x8001, 0, &command[10..]))
    }
}

/// Answers every command with the same.
struct Fixed(Result<Vec<u8>, &'static str>);

impl TpmBackend for Fixed {
    fn execute(&mut self, _: u8, _: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        self.0.clone().map_err(Into::into)
    }
}

/// The interface as a driver sees it: one locality, 32-bit accesses unless it says otherwise.
struct Driver {
    crb: Crb,
    locality: u8,
}

impl Driver {
    fn with(backend: impl TpmBackend + 'static) -> Self {
        Self { crb: Crb::new(BASE, Box::new(backend)), locality: 0 }
    }

    fn at(&self, reg: u16) -> u64 {
        u64::from(self.locality) * LOCALITY_LEN + u64::from(reg)
    }

    fn read(&mut self, reg: u16) -> u32 {
        let mut data = [0xFF; 4];
        self.crb.mmio_read(self.at(reg), &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, reg: u16, value: u32) {
        self.crb.mmio_write(self.at(reg), &value.to_le_bytes());
    }

    fn read_bytes(&mut self, offset: u16, len: usize, step: usize) -> Vec<u8> {
        let mut data = vec![0xFF; len];
        for (n, chunk) in data.chunks_mut(step).enumerate() {
            self.crb.mmio_read(self.at(offset) + (n * step) as u64, chunk);
        }
        data
    }

    fn write_bytes(&mut self, offset: u16, data: &[u8], step: usize) {
        for (n, chunk) in data.chunks(step).enumerate() {
            self.crb.mmio_write(self.at(offset) + (n * step) as u64, chunk);
        }
    }

    fn request(&mut self) {
        self.write(LOC_CTRL, LOC_CTRL_REQUEST);
    }

    /// What Linux 6.1 does (drivers/char/tpm/tpm_crb.c): request locality, cmdReady, copy with memcpy_toio, start,
    /// wait for start to clear, check the error bit, read 8 bytes of header, read the rest.
    fn linux_transmit(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        self.write(CTRL_CANCEL, 0);
        assert!(command.len() <= self.read(CMD_SIZE) as usize);
        self.write_bytes(DATA_BUFFER, command, 8);
        self.write(CTRL_START, START);
        assert_eq!(self.read(CTRL_START) & START, 0, "command completes");
        if self.read(CTRL_STS) & STS_ERROR != 0 {
            return None;
        }
        let mut response = self.read_bytes(DATA_BUFFER, 8, 8);
        let expected = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
        assert!((8..=self.read(RSP_SIZE) as usize).contains(&expected));
        response.extend(self.read_bytes(DATA_BUFFER + 8, expected - 8, 8));
        Some(response)
    }

    fn linux_begin(&mut self) {
        self.request();
        let wanted = LOC_STATE_ASSIGNED | LOC_STATE_VALID;
        assert_eq!(self.read(LOC_STATE) & wanted, wanted);
        self.write(CTRL_REQ, REQ_CMD_READY);
        assert_eq!(self.read(CTRL_REQ) & REQ_CMD_READY, 0);
    }

    fn linux_end(&mut self) {
        self.write(CTRL_REQ, REQ_GO_IDLE);
        assert_eq!(self.read(CTRL_REQ) & REQ_GO_IDLE, 0);
        self.write(LOC_CTRL, LOC_CTRL_RELINQUISH);
        assert_eq!(self.read(LOC_STATE) & (LOC_STATE_ASSIGNED | LOC_STATE_VALID), LOC_STATE_VALID);
    }

    /// What EDK2 does (SecurityPkg PtpCrbTpmCommand): byte-wise buffer accesses, writes of the address and size
    /// registers, one command between cmdReady and goIdle.
    fn edk2_command(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        self.write(CTRL_REQ, REQ_CMD_READY);
        assert_eq!(self.read(CTRL_REQ) & REQ_CMD_READY, 0);
        assert_eq!(self.read(CTRL_STS) & STS_IDLE, 0);
        self.write_bytes(DATA_BUFFER, command, 1);
        self.write(CMD_HADDR, 0);
        self.write(CMD_LADDR, (BASE + u64::from(DATA_BUFFER)) as u32);
        self.write(CMD_SIZE, DATA_BUFFER_LEN as u32);
        self.crb.mmio_write(self.at(RSP_LADDR), &(BASE + u64::from(DATA_BUFFER)).to_le_bytes());
        self.write(RSP_SIZE, DATA_BUFFER_LEN as u32);
        self.write(CTRL_START, START);
        assert_eq!(self.read(CTRL_START), 0);
        if self.read(CTRL_STS) & STS_ERROR != 0 {
            return None;
        }
        let header = self.read_bytes(DATA_BUFFER, 10, 1);
        let len = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize;
        let response = self.read_bytes(DATA_BUFFER, len, 1);
        self.write(CTRL_REQ, REQ_GO_IDLE);
        Some(response)
    }
}

fn get_random() -> Vec<u8> {
    message(0x8001, 0x17B, &[0, 32])
}

#[test]
fn linux_sequence() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    // The probe maps the buffers by what these registers say.
    driver.linux_begin();
    assert_eq!((driver.read(CMD_HADDR), driver.read(CMD_LADDR)), (0, 0xFED4_0080));
    assert_eq!((driver.read(RSP_HADDR), driver.read(RSP_LADDR)), (0, 0xFED4_0080));
    assert_eq!((driver.read(CMD_SIZE), driver.read(RSP_SIZE)), (0xF80, 0xF80));
    driver.linux_end();
    assert_eq!(driver.read(CTRL_STS), STS_IDLE);
    // Several commands between one cmdReady and goIdle, as tpm2_auto_startup sends them.
    driver.linux_begin();
    for n in 0..3_u8 {
        let body = vec![n; 200 * usize::from(n)];
        let response = driver.linux_transmit(&message(0x8001, 0x144, &body)).unwrap();
        assert_eq!(response, message(0x8001, 0, &body));
    }
    driver.linux_end();
    assert_eq!(lock(&backend.0).len(), 3);
    assert!(lock(&backend.0).iter().all(|(locality, _)| *locality == 0));
}

#[test]
fn edk2_sequence() {
    let mut driver = Driver::with(Echo::default());
    // Tpm2GetPtpInterface.
    let id = driver.read(INTF_ID);
    assert_eq!((id & 0xF, id >> 4 & 0xF), (1, 1), "CRB, version 1");
    assert_ne!(id & 1 << 14, 0, "CapCRB");
    assert_eq!(id & 1 << 9, 0, "no idle bypass: EDK2 then asks for cmdReady and goIdle itself");
    // PtpCrbRequestUseTpm.
    assert_ne!(driver.read(LOC_STATE) & LOC_STATE_VALID, 0);
    driver.request();
    assert_eq!(driver.read(LOC_STS), LOC_STS_GRANTED);
    for _ in 0..3 {
        let response = driver.edk2_command(&get_random()).unwrap();
        assert_eq!(response, message(0x8001, 0, &[0, 32]));
        assert_eq!(driver.read(CTRL_STS), STS_IDLE);
    }
}

#[test]
fn registers_after_power_on() {
    let mut driver = Driver::with(Echo::default());
    for locality in 0..LOCALITIES {
        driver.locality = locality;
        assert_eq!(driver.read(LOC_STATE), LOC_STATE_VALID | LOC_STATE_NOT_ESTABLISHED);
        assert_eq!(driver.read(LOC_STS), 0);
        assert_eq!(driver.read(INTF_ID), INTF_ID_VALUE);
        assert_eq!(driver.read(CTRL_STS), STS_IDLE);
        assert_eq!(driver.read(CMD_LADDR), 0xFED4_0080 + 0x1000 * u32::from(locality));
        for zero in
            [LOC_CTRL, INTF_ID_HIGH, CTRL_EXT, CTRL_REQ, CTRL_CANCEL, CTRL_START, INT_ENABLE, INT_STS, CMD_HADDR]
        {
            assert_eq!(driver.read(zero), 0, "{zero:#x}");
        }
        for reserved in [0x04, 0x10, 0x2C, 0x70, 0x7C, DATA_BUFFER] {
            assert_eq!(driver.read(reserved), u32::MAX, "{reserved:#x}");
        }
    }
}

#[test]
fn accesses_of_all_sizes_agree_with_bytes() {
    let mut driver = Driver::with(Echo::default());
    driver.linux_begin();
    driver.write_bytes(DATA_BUFFER, &(0..=255).collect::<Vec<u8>>(), 3);
    let bytes = driver.read_bytes(0, 0x1010, 1);
    for len in [1, 2, 3, 4, 5, 8, 16] {
        for at in 0..bytes.len() - len {
            assert_eq!(driver.read_bytes(at as u16, len, len), bytes[at..at + len], "{len} bytes at {at:#x}");
        }
    }
}

#[test]
fn byte_wise_register_writes_act_once() {
    // Windows writes the registers byte by byte.
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.write_bytes(LOC_CTRL, &LOC_CTRL_REQUEST.to_le_bytes(), 1);
    driver.write_bytes(CTRL_REQ, &REQ_CMD_READY.to_le_bytes(), 1);
    driver.write_bytes(DATA_BUFFER, &get_random(), 1);
    driver.write_bytes(CTRL_START, &START.to_le_bytes(), 1);
    assert_eq!(lock(&backend.0).len(), 1);
    // Bytes beside the cancel bit leave it alone.
    driver.write(CTRL_CANCEL, CANCEL);
    driver.write_bytes(CTRL_CANCEL + 1, &[0, 0, 0], 1);
    assert_eq!(driver.read(CTRL_CANCEL), CANCEL);
}

#[test]
fn one_write_may_straddle_registers_and_the_buffer() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.linux_begin();
    driver.write_bytes(DATA_BUFFER, &get_random(), 8);
    // CANCEL := 0 and START := 1 in one 64-bit write.
    driver.crb.mmio_write(CTRL_CANCEL.into(), &(u64::from(START) << 32).to_le_bytes());
    assert_eq!(lock(&backend.0).len(), 1);
    // Last reserved bytes before the buffer, first bytes in it.
    driver.crb.mmio_write(u64::from(DATA_BUFFER) - 3, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(driver.read_bytes(DATA_BUFFER, 5, 5), [4, 5, 6, 7, 8]);
    // The end of locality 0's buffer and the first register of locality 1.
    let mut data = [0xFF; 8];
    driver.crb.mmio_read(0xFFC, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0x83, 0, 0, 0]);
}

#[test]
fn nothing_happens_in_idle_or_without_the_locality() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    // Without locality.
    driver.write(CTRL_REQ, REQ_CMD_READY);
    assert_eq!(driver.read(CTRL_STS), STS_IDLE);
    // Idle.
    driver.request();
    driver.write_bytes(DATA_BUFFER, &get_random(), 4);
    assert_eq!(driver.read(DATA_BUFFER), 0);
    driver.write(CTRL_START, START);
    assert_eq!(driver.read_bytes(DATA_BUFFER, 16, 16), [0; 16], "not even an error response");
    // From another locality.
    driver.write(CTRL_REQ, REQ_CMD_READY);
    driver.write_bytes(DATA_BUFFER, &get_random(), 4);
    driver.locality = 1;
    assert_eq!(driver.read(DATA_BUFFER), u32::MAX);
    driver.write(DATA_BUFFER, 0);
    driver.write(CTRL_START, START);
    driver.write(CTRL_REQ, REQ_GO_IDLE);
    assert!(lock(&backend.0).is_empty());
    driver.locality = 0;
    assert_eq!(driver.read(CTRL_STS), 0);
    assert_eq!(driver.read(DATA_BUFFER), 0x0000_0180);
    // Both request bits at once are forbidden and change nothing.
    driver.write(CTRL_REQ, REQ_CMD_READY | REQ_GO_IDLE);
    assert_eq!(driver.read(CTRL_STS), 0);
}

#[test]
fn localities_wait_for_each_other_and_higher_ones_may_seize() {
    let mut driver = Driver::with(Echo::default());
    let ctrl = |driver: &mut Driver, locality, value| {
        driver.locality = locality;
        driver.write(LOC_CTRL, value);
        let active = driver.read(LOC_STATE);
        (active & LOC_STATE_ASSIGNED != 0).then_some(active >> LOC_STATE_ACTIVE_SHIFT & 7)
    };
    assert_eq!(ctrl(&mut driver, 0, LOC_CTRL_REQUEST), Some(0));
    assert_eq!(ctrl(&mut driver, 1, LOC_CTRL_REQUEST), Some(0));
    assert_eq!(ctrl(&mut driver, 3, LOC_CTRL_REQUEST), Some(0));
    assert_eq!(ctrl(&mut driver, 2, LOC_CTRL_REQUEST), Some(0));
    // A request that is taken back is forgotten.
    assert_eq!(ctrl(&mut driver, 2, LOC_CTRL_RELINQUISH), Some(0));
    assert_eq!(ctrl(&mut driver, 0, LOC_CTRL_RELINQUISH), Some(3));
    assert_eq!(ctrl(&mut driver, 3, LOC_CTRL_RELINQUISH), Some(1));
    assert_eq!(ctrl(&mut driver, 0, LOC_CTRL_SEIZE), Some(1), "a lower locality cannot seize");
    driver.locality = 1;
    driver.write(CTRL_REQ, REQ_CMD_READY);
    driver.write(DATA_BUFFER, 0x1234);
    assert_eq!(ctrl(&mut driver, 2, LOC_CTRL_SEIZE), Some(2));
    assert_eq!(driver.read(DATA_BUFFER), 0, "what locality 1 wrote is gone");
    assert_eq!(driver.read(LOC_STS), LOC_STS_GRANTED);
    driver.locality = 1;
    assert_eq!(driver.read(LOC_STS), LOC_STS_SEIZED);
    assert_eq!(ctrl(&mut driver, 1, LOC_CTRL_REQUEST), Some(2));
    assert_eq!(driver.read(LOC_STS), 0);
    assert_eq!(ctrl(&mut driver, 2, LOC_CTRL_RELINQUISH), Some(1));
    assert_eq!(ctrl(&mut driver, 1, LOC_CTRL_RELINQUISH), None);
}

#[test]
fn locality_4_is_out_of_reach_of_software() {
    let mut driver = Driver::with(Echo::default());
    driver.locality = 4;
    driver.write(LOC_CTRL, LOC_CTRL_REQUEST);
    driver.write(LOC_CTRL, LOC_CTRL_SEIZE);
    driver.write(LOC_CTRL, u32::MAX);
    assert_eq!(driver.read(LOC_STS), 0);
    assert_eq!(driver.read(LOC_STATE) & LOC_STATE_ASSIGNED, 0);
}

#[test]
fn the_backend_learns_the_locality() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.locality = 2;
    driver.linux_begin();
    driver.linux_transmit(&get_random()).unwrap();
    assert_eq!(*lock(&backend.0), [(2, get_random())]);
}

#[test]
fn a_command_with_an_impossible_size_is_answered_without_the_backend() {
    for size in [0_u32, 1, 9, 0xF81, 0x1_0000, u32::MAX] {
        let backend = Echo::default();
        let mut driver = Driver::with(backend.clone());
        driver.linux_begin();
        let mut command = get_random();
        command[2..6].copy_from_slice(&size.to_be_bytes());
        let response = driver.linux_transmit(&command).unwrap();
        assert_eq!(response, message(0x8001, 0x142, &[]), "size {size:#x}");
        assert!(lock(&backend.0).is_empty());
    }
}

#[test]
fn the_largest_command_goes_through() {
    let mut driver = Driver::with(Echo::default());
    driver.linux_begin();
    let body = vec![0xA5; DATA_BUFFER_LEN - 10];
    assert_eq!(driver.linux_transmit(&message(0x8001, 1, &body)).unwrap(), message(0x8001, 0, &body));
}

#[test]
fn a_command_started_with_cancel_set_is_cancelled() {
    let backend = Echo::default();
    let mut driver = Driver::with(backend.clone());
    driver.linux_begin();
    driver.write_bytes(DATA_BUFFER, &get_random(), 8);
    driver.write(CTRL_CANCEL, CANCEL);
    driver.write(CTRL_START, START);
    assert_eq!(driver.read_bytes(DATA_BUFFER, 10, 10), message(0x8001, 0x909, &[]));
    assert!(lock(&backend.0).is_empty());
}

#[test]
fn backend_failures_set_the_error_bit_until_the_next_command() {
    let too_long = message(0x8001, 0, &[0; DATA_BUFFER_LEN - 9]);
    let mut lying = message(0x8001, 0, &[1, 2, 3]);
    lying[5] = 200;
    let cases = [Err("gone"), Ok(vec![]), Ok(vec![0x80; 9]), Ok(lying), Ok(too_long)];
    for (n, answer) in cases.into_iter().enumerate() {
        let mut driver = Driver::with(Fixed(answer));
        driver.linux_begin();
        assert_eq!(driver.linux_transmit(&get_random()), None, "case {n}");
        assert_eq!(driver.read(CTRL_STS), STS_ERROR);
        assert_eq!(driver.read_bytes(DATA_BUFFER, DATA_BUFFER_LEN, 8), [0; DATA_BUFFER_LEN]);
        driver.write(CTRL_REQ, REQ_GO_IDLE);
        assert_eq!(driver.read(CTRL_STS), STS_ERROR | STS_IDLE);
        driver.write(CTRL_REQ, REQ_CMD_READY);
        assert_eq!(driver.read(CTRL_STS), 0);
    }
}

#[test]
fn the_buffer_is_wiped_on_idle() {
    let mut driver = Driver::with(Echo::default());
    driver.linux_begin();
    driver.linux_transmit(&message(0x8001, 1, &[0xA5; 500])).unwrap();
    driver.write(CTRL_REQ, REQ_GO_IDLE);
    assert_eq!(driver.read_bytes(DATA_BUFFER, DATA_BUFFER_LEN, 8), [0; DATA_BUFFER_LEN]);
}

#[test]
fn a_command_survives_save_and_restore_before_start() {
    let mut driver = Driver::with(Echo::default());
    driver.locality = 1;
    driver.linux_begin();
    driver.write_bytes(DATA_BUFFER, &get_random(), 8);
    let json = serde_json::to_string(&driver.crb.save()).unwrap();
    let mut other = Driver::with(Echo::default());
    other.locality = 1;
    other.crb.restore(&serde_json::from_str(&json).unwrap()).unwrap();
    other.write(CTRL_START, START);
    assert_eq!(other.read_bytes(DATA_BUFFER, 12, 4), message(0x8001, 0, &[0, 32]));
    other.crb.reset();
    assert_eq!(other.crb.save(), Driver::with(Echo::default()).crb.save());
}

#[test]
fn impossible_saved_states_are_refused() {
    let mut driver = Driver::with(Echo::default());
    let good = driver.crb.save();
    let bad = [
        (CrbState { active: Some(4), ..good.clone() }, "active"),
        (CrbState { requested: 0x10, ..good.clone() }, "requested"),
        (CrbState { seized: 0x20, ..good.clone() }, "seized"),
        (CrbState { buffer: vec![0; 10], ..good.clone() }, "buffer"),
    ];
    for (state, field) in bad {
        let error = driver.crb.restore(&state).unwrap_err();
        assert_eq!(error, RestoreError::Invalid { device: "TPM CRB interface", field });
    }
    let newer = CrbState { version: 9, ..good.clone() };
    assert!(matches!(driver.crb.restore(&newer), Err(RestoreError::Version { found: 9, .. })));
    assert_eq!(driver.crb.save(), good);
}

proptest! {
    /// Whatever the guest does, the interface stays consistent and can be taken back into use.
    #[test]
    fn any_accesses_leave_a_usable_interface(
        accesses in proptest::collection::vec((0..0x5100_u64, 0..17_usize, any::<u64>(), any::<bool>()), 0..200)
    ) {
        let crb = Arc::new(Mutex::new(Crb::new(BASE, Box::new(Echo::default()))));
        let mut bus = Bus::new();
        bus.add_mmio("tpm", BASE, 0x5000, crb.clone()).unwrap();
        for (offset, len, value, write) in accesses {
            // Mostly at registers.
            let offset = if offset & 1 == 0 { offset & 0x7_707F } else { offset };
            let mut data: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(len).collect();
            if write { bus.mmio_write(BASE + offset, &data) } else { bus.mmio_read(BASE + offset, &mut data) }
        }
        let mut driver = Driver::with(Echo::default());
        driver.crb.restore(&lock(&crb).save()).unwrap();
        for locality in 0..LOCALITIES {
            driver.locality = locality;
            driver.write(LOC_CTRL, LOC_CTRL_RELINQUISH);
        }
        driver.locality = 0;
        driver.linux_begin();
        prop_assert_eq!(driver.linux_transmit(&get_random()), Some(message(0x8001, 0, &[0, 32])));
        driver.linux_end();
    }
}

/// A TPM that remembers a dynamic launch, and who had the mark reset.
#[derive(Clone)]
struct Launched(Arc<Mutex<Option<u8>>>);

impl TpmBackend for Launched {
    fn execute(&mut self, _: u8, _: &[u8]) -> Result<Vec<u8>, TpmBackendError> {
        Err("not asked".into())
    }
    fn established(&mut self) -> Result<bool, TpmBackendError> {
        Ok(lock(&self.0).is_none())
    }
    fn reset_established(&mut self, locality: u8) -> Result<(), TpmBackendError> {
        *lock(&self.0) = Some(locality);
        Ok(())
    }
}

#[test]
fn the_mark_of_a_dynamic_launch_is_shown_and_reset_from_locality_3_alone() {
    let backend = Launched(Arc::default());
    let mut driver = Driver::with(backend.clone());
    for locality in 0..LOCALITIES {
        driver.locality = locality;
        assert_eq!(driver.read(LOC_STATE) & LOC_STATE_NOT_ESTABLISHED, 0);
        driver.write(LOC_CTRL, LOC_CTRL_RESET_ESTABLISHMENT);
        assert_eq!(*lock(&backend.0), None, "without the TPM");
        if locality == 3 {
            continue;
        }
        driver.request();
        driver.write(LOC_CTRL, LOC_CTRL_RESET_ESTABLISHMENT);
        driver.write(LOC_CTRL, LOC_CTRL_RELINQUISH);
        assert_eq!(*lock(&backend.0), None);
    }
    driver.locality = 3;
    driver.request();
    driver.write_bytes(LOC_CTRL, &LOC_CTRL_RESET_ESTABLISHMENT.to_le_bytes(), 1);
    assert_eq!(*lock(&backend.0), Some(3));
    assert_eq!(driver.read(LOC_STATE) & LOC_STATE_NOT_ESTABLISHED, LOC_STATE_NOT_ESTABLISHED);
}
