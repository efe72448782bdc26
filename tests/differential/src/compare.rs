//! Where two outcomes differ.

use std::fmt::{self, Display};

use iced_x86::{Formatter, IntelFormatter};

use crate::case::{Case, Event, Outcome, Registers};
use crate::generate::Test;
use crate::layout;
use crate::rules::{self, Rule, Undefined};

const NAMES: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
/// Resume flag: set in what a fault saves.
const RF: u64 = 1 << 16;
/// Where what is Linux's begins: one page below the lower half's end (TASK_SIZE_MAX).
const LINUX: u64 = 0x7FFF_FFFF_F000;
/// Units in the last place by which a transcendental function may differ.
const X87_ULPS: u128 = 8;
/// MXCSR.MM of AMD's processors (APM vol. 2, §3.1.2 of MISALIGNSSE), which Intel's and ours refuse to set.
const MXCSR_MM: u32 = 1 << 17;

/// One field that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub field: String,
    /// On this machine's processor.
    pub host: String,
    /// On the software processor.
    pub soft: String,
}

/// What a test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both did the same.
    Same,
    /// Nothing: why.
    Void(&'static str),
    /// They did not.
    Different(Vec<Difference>),
}

/// Judges one test.
pub fn judge(test: &Test, host: &Outcome, soft: &Outcome) -> Verdict {
    match host.event {
        Event::Died => return Verdict::Void("ended the worker"),
        Event::Hang => return Verdict::Void("did not end"),
        _ => {}
    }
    if host.end.mxcsr() & MXCSR_MM != 0 {
        return Verdict::Void("set MXCSR.MM");
    }
    let undefined_opcode = Event::Exception { vector: 6, error: 0, address: 0 };
    let mut expected = host.clone();
    if test.rule == Rule::Unannounced || test.rule == Rule::Unknown && host.event != undefined_opcode {
        // Faults that come before the instruction is known stay: fetching it, or its length.
        let early = match host.event {
            Event::Exception { vector: 14, error, .. } => error & 0x10 != 0 && host.end.rip == test.case.start.rip,
            Event::Exception { vector: 13, .. } => test.program[0].is_invalid() && soft.event == host.event,
            _ => false,
        };
        if !early {
            expected = Outcome {
                event: undefined_opcode,
                end: test.case.start.clone(),
                selectors: host.selectors,
                changes: Vec::new(),
            };
            expected.end.rflags |= RF;
            expected.end.normalize();
        }
    }
    // A single instruction that was executed and is followed by a fault has come through as well.
    let through = host.event == Event::Through || test.program.len() == 1 && host.end.rip != test.case.start.rip;
    let found = differences(&expected, soft, if through { test.undefined } else { test.on_the_way });
    if found.is_empty() {
        return Verdict::Same;
    }
    // Here there is a page for the way out, and there is none there.
    let way_out = |outcome: &Outcome| match outcome.event {
        Event::Exception { vector: 14, address, .. } => address / layout::PAGE == layout::THROUGH / layout::PAGE,
        _ => false,
    };
    if way_out(host) || way_out(soft) {
        return Verdict::Void("touches the way out");
    }
    // A repeated instruction that overwrites itself goes on, or is read again.
    let code = |outcome: &Outcome| outcome.changes.iter().any(|(at, _)| (*at as usize) < layout::DATA_OFFSET);
    let repeats = |i: &iced_x86::Instruction| i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix());
    if (code(host) || code(soft)) && test.program.iter().any(repeats) {
        return Verdict::Void("overwrites itself");
    }
    // The instruction that the host was at; if it came through, the one that the other was at.
    let at = |rip: u64| test.program.iter().find(|i| i.ip() == rip);
    let last = at(host.end.rip).or_else(|| at(soft.end.rip)).or(test.program.last());
    match last.and_then(|last| rules::latitude(last, host, soft)) {
        Some(why) => Verdict::Void(why),
        _ => Verdict::Different(found),
    }
}

/// The error code as Linux shows it: for addresses of its own half it pretends that a page is there
/// (arch/x86/mm/fault.c, set_signal_archinfo).
fn visible(event: Event) -> Event {
    match event {
        Event::Exception { vector: 14, error, address } if address >= LINUX => {
            Event::Exception { vector: 14, error: error | 1, address }
        }
        other => other,
    }
}

fn differences(host: &Outcome, soft: &Outcome, undefined: Undefined) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut field = |name: &dyn Display, host: &dyn Display, soft: &dyn Display| {
        found.push(Difference { field: name.to_string(), host: host.to_string(), soft: soft.to_string() });
    };
    if visible(host.event) != visible(soft.event) {
        field(&"event", &host.event, &soft.event);
    }
    let (a, b) = (&host.end, &soft.end);
    for (name, (a, b)) in NAMES.iter().zip(a.gpr.iter().zip(&b.gpr)) {
        if a != b {
            field(name, &Hex(*a), &Hex(*b));
        }
    }
    for (name, a, b) in [("rip", a.rip, b.rip), ("fs base", a.fs_base, b.fs_base), ("gs base", a.gs_base, b.gs_base)] {
        if a != b {
            field(&name, &Hex(a), &Hex(b));
        }
    }
    if (a.rflags ^ b.rflags) & !undefined.rflags != 0 {
        field(&"rflags", &Flags(a.rflags, undefined.rflags), &Flags(b.rflags, undefined.rflags));
    }
    for n in 0..16 {
        let (a, b) = (a.xmm(n), b.xmm(n));
        if a != b && !(undefined.approximate_sse && close_singles(a, b)) {
            field(&format_args!("xmm{n}"), &Hex(a), &Hex(b));
        }
    }
    if a.mxcsr() != b.mxcsr() {
        field(&"mxcsr", &Hex(a.mxcsr()), &Hex(b.mxcsr()));
    }
    let faulted = matches!(host.event, Event::Exception { .. });
    if !(undefined.any_x87 || undefined.mmx_mode_on_fault && faulted) {
        floating_point(a, b, undefined, &mut field);
    }
    changes(&host.changes, &soft.changes, &mut field);
    found
}

