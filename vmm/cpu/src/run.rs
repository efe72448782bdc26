//! The loop that executes.

use crate::block::{Cache, MAX_INSNS};
use crate::core::{Core, Shadow};
use crate::decode::{Decoded, decode};
use crate::exception::DR6_BS;
use crate::fault::{Event, Fault, IoRequest, R};
use crate::flags::bits as fl;
use crate::insn::{Insn, reg, seg};
use crate::mem::{Access, Mmu, PAGE};

/// Entries of the cache from linear address to block.
const JUMPS: usize = 4096;
/// Bytes of code looked at for one block.
const WINDOW: usize = 320;

#[derive(Clone, Copy, Default)]
struct Jump {
    la: u64,
    stamp: u64,
    id: u32,
    serial: u32,
}

/// Which block lies at a linear address: the last answers.
pub(crate) struct Jumps(Box<[Jump; JUMPS]>);

impl Default for Jumps {
    fn default() -> Self {
        Self(Box::new([Jump::default(); JUMPS]))
    }
}

/// Why execution paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// As many instructions as allowed were executed.
    Limit,
    /// A device must answer.
    Io(IoRequest),
    /// Waiting for an interrupt.
    Halted,
    /// The local APIC has something for others, or others may have their turn.
    Attention,
    /// Triple fault.
    Shutdown,
}

/// What one block did.
enum Ran {
    /// It ran to its end.
    Through,
    /// It stopped early, with the state between two instructions (or an exception delivered).
    Left,
    Pause(Pause),
}

/// Executes until something happens or `core.retired` reaches `limit`.
pub(crate) fn execute(core: &mut Core, jumps: &mut Jumps, cache: &mut Cache, limit: u64) -> Pause {
    // The block just left through its end, and where it started.
    let mut last: Option<(u32, u64)> = None;
    loop {
        if core.recheck || core.retired >= limit {
            if core.retired >= limit {
                core.recheck = true;
                return Pause::Limit;
            }
            last = None;
            if !core.effects.is_empty() || std::mem::take(&mut core.yields) {
                return Pause::Attention;
            }
            core.recheck = false;
            // An instruction that devices have begun to answer comes to its end first: none is asked twice.
            let midway = !core.replay.done.is_empty();
            if !midway && !accept_interrupt(core) {
                return Pause::Shutdown;
            }
            if core.halted {
                core.recheck = true;
                return Pause::Halted;
            }
            if midway || careful(core) {
                core.recheck = true;
                match single_step(core, jumps, cache) {
                    Ran::Pause(pause) => return pause,
                    Ran::Through | Ran::Left => continue,
                }
            }
        }
        let rip = core.regs[reg::RIP];
        let linked = last.and_then(|(from, start)| {
            let delta = rip.wrapping_sub(start);
            cache.follow(from, delta)
        });
        let id = match linked {
            Some(id) => id,
            None => {
                // A new block may have made the cache drop all others, and taken the place of the one just left.
                let left = last.map(|(from, start)| (from, cache.block(from).serial, start));
                match lookup(core, jumps, cache) {
                    Ok(id) => {
                        if let Some((from, serial, start)) = left
                            && cache.is(from, serial)
                            && same_page(cache, from, id)
                        {
                            cache.link(from, rip.wrapping_sub(start), id);
                        }
                        id
                    }
                    Err(fault) => {
                        last = None;
                        match faulted(core, fault) {
                            Ran::Pause(pause) => return pause,
                            Ran::Through | Ran::Left => continue,
                        }
                    }
                }
            }
        };
        match run_block(core, cache, id, usize::MAX) {
            Ran::Through => last = Some((id, rip)),
            Ran::Left => last = None,
            Ran::Pause(pause) => return pause,
        }
    }
}

/// Links are for blocks on one and the same page: then the translation that found the first one serves the second.
fn same_page(cache: &Cache, from: u32, to: u32) -> bool {
    let (a, b) = (cache.block(from), cache.block(to));
    a.gpa / PAGE == b.gpa / PAGE && a.second.is_none() && b.second.is_none()
}

