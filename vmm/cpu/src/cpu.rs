//! The processors of one guest, taking turns on the caller's thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::apic::{Apic, Effect, Event, Message, Msi, deliver};
use crate::block::Cache;
use crate::core::Core;
use crate::cpuid::Leaf;
use crate::fault::IoRequest;
use crate::mem::AddressSpace;
use crate::run::{Jumps, Pause, execute};
use crate::time::Clock;

/// Most instructions between looks at the outside world.
const SLICE: u64 = 16 * 1024;
/// The same where other processors wait for their turn.
const TURN: u64 = 2 * 1024;

/// The devices, as the processors see them. Slices are filled with ones before a read: what nobody answers stays so.
pub trait Bus {
    /// IN: 1, 2 or 4 bytes.
    fn pio_read(&mut self, port: u16, data: &mut [u8]);
    /// OUT.
    fn pio_write(&mut self, port: u16, data: &[u8]);
    /// Read of a guest-physical address without memory: 1 to 8 bytes.
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]);
    /// Write to a guest-physical address without writable memory.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]);
    /// A level-triggered interrupt with this vector is finished.
    fn end_of_interrupt(&mut self, vector: u8);
    /// When the devices next have something to do by themselves, in nanoseconds of [`Handle::now`]. Asked before the
    /// processors rest or run with virtual time; with the host's clock devices may as well use threads of their own.
    fn next_deadline(&mut self) -> Option<u64> {
        None
    }
    /// It is `now`: do what was due.
    fn advance(&mut self, now: u64) {
        let _ = now;
    }
}

/// How processors are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// What CPUID shows; [`crate::cpuid::table`] is everything.
    pub cpuid: Vec<Leaf>,
    /// How many processors: 1 to 255.
    pub processors: u32,
    /// Where time comes from.
    pub clock: Clock,
    /// Seed of RDRAND and RDSEED; `None`: the host's entropy.
    pub seed: Option<u64>,
}

/// Why [`Cpu::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// [`Handle::kick`].
    Kicked,
    /// Triple fault: a processor cannot go on.
    Shutdown,
}

/// Reaches running processors from other threads and from device callbacks.
pub struct Handle {
    kicked: AtomicBool,
    /// There is something in `inbox`.
    mail: AtomicBool,
    inbox: Mutex<Vec<Msi>>,
    wake: Condvar,
    now: AtomicU64,
}

impl Handle {
    /// Makes the running, or else the next, [`Cpu::run`] return soon.
    pub fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        // With the lock, so that a processor about to sleep sees it or is woken.
        drop(self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Delivers a message-signalled interrupt.
    pub fn signal(&self, msi: Msi) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        // Fixed interrupts that wait already would be one interrupt at the APIC, too: the list stays short.
        if !inbox.contains(&msi) {
            inbox.push(msi);
        }
        self.mail.store(true, Ordering::SeqCst);
        drop(inbox);
        self.wake.notify_all();
    }

    /// Nanoseconds since the guest began, as of the last look at the outside world.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

struct Lane {
    core: Core,
    jumps: Jumps,
}

/// See the module.
pub struct Cpu {
    lanes: Vec<Lane>,
    cache: Cache,
    space: Arc<AddressSpace>,
    version: u64,
    handle: Arc<Handle>,
    /// Whose turn it is.
    turn: usize,
    /// Which processor has the list of pages with code: the one that runs, or ran last.
    code_at: usize,
}

impl Cpu {
    /// Processors after power-on. The first one starts, the others wait for a start-up message.
    pub fn new(space: Arc<AddressSpace>, config: &Config) -> Self {
        let (version, map) = {
            let entered = space.enter();
            (entered.version(), Arc::clone(entered.map()))
        };
        let cpuid: Arc<[Leaf]> = config.cpuid.clone().into();
        let mut lanes: Vec<Lane> = (0..config.processors.clamp(1, 255))
            .map(|id| Lane {
                core: Core::new(Arc::clone(&map), id, &cpuid, config.clock, config.seed),
                jumps: Jumps::default(),
            })
            .collect();
        // One clock for all: their counters never differ.
        if let Some(time) = lanes.first().map(|lane| lane.core.time) {
            lanes.iter_mut().for_each(|lane| lane.core.time = time);
        }
        let handle = Arc::new(Handle {
            kicked: AtomicBool::new(false),
            mail: AtomicBool::new(false),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            now: AtomicU64::new(0),
        });
        Self { lanes, cache: Cache::default(), space, version, handle, turn: 0, code_at: 0 }
    }

