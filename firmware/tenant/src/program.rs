//! The program.
//!
//! Unsafe rules of this module:
//! 1. Memory that only the boot loader wrote is taken once, in [`boot_facts`], read and never written.
//! 2. Memory shared with others (mailbox, channel window) is only ever accessed through `RawRegion`, that is atomically.
//!    Where the monitor has put no memory, accesses exit to it and read all ones; nothing of ours lies there.

extern crate alloc;

use core::fmt::Display;

use bulla_boot_abi::mailbox::{BenchKind, Reply, Request};
use bulla_boot_abi::progress::{Failure, Milestone};
use bulla_boot_abi::{map, port};
use bulla_channel::RawRegion;
use bulla_guest_rt::interface::{Interface, Registers};
use bulla_guest_rt::machine::{TpmRegisters, in8, out16, take_memory};
use bulla_guest_rt::{fail, gate, main, progress};
use bulla_tenant::boot::{self, BootError, BootFacts, Memory};
use bulla_tenant::mailbox::Mailbox;
use bulla_tenant::serve::{Machine, Tenant};
use bulla_tenant::tpm::Tpm;

/// Any register that has no side effect: TPM_INTERFACE_ID.
const QUIET_REGISTER: u16 = 0x30;
/// The third byte of the PM timer: 3.579545 MHz / 65536, a count each 18.3 ms (ACPI 6.5, 4.8.3.3).
const SLOW_TIMER: u16 = port::PM_TMR + 2;
/// Counts of [`SLOW_TIMER`] to wait for a peer: 10 s.
const PATIENCE: u32 = 546;
/// Rests between two looks at the timer, which is an exit. A rest is a few microseconds.
const RESTS_PER_LOOK: u32 = 256;

main!(tenant);

fn tenant(boot_params: u64) -> ! {
    let facts = or_fail(boot_facts(boot_params));
    let interface = or_fail(Interface::open(TpmRegisters::locality0()));
    let tpm = or_fail(Tpm::new(interface));
    let memory = or_fail(shared(map::MAILBOX_BASE, map::MAILBOX_SIZE).ok_or("no mailbox"));
    let mut mailbox = Mailbox::new(memory);
    let window = |size: usize| shared(map::CHANNEL_BASE, size as u64);
    let mut tenant = Tenant::new(tpm, facts, window, Guest::default());
    progress(Milestone::TenantReady);
    loop {
        match mailbox.poll() {
            Ok(None) => rest(),
            Ok(Some(request)) => {
                let last = request == Request::PowerOff;
                let reply = tenant.answer(request);
                mailbox.reply(&reply);
                progress(Milestone::TenantReplied);
                if last {
                    out16(port::PM1A_CNT, port::PM1A_CNT_POWER_OFF);
                    gate::halt();
                }
            }
            Err(error) => {
                mailbox.reply(&Reply::Failed { reason: alloc::format!("{error}") });
                progress(Milestone::TenantReplied);
            }
        }
    }
}

fn or_fail<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|why| fail(Failure::Tenant, &why))
}

fn boot_facts(boot_params: u64) -> Result<BootFacts, BootError> {
    // Page 0 is left out: no reference may be null.
    let areas = [
        (0x1000, map::CONVENTIONAL_END - 0x1000),
        (map::ACPI_BASE, map::ACPI_SIZE),
        (map::EVENT_LOG_BASE, u64::from(map::EVENT_LOG_SIZE)),
    ];
    let windows = areas.map(|(base, len)| {
        // SAFETY: rule 1; the program itself lies above 2 MiB.
        (base, &*unsafe { take_memory(base, len) })
    });
    boot::find(Memory::new(&windows), boot_params)
}

/// Memory shared with others. Only for addresses between low RAM and the devices.
fn shared(base: u64, len: u64) -> Option<RawRegion> {
    // SAFETY: rule 2; memory below 4 GiB is identity-mapped, readable and writable, for as long as the program runs.
    unsafe { RawRegion::new(base as *mut u8, len as usize) }
}

/// A pause of a few microseconds, without an exit.
fn rest() {
    for _ in 0..64 {
        core::hint::spin_loop();
    }
}

/// The machine under the tenant.
#[derive(Default)]
struct Guest {
    rests: u32,
    waited: u32,
    timer: u8,
}

impl Machine for Guest {
    fn start_waiting(&mut self) {
        *self = Self { rests: 0, waited: 0, timer: in8(SLOW_TIMER) };
    }

    fn keep_waiting(&mut self) -> bool {
        rest();
        self.rests = self.rests.wrapping_add(1);
        if self.rests.is_multiple_of(RESTS_PER_LOOK) {
            let now = in8(SLOW_TIMER);
            self.waited = self.waited.saturating_add(now.wrapping_sub(self.timer).into());
            self.timer = now;
        }
        self.waited < PATIENCE
    }

    fn exit(&mut self, kind: BenchKind) {
        match kind {
            BenchKind::Port => {
                in8(port::PM_TMR);
            }
            BenchKind::Mmio => {
                TpmRegisters::locality0().read32(QUIET_REGISTER);
            }
        }
    }
}