#[inline(always)]
fn run_block(core: &mut Core, cache: &mut Cache, id: u32, most: usize) -> Ran {
    let insns = &cache.block(id).insns;
    let mut done = 0;
    for insn in insns.iter().take(most) {
        let rip = core.regs[reg::RIP];
        core.regs[reg::RIP] = rip.wrapping_add(u64::from(insn.len));
        if let Err(fault) = (insn.run)(core, insn) {
            core.retired += done;
            core.regs[reg::RIP] = rip;
            let ran = faulted(core, fault);
            core.leave_block = false;
            cache.drop_written(&mut core.code);
            return ran;
        }
        done += 1;
        if core.leave_block {
            core.retired += done;
            tidy(core, cache);
            return Ran::Left;
        }
    }
    core.retired += done;
    Ran::Through
}

/// After an instruction that asked for it: one that may have written to code, or that a device answered.
#[cold]
fn tidy(core: &mut Core, cache: &mut Cache) {
    core.leave_block = false;
    cache.drop_written(&mut core.code);
    core.replay.done.clear();
    core.replay.used = 0;
}

/// An instruction did not complete. RIP is its own again.
#[cold]
fn faulted(core: &mut Core, _: Fault) -> Ran {
    let event = std::mem::replace(&mut core.event, Event::None);
    core.recheck = true;
    if let Event::Io(request) = event {
        core.replay.used = 0;
        return Ran::Pause(Pause::Io(request));
    }
    core.replay.done.clear();
    core.replay.used = 0;
    match event {
        Event::Exception { vector, error } => {
            core.retired += 1;
            if core.deliver_exception(vector, error).is_err() { Ran::Pause(Pause::Shutdown) } else { Ran::Left }
        }
        Event::Shutdown => Ran::Pause(Pause::Shutdown),
        Event::Again | Event::None | Event::Io(_) => {
            core.retired += 1;
            Ran::Left
        }
    }
}

/// Must every instruction be looked at by itself?
fn careful(core: &Core) -> bool {
    core.shadow != Shadow::None || core.flags & (fl::TF | fl::RF) != 0 || core.dr7 & 0xFF != 0
}

/// One instruction, with everything that can surround one: shadows, breakpoints, single step.
#[cold]
fn single_step(core: &mut Core, jumps: &mut Jumps, cache: &mut Cache) -> Ran {
    let (shadow, trap) = (std::mem::replace(&mut core.shadow, Shadow::None), core.flags & fl::TF != 0);
    let resume = core.flags & fl::RF != 0;
    if !resume
        && shadow != Shadow::MovSs
        && let Some(hits) = core.code_breakpoint()
    {
        core.note_debug(hits);
        core.stop(Event::Exception { vector: crate::fault::vector::DB, error: None }).into_ran(core)
    } else {
        core.hits = 0;
        core.faulted = false;
        core.fresh_rf = 0;
        let before = core.retired;
        let ran = match lookup(core, jumps, cache) {
            Ok(id) => run_block(core, cache, id, 1),
            Err(fault) => faulted(core, fault),
        };
        if let Ran::Pause(Pause::Io(_)) = ran {
            // The same instruction again, as if it had not been looked at yet.
            core.shadow = shadow;
            return ran;
        }
        let completed = core.retired > before && !std::mem::take(&mut core.faulted);
        if completed && resume {
            core.flags &= !fl::RF | core.fresh_rf;
        }
        let hits = std::mem::take(&mut core.hits);
        if completed && (trap || hits != 0) {
            core.pending_db |= hits | if trap { DR6_BS } else { 0 };
        }
        if core.pending_db != 0 && core.shadow != Shadow::MovSs && !matches!(ran, Ran::Pause(_)) {
            let bits = std::mem::take(&mut core.pending_db);
            core.note_debug(bits);
            return core.stop(Event::Exception { vector: crate::fault::vector::DB, error: None }).into_ran(core);
        }
        ran
    }
}

impl Fault {
    fn into_ran(self, core: &mut Core) -> Ran {
        faulted(core, self)
    }
}

/// Delivers an interrupt if one is pending and allowed. False: triple fault.
fn accept_interrupt(core: &mut Core) -> bool {
    if core.shadow == Shadow::MovSs {
        return true;
    }
    if let Some(source) = core.next_interrupt() {
        core.halted = false;
        return core.deliver_interrupt(source).is_ok();
    }
    true
}

