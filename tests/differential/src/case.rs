//! One case: what the processor starts from, and what it ends with.

use crate::generate::values;
use crate::layout;
use crate::rng::Rng;

/// Longest generated code, the jump at its end included.
pub const MAX_CODE: usize = 128;
/// Bytes of an FXSAVE image (SDM vol. 1, §10.5.1).
pub const FX_SIZE: usize = 512;

/// What an instruction of user mode sees of a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// General registers, as encodings number them.
    pub gpr: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// x87 and SSE, as FXSAVE64 writes them.
    pub fx: [u8; FX_SIZE],
}

/// How the code ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It reached [`layout::THROUGH`].
    Through,
    /// An exception.
    Exception {
        /// Vector.
        vector: u8,
        /// Error code, 0 where the vector has none.
        error: u32,
        /// CR2 for a page fault, else 0.
        address: u64,
    },
    /// It did not end in time.
    Hang,
    /// It took the worker with it.
    Died,
    /// The software processor shut down (triple fault) or ended in another way that it must not.
    Broken,
}

/// One test.
#[derive(Clone, Debug)]
pub struct Case {
    /// The state before. RIP is where `code` goes.
    pub start: Registers,
    /// Which memory: see [`image`].
    pub memory: u64,
    /// Instructions, and the jump behind them.
    pub code: Vec<u8>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub event: Event,
    /// The state after.
    pub end: Registers,
    /// Selectors of ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// Eight-byte words of the image that changed: which byte it begins at, and what it is now.
    pub changes: Vec<(u32, u64)>,
}

impl Default for Registers {
    fn default() -> Self {
        let mut fx = [0; FX_SIZE];
        fx[..2].copy_from_slice(&0x37Fu16.to_le_bytes());
        fx[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
        Self { gpr: [0; 16], rip: 0, rflags: 0x202, fs_base: 0, gs_base: 0, fx }
    }
}

impl Registers {
    /// Bytes on the wire.
    pub const SIZE: usize = 20 * 8 + FX_SIZE;

    /// Appends the wire form.
    pub fn write(&self, to: &mut Vec<u8>) {
        for word in self.gpr.iter().chain([&self.rip, &self.rflags, &self.fs_base, &self.gs_base]) {
            to.extend_from_slice(&word.to_le_bytes());
        }
        to.extend_from_slice(&self.fx);
    }

    /// Reads the wire form from the front of `from`.
    pub fn read(from: &mut &[u8]) -> Self {
        let gpr = std::array::from_fn(|_| word(from));
        let [rip, rflags, fs_base, gs_base] = std::array::from_fn(|_| word(from));
        let mut fx = [0; FX_SIZE];
        let (head, rest) = from.split_at_checked(FX_SIZE).unwrap_or((&fx, &[]));
        *from = rest;
        fx = head.try_into().unwrap_or(fx);
        Self { gpr, rip, rflags, fs_base, gs_base, fx }
    }

    /// Register `n` of XMM.
    pub fn xmm(&self, n: usize) -> u128 {
        let at = 160 + 16 * n;
        self.fx.get(at..at + 16).and_then(|b| b.try_into().ok()).map_or(0, u128::from_le_bytes)
    }

    /// Register ST(`n`).
    pub fn st(&self, n: usize) -> u128 {
        let at = 32 + 16 * n;
        self.fx.get(at..at + 16).and_then(|b| b.try_into().ok()).map_or(0, u128::from_le_bytes) & ((1 << 80) - 1)
    }

    /// FCW.
    pub fn fcw(&self) -> u16 {
        u16::from_le_bytes([self.fx[0], self.fx[1]])
    }

    /// FSW.
    pub fn fsw(&self) -> u16 {
        u16::from_le_bytes([self.fx[2], self.fx[3]])
    }

    /// Sets FSW.
    pub fn set_fsw(&mut self, fsw: u16) {
        self.fx[2..4].copy_from_slice(&fsw.to_le_bytes());
    }

    /// The abridged tag word: a bit for each register that is not empty.
    pub fn ftw(&self) -> u8 {
        self.fx[4]
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        u32::from_le_bytes([self.fx[24], self.fx[25], self.fx[26], self.fx[27]])
    }

    /// Clears what differs between processors that are both right, or is not a register: the last instruction's opcode
    /// and pointers (AMD saves them only with an unmasked exception pending: APM vol. 2, §11.4.4), MXCSR_MASK, reserved bytes.
    pub fn normalize(&mut self) {
        for range in [5..24, 28..32, 416..FX_SIZE] {
            self.fx[range].fill(0);
        }
        for n in 0..8 {
            self.fx[32 + 16 * n + 10..32 + 16 * n + 16].fill(0);
        }
    }
}

pub(crate) fn word(from: &mut &[u8]) -> u64 {
    match from.split_first_chunk::<8>() {
        Some((head, rest)) => {
            *from = rest;
            u64::from_le_bytes(*head)
        }
        None => 0,
    }
}

impl Case {
    /// Bytes on the wire.
    pub const SIZE: usize = Registers::SIZE + 16 + MAX_CODE;