type Field<'f> = dyn FnMut(&dyn Display, &dyn Display, &dyn Display) + 'f;

fn floating_point(a: &Registers, b: &Registers, undefined: Undefined, field: &mut Field<'_>) {
    for n in 0..8 {
        let (a, b) = (a.st(n), b.st(n));
        if a != b && !(undefined.approximate_x87 && a.abs_diff(b) <= X87_ULPS) {
            field(&format_args!("st{n}"), &Hex(a), &Hex(b));
        }
    }
    // Precision, underflow and the direction of rounding follow from the last bits of an approximation, and whether an
    // unmasked exception is pending follows from them.
    let unknown = undefined.fsw | if undefined.approximate_x87 { 0x82B0 } else { 0 };
    if (a.fsw() ^ b.fsw()) & !unknown != 0 {
        field(&"fsw", &Hex(a.fsw()), &Hex(b.fsw()));
    }
    if a.fcw() != b.fcw() {
        field(&"fcw", &Hex(a.fcw()), &Hex(b.fcw()));
    }
    if a.ftw() != b.ftw() {
        field(&"ftw", &Hex(a.ftw()), &Hex(b.ftw()));
    }
}

fn changes(host: &[(u32, u64)], soft: &[(u32, u64)], field: &mut Field<'_>) {
    let find = |list: &[(u32, u64)], at: u32| list.iter().find(|(a, _)| *a == at).map(|(_, word)| *word);
    let mut shown = 0;
    for (at, word) in host {
        let other = find(soft, *at);
        if other != Some(*word) && shown < 8 {
            shown += 1;
            let place = layout::address(*at as usize);
            field(
                &format_args!("[{place:#x}]"),
                &Hex(*word),
                &other.map_or("unchanged".to_owned(), |o| format!("{o:#x}")),
            );
        }
    }
    for (at, word) in soft {
        if find(host, *at).is_none() && shown < 8 {
            shown += 1;
            field(&format_args!("[{:#x}]", layout::address(*at as usize)), &"unchanged", &Hex(*word));
        }
    }
}

/// Four singles within the error that an approximation may have.
fn close_singles(a: u128, b: u128) -> bool {
    (0..4).all(|n| {
        let [a, b] = [a, b].map(|v| f32::from_bits((v >> (32 * n)) as u32));
        a.to_bits() == b.to_bits() || (a - b).abs() <= a.abs().max(b.abs()) * (2.0 * 1.5 / 4096.0)
    })
}

struct Hex<T>(T);

impl<T: fmt::LowerHex> Display for Hex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

struct Flags(u64, u64);

impl Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u64, &str); 11] = [
            (1, "CF"),
            (4, "PF"),
            (0x10, "AF"),
            (0x40, "ZF"),
            (0x80, "SF"),
            (0x100, "TF"),
            (0x400, "DF"),
            (0x800, "OF"),
            (0x4000, "NT"),
            (RF, "RF"),
            (0x4_0000, "AC"),
        ];
        write!(f, "{:#x}", self.0)?;
        for (bit, name) in NAMES {
            if self.1 & bit != 0 {
                write!(f, " ({name})")?;
            } else if self.0 & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception { vector, error, address } => {
                write!(f, "exception {vector} ({error:#x})")?;
                if *vector == 14 { write!(f, " at {address:#x}") } else { Ok(()) }
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// The program of a test as text.
pub fn listing(test: &Test) -> String {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    let mut at = 0;
    for instruction in &test.program {
        let end = (at + instruction.len()).min(test.case.code.len());
        let bytes: Vec<String> = test.case.code[at..end].iter().map(|b| format!("{b:02x}")).collect();
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        text += &format!("    {:#x}: {:<32} {line}\n", instruction.ip(), bytes.join(" "));
        at = end;
    }
    text
}

/// What a case starts from, as text.
pub fn start(case: &Case) -> String {
    let state = &case.start;
    let mut text = String::new();
    for (name, value) in NAMES.iter().zip(&state.gpr) {
        text += &format!("    {name:4}{value:#018x}\n");
    }
    text += &format!("    rflags {}, fs {:#x}, gs {:#x}\n", Flags(state.rflags, 0), state.fs_base, state.gs_base);
    let (fcw, fsw, ftw) = (state.fcw(), state.fsw(), state.ftw());
    text += &format!("    fcw {fcw:#06x}, fsw {fsw:#06x}, ftw {ftw:#04x}, mxcsr {:#06x}\n", state.mxcsr());
    for n in 0..8 {
        text += &format!("    st{n}   {:#022x}\n", state.st(n));
    }
    for n in 0..16 {
        text += &format!("    xmm{n:<2} {:#034x}\n", state.xmm(n));
    }
    text
}