    /// Reaches the processors from elsewhere.
    pub fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    /// How many processors there are.
    pub fn processors(&self) -> usize {
        self.lanes.len()
    }

    /// Processor `n`, between two instructions.
    pub fn core(&self, n: usize) -> Option<&Core> {
        self.lanes.get(n).map(|lane| &lane.core)
    }

    /// Processor `n`, to set its state.
    pub fn core_mut(&mut self, n: usize) -> Option<&mut Core> {
        self.lanes.get_mut(n).map(|lane| &mut lane.core)
    }

    /// Instructions executed by all processors.
    pub fn retired(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.core.retired).sum()
    }

    /// Decoded instructions in the cache.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Executes until something in [`Exit`] happens.
    pub fn run(&mut self, bus: &mut dyn Bus) -> Exit {
        self.run_for(bus, u64::MAX).unwrap_or(Exit::Kicked)
    }

    /// Executes `most` instructions or a few more. `None`: nothing happened meanwhile.
    pub fn run_for(&mut self, bus: &mut dyn Bus, most: u64) -> Option<Exit> {
        let end = self.retired().saturating_add(most);
        loop {
            // An instruction that has been answered by a device is finished first: its effects outside are there already.
            let halfway = self.lanes.iter().any(|lane| !lane.core.replay.done.is_empty());
            let kicked = self.handle.kicked.load(Ordering::SeqCst);
            if kicked && !halfway {
                self.handle.kicked.store(false, Ordering::SeqCst);
                return Some(Exit::Kicked);
            }
            let now = self.now();
            self.handle.now.store(now, Ordering::Relaxed);
            bus.advance(now);
            self.take_mail();
            for lane in &mut self.lanes {
                lane.core.apic.advance(now);
            }
            let Some(turn) = self.next_ready() else {
                self.rest(bus, now);
                continue;
            };
            self.turn = turn;
            let retired = self.retired();
            if retired >= end {
                return None;
            }
            let mut allowed =
                if kicked { 1 } else { (if self.lanes.len() > 1 { TURN } else { SLICE }).min(end - retired) };
            if let Some(deadline) = self.next_deadline(bus) {
                let core = &self.lanes[turn].core;
                allowed = core.time.instructions_until(deadline, core.retired, allowed);
            }
            let pause = self.slice(turn, allowed);
            self.settle(bus);
            match pause {
                Pause::Limit | Pause::Halted | Pause::Attention => {}
                Pause::Io(request) => self.answer(bus, turn, request),
                Pause::Shutdown => return Some(Exit::Shutdown),
            }
            self.turn = (turn + 1) % self.lanes.len();
            if let Pause::Io(_) = pause {
                // An instruction that waits for a device goes on at once.
                self.turn = turn;
            }
        }
    }

    /// Lets processor `turn` run.
    fn slice(&mut self, turn: usize, allowed: u64) -> Pause {
        let space = Arc::clone(&self.space);
        let entered = space.enter();
        if entered.version() != self.version {
            self.version = entered.version();
            self.remap(&entered);
        }
        self.hand_over_code(turn);
        let before = self.now();
        let lane = &mut self.lanes[turn];
        let retired = lane.core.retired;
        lane.core.time.set(before, retired);
        lane.core.tell_stolen();
        let pause = execute(&mut lane.core, &mut lane.jumps, &mut self.cache, retired.saturating_add(allowed));
        // All processors share the decoded code, so none may write unasked to where one of them has found some.
        for page in lane.core.code.take_fresh() {
            for other in &mut self.lanes {
                other.core.tlb.forget_writes(page);
            }
        }
        // Virtual time is one for all.
        let now = self.lanes[turn].core.now();
        // Devices that are asked next see the time of the instruction that asks.
        self.handle.now.store(now, Ordering::Relaxed);
        for (n, other) in self.lanes.iter_mut().enumerate() {
            let retired = other.core.retired;
            other.core.time.set(now, retired);
            if n != turn && other.core.ready() {
                other.core.stolen += now.saturating_sub(before);
            }
        }
        pause
    }