    /// Appends the wire form.
    pub fn write(&self, to: &mut Vec<u8>) {
        let end = to.len() + Self::SIZE;
        self.start.write(to);
        to.extend_from_slice(&self.memory.to_le_bytes());
        to.extend_from_slice(&(self.code.len() as u64).to_le_bytes());
        to.extend_from_slice(&self.code[..self.code.len().min(MAX_CODE)]);
        to.resize(end, 0);
    }

    /// The case's memory before it starts.
    pub fn image(&self) -> Vec<u8> {
        let mut image = image(self.memory);
        place(self.start.rip, &self.code, &mut image);
        image
    }
}

impl Outcome {
    /// Bytes of the wire form without the changes.
    pub const HEAD: usize = Registers::SIZE + 6 * 8;

    /// Reads the fixed part, and how many changes follow it, 16 bytes each.
    pub fn read(mut from: &[u8]) -> (Self, usize) {
        let mut end = Registers::read(&mut from);
        let [kind, error, address, low, high, count] = std::array::from_fn(|_| word(&mut from));
        let event = match kind {
            THROUGH_MARK => Event::Through,
            HANG_MARK => Event::Hang,
            vector => Event::Exception {
                vector: vector as u8,
                error: error as u32,
                address: if vector == 14 { address } else { 0 },
            },
        };
        end.normalize();
        let selectors = std::array::from_fn(|n| (if n < 4 { low >> (16 * n) } else { high >> (16 * (n - 4)) }) as u16);
        (Self { event, end, selectors, changes: Vec::new() }, count as usize)
    }

    /// Of a case that ended the worker.
    pub fn died(case: &Case) -> Self {
        Self { event: Event::Died, end: case.start.clone(), selectors: [0; 6], changes: Vec::new() }
    }
}

/// In the place of a vector: the code came through.
pub(crate) const THROUGH_MARK: u64 = 0x100;
/// In the place of a vector: the code did not end.
pub(crate) const HANG_MARK: u64 = 0x101;

/// Memory number `number`: INT3 for code, and data of all kinds. The read-only page is the same in all.
pub fn image(number: u64) -> Vec<u8> {
    let mut image = vec![0; layout::IMAGE_SIZE];
    image_into(number, &mut image);
    image
}

/// Makes the bytes of `image` those of memory number `number`.
pub fn image_into(number: u64, image: &mut [u8]) {
    let (code, data) = image.split_at_mut(layout::DATA_OFFSET);
    code.fill(0xCC);
    let (data, read_only) = data.split_at_mut(layout::DATA_SIZE as usize);
    for (seed, bytes) in [(number, data), (0, read_only)] {
        let mut rng = Rng::new(seed, u64::MAX);
        for chunk in bytes.chunks_exact_mut(16) {
            chunk.copy_from_slice(&values::memory(&mut rng).to_le_bytes());
        }
    }
}

/// Writes code into an image, as much of it as there is room for.
pub(crate) fn place(rip: u64, code: &[u8], image: &mut [u8]) {
    if let Some(place) = room(rip, code, image) {
        place.copy_from_slice(&code[..place.len()]);
    }
}

/// Takes the code out of an image again.
pub(crate) fn unplace(rip: u64, code: &[u8], image: &mut [u8]) {
    if let Some(place) = room(rip, code, image) {
        place.fill(0xCC);
    }
}

fn room<'i>(rip: u64, code: &[u8], image: &'i mut [u8]) -> Option<&'i mut [u8]> {
    let at = layout::offset(rip).filter(|at| *at < layout::DATA_OFFSET)?;
    image.get_mut(at..(at + code.len()).min(layout::DATA_OFFSET))
}

/// Calls `found` with every eight-byte word of `now` that is not as in `before`.
pub(crate) fn changes(before: &[u8], now: &[u8], mut found: impl FnMut(u32, u64)) {
    for (page, (before, now)) in before.chunks(4096).zip(now.chunks(4096)).enumerate() {
        if before == now {
            continue;
        }
        for (n, (old, new)) in before.chunks_exact(8).zip(now.chunks_exact(8)).enumerate() {
            if old != new {
                let new = new.try_into().map_or(0, u64::from_le_bytes);
                found((page * 4096 + n * 8) as u32, new);
            }
        }
    }
}