/// The block at RIP.
#[inline(always)]
fn lookup(core: &mut Core, jumps: &mut Jumps, cache: &mut Cache) -> R<u32> {
    let rip = core.regs[reg::RIP];
    let la = if core.bits64() { rip } else { core.seg[seg::CS].base.wrapping_add(rip) & 0xFFFF_FFFF };
    let stamp = core.stamp << 3 | (core.mode as u64) << 1 | u64::from(core.cpl == 3);
    let slot = (la ^ la >> 12) as usize % JUMPS;
    let entry = &jumps.0[slot];
    if entry.la == la && entry.stamp == stamp && cache.is(entry.id, entry.serial) {
        return Ok(entry.id);
    }
    let id = lookup_slow(core, cache, la)?;
    jumps.0[slot] = Jump { la, stamp, id, serial: cache.block(id).serial };
    Ok(id)
}

#[inline(never)]
fn lookup_slow(core: &mut Core, cache: &mut Cache, la: u64) -> R<u32> {
    let rip = core.regs[reg::RIP];
    if core.bits64() {
        if !Core::canonical(la) {
            return Err(core.gp(0));
        }
    } else if rip > u64::from(core.seg[seg::CS].limit) {
        return Err(core.gp(0));
    }
    let mmu = if core.cpl == 3 { Mmu::User } else { Mmu::Supervisor };
    let gpa = core.translate(mmu, la, Access::Fetch)?;
    if let Some(id) = cache.find(gpa, core.mode)
        && cache.block(id).second.is_none()
    {
        return Ok(id);
    }
    build(core, cache, mmu, la, gpa)
}

/// Decodes the block at `la`, which is at `gpa`.
fn build(core: &mut Core, cache: &mut Cache, mmu: Mmu, la: u64, gpa: u64) -> R<u32> {
    let mut bytes = [0xFF; WINDOW];
    let have = WINDOW.min((PAGE - gpa % PAGE) as usize);
    read_code(core, gpa, &mut bytes[..have]);
    let mut insns: Vec<Insn> = Vec::with_capacity(8);
    let (mut at, rip) = (0, core.regs[reg::RIP]);
    let mut second = None;
    while insns.len() < MAX_INSNS && at < have {
        match decode(&bytes[at..have], rip.wrapping_add(at as u64), core.mode, &core.features) {
            Decoded::Insn { insn, ends } => {
                let len = usize::from(insn.len);
                // What cannot be executed still lies on some bytes.
                at += if len == 0 { (have - at).min(15) } else { len };
                insns.push(insn);
                if ends {
                    break;
                }
            }
            Decoded::Short if !insns.is_empty() => break,
            Decoded::Short => {
                // The first instruction crosses into the next page.
                let next = (la & !(PAGE - 1)).wrapping_add(PAGE);
                let next = if core.bits64() { next } else { next & 0xFFFF_FFFF };
                let page = core.translate(mmu, next, Access::Fetch)?;
                let rest = 15 - have.min(15);
                read_code(core, page, &mut bytes[have..have + rest]);
                if let Decoded::Insn { insn, .. } = decode(&bytes[..have + rest], rip, core.mode, &core.features) {
                    at = if insn.len == 0 { have + rest } else { usize::from(insn.len) };
                    insns.push(insn);
                    second = Some(page);
                }
                break;
            }
        }
    }
    if insns.is_empty() {
        insns.push(Insn::new(iced_x86::Code::INVALID, 0, crate::exec::undefined));
        at = have;
    }
    let (id, fresh) = cache.insert(&mut core.code, gpa, second, at as u16, core.mode, insns.into_boxed_slice());
    for page in fresh.into_iter().flatten() {
        core.tlb.forget_writes(page);
        core.code.note_fresh(page);
    }
    if [Some(gpa), second].into_iter().flatten().any(|page| core.tlb.map().is_shared(page)) {
        // Nobody says when such code changes: it serves for one instruction.
        core.code.written(gpa, (at as u64).min(PAGE - gpa % PAGE) as usize);
        core.leave_block = true;
    }
    Ok(id)
}

/// Copies code bytes; what is no memory reads as ones.
fn read_code(core: &Core, gpa: u64, out: &mut [u8]) {
    let map = core.tlb.map();
    for (k, byte) in out.iter_mut().enumerate() {
        *byte = map.read::<u8>(gpa + k as u64).unwrap_or(0xFF);
    }
}