    fn remap(&mut self, entered: &crate::mem::Entered<'_>) {
        for lane in &mut self.lanes {
            lane.core.tlb.set_map(Arc::clone(entered.map()));
            lane.core.stamp += 1;
        }
        self.cache.clear(&mut self.lanes[self.code_at].core.code);
    }

    /// Gives the list of pages with code to the processor whose turn it is.
    fn hand_over_code(&mut self, turn: usize) {
        if self.code_at != turn {
            let code = std::mem::take(&mut self.lanes[self.code_at].core.code);
            self.lanes[turn].core.code = code;
            self.code_at = turn;
        }
    }

    fn now(&self) -> u64 {
        self.lanes.first().map_or(0, |lane| lane.core.now())
    }

    /// The next processor in turn that has something to do.
    fn next_ready(&self) -> Option<usize> {
        let n = self.lanes.len();
        (0..n).map(|k| (self.turn + k) % n).find(|&k| self.lanes[k].core.ready())
    }

    /// When time next matters.
    fn next_deadline(&self, bus: &mut dyn Bus) -> Option<u64> {
        let timers = self.lanes.iter().filter_map(|lane| lane.core.apic.next_deadline());
        timers.chain(bus.next_deadline()).min()
    }

    /// All processors wait: sleeps until something can happen, or lets virtual time jump there.
    fn rest(&mut self, bus: &mut dyn Bus, now: u64) {
        let deadline = self.next_deadline(bus);
        if self.lanes.iter().any(|lane| lane.core.time.is_virtual())
            && let Some(deadline) = deadline
        {
            for lane in &mut self.lanes {
                let retired = lane.core.retired;
                lane.core.time.set(deadline.max(now + 1), retired);
            }
            return;
        }
        let inbox = self.handle.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if !inbox.is_empty() || self.handle.kicked.load(Ordering::SeqCst) {
            return;
        }
        // Without a deadline a look now and then costs nothing, and a device without a thread is served.
        let long = Duration::from_millis(100);
        let wait = deadline.map_or(long, |at| Duration::from_nanos(at.saturating_sub(now)).min(long));
        let woken = self.handle.wake.wait_timeout(inbox, wait);
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives the local APICs what devices sent.
    fn take_mail(&mut self) {
        if !self.handle.mail.swap(false, Ordering::SeqCst) {
            return;
        }
        let mail = std::mem::take(&mut *self.handle.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for message in mail.into_iter().filter_map(Msi::message) {
            self.deliver(&message);
        }
    }

    fn deliver(&mut self, message: &Message) {
        let mut events = Vec::new();
        {
            let mut apics: Vec<&mut Apic> = self.lanes.iter_mut().map(|lane| &mut lane.core.apic).collect();
            deliver(message, &mut apics, |place, event| events.push((place, event)));
        }
        for (place, event) in events {
            let Some(lane) = self.lanes.get_mut(place) else { continue };
            match event {
                Event::Nmi => lane.core.signal_nmi(),
                Event::Init => lane.core.init(),
                Event::StartUp(page) => lane.core.start_up(page),
                // There is no system management mode to enter.
                Event::Smi => {}
            }
        }
    }

    /// What processors wrote to their APICs takes effect on the others and on the devices.
    fn settle(&mut self, bus: &mut dyn Bus) {
        for n in 0..self.lanes.len() {
            for effect in std::mem::take(&mut self.lanes[n].core.effects) {
                match effect {
                    Effect::None => {}
                    Effect::EndOfInterrupt(vector) => bus.end_of_interrupt(vector),
                    Effect::Send(message) => self.deliver(&message),
                }
            }
        }
    }

    /// A device answers; the instruction that asked is executed again and finds the answer.
    fn answer(&mut self, bus: &mut dyn Bus, turn: usize, request: IoRequest) {
        let mut data = [0xFF; 8];
        match request {
            IoRequest::PioRead { port, size } => bus.pio_read(port, &mut data[..usize::from(size)]),
            IoRequest::MmioRead { gpa, size } => bus.mmio_read(gpa, &mut data[..usize::from(size)]),
            IoRequest::PioWrite { port, size, value } => {
                bus.pio_write(port, &value.to_le_bytes()[..usize::from(size)]);
            }
            IoRequest::MmioWrite { gpa, size, value } => {
                bus.mmio_write(gpa, &value.to_le_bytes()[..usize::from(size)]);
            }
        }
        let size = match request {
            IoRequest::PioRead { size, .. } | IoRequest::MmioRead { size, .. } => u32::from(size),
            _ => 8,
        };
        let answer = u64::from_le_bytes(data) & u64::MAX >> (64 - 8 * size);
        self.lanes[turn].core.replay.done.push((request, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Seg;
    use crate::insn::{reg, seg};
    use crate::mem::{OwnedMemory, Slot};

    struct Nobody;

    impl Bus for Nobody {
        fn pio_read(&mut self, _: u16, _: &mut [u8]) {}
        fn pio_write(&mut self, _: u16, _: &[u8]) {}
        fn mmio_read(&mut self, _: u64, _: &mut [u8]) {}
        fn mmio_write(&mut self, _: u64, _: &[u8]) {}
        fn end_of_interrupt(&mut self, _: u8) {}
    }

    #[test]
    fn code_in_memory_that_others_write_is_read_anew_each_time() {
        let space = Arc::new(AddressSpace::default());
        space.add(Slot { shared: true, ..Slot::new(0, Arc::new(OwnedMemory::new(16))) }).unwrap();
        let map = Arc::clone(space.enter().map());
        // again: mov al, 1; mov [0x500], al; jmp again
        let code: [u8; 7] = [0xB0, 0x01, 0xA2, 0x00, 0x05, 0xEB, 0xF9];
        for (gpa, byte) in (0x7000..).zip(code) {
            map.write(gpa, byte).unwrap();
        }
        let config = Config {
            cpuid: crate::cpuid::table(),
            processors: 1,
            clock: Clock::Instructions { wall: 0 },
            seed: Some(1),
        };
        let mut cpu = Cpu::new(Arc::clone(&space), &config);
        let core = cpu.core_mut(0).unwrap();
        core.seg[seg::CS] = Seg::real(0, 0x9B);
        core.regs[reg::RIP] = 0x7000;
        for value in [1_u8, 2, 3] {
            // As another process would, unseen by the processor.
            map.write(0x7001, value).unwrap();
            assert_eq!(cpu.run_for(&mut Nobody, 3_000), None);
            assert_eq!(map.read::<u8>(0x500), Some(value));
        }
    }

    #[test]
    fn what_one_processor_writes_over_the_code_of_another_is_what_that_one_executes() {
        let space = Arc::new(AddressSpace::default());
        space.add(Slot::new(0, Arc::new(OwnedMemory::new(16)))).unwrap();
        // Writes to the page of the other's code while it is data; waits; changes the other's MOV AL, 1 to MOV AL, 2.
        let first: [u8; 17] =
            [0xC6, 0x06, 0x00, 0x71, 0x00, 0xB9, 0xFF, 0xFF, 0xE2, 0xFE, 0xC6, 0x06, 0x01, 0x70, 0x02, 0xEB, 0xFE];
        // again: mov al, 1; mov [0x500], al; jmp again
        let second: [u8; 7] = [0xB0, 0x01, 0xA2, 0x00, 0x05, 0xEB, 0xF9];
        let map = Arc::clone(space.enter().map());
        for (at, code) in [(0x8000, &first[..]), (0x7000, &second[..])] {
            for (gpa, byte) in (at..).zip(code) {
                map.write(gpa, *byte).unwrap();
            }
        }
        let config = Config {
            cpuid: crate::cpuid::table(),
            processors: 2,
            clock: Clock::Instructions { wall: 0 },
            seed: Some(1),
        };
        let mut cpu = Cpu::new(Arc::clone(&space), &config);
        for (n, rip) in [(0, 0x8000), (1, 0x7000)] {
            let core = cpu.core_mut(n).unwrap();
            core.waits_for_startup = false;
            core.seg[seg::CS] = Seg::real(0, 0x9B);
            core.regs[reg::RIP] = rip;
        }
        assert_eq!(cpu.run_for(&mut Nobody, 60_000), None);
        assert_eq!(map.read::<u8>(0x500), Some(1), "the second processor has run its code as it was");
        assert_eq!(cpu.run_for(&mut Nobody, 400_000), None);
        assert_eq!(map.read::<u8>(0x500), Some(2), "and runs it as it is");
    }
}
