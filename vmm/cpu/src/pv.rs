//! KVM's paravirtual clock and steal time: the MSRs, and the bytes of the structures that they place in guest memory
//! (Linux: Documentation/virt/kvm/x86/msr.rst). Nothing here touches memory; the processor writes what it is given.
//!
//! The TSC counts nanoseconds ([`crate::cpuid::TSC_HZ`]), so the clock's multiplier is 1 and never changes.

use crate::apic::Refused;
use crate::cpuid::Features;

/// MSR_KVM_WALL_CLOCK and MSR_KVM_SYSTEM_TIME by their first numbers.
pub const MSR_WALL_CLOCK_OLD: u32 = 0x11;
/// See [`MSR_WALL_CLOCK_OLD`].
pub const MSR_SYSTEM_TIME_OLD: u32 = 0x12;
/// MSR_KVM_WALL_CLOCK_NEW.
pub const MSR_WALL_CLOCK: u32 = 0x4B56_4D00;
/// MSR_KVM_SYSTEM_TIME_NEW.
pub const MSR_SYSTEM_TIME: u32 = 0x4B56_4D01;
/// MSR_KVM_STEAL_TIME.
pub const MSR_STEAL_TIME: u32 = 0x4B56_4D03;

const ENABLED: u64 = 1;

/// What the processor knows of time when a structure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The guest's TSC.
    pub tsc: u64,
    /// Nanoseconds since the machine began.
    pub nanoseconds: u64,
    /// Nanoseconds since 1970-01-01 00:00 UTC.
    pub wall: u64,
    /// Nanoseconds in which the processor was ready to run and did not.
    pub stolen: u64,
}

/// Bytes for guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestWrite {
    /// Where.
    pub gpa: u64,
    len: usize,
    bytes: [u8; 64],
}

impl GuestWrite {
    fn new(gpa: u64) -> Self {
        Self { gpa, len: 0, bytes: [0; 64] }
    }

    fn with(mut self, bytes: &[u8]) -> Self {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *to = *from;
            self.len += 1;
        }
        self
    }

    /// What is to be written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The MSRs of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paravirt {
    /// MSR_KVM_WALL_CLOCK: address of the structure.
    pub wall_clock: u64,
    /// MSR_KVM_SYSTEM_TIME: address of the structure, and bit 0.
    pub system_time: u64,
    /// MSR_KVM_STEAL_TIME: address of the structure, and bit 0.
    pub steal_time: u64,
    /// Version of the structures: even, and another one each time.
    version: u32,
}

impl Paravirt {
    /// Whether the MSR is one of these, and the processor has it.
    #[must_use]
    pub const fn has(index: u32, features: &Features) -> bool {
        match index {
            MSR_WALL_CLOCK_OLD | MSR_SYSTEM_TIME_OLD => features.kvm_clock_old,
            MSR_WALL_CLOCK | MSR_SYSTEM_TIME => features.kvm_clock,
            MSR_STEAL_TIME => features.kvm_steal_time,
            _ => false,
        }
    }

    /// RDMSR.
    ///
    /// # Errors
    /// [`Refused`] for an MSR that is not one of these.
    pub const fn read(&self, index: u32) -> Result<u64, Refused> {
        match index {
            MSR_WALL_CLOCK | MSR_WALL_CLOCK_OLD => Ok(self.wall_clock),
            MSR_SYSTEM_TIME | MSR_SYSTEM_TIME_OLD => Ok(self.system_time),
            MSR_STEAL_TIME => Ok(self.steal_time),
            _ => Err(Refused),
        }
    }

    /// WRMSR: takes the value, and says what has to be written to guest memory at once.
    ///
    /// # Errors
    /// [`Refused`] for an MSR that is not one of these, and for reserved bits of the steal time's.
    pub fn write(&mut self, index: u32, value: u64, now: &Now) -> Result<Option<GuestWrite>, Refused> {
        match index {
            MSR_WALL_CLOCK | MSR_WALL_CLOCK_OLD => {
                self.wall_clock = value;
                Ok(Some(self.wall_clock_bytes(now)))
            }
            MSR_SYSTEM_TIME | MSR_SYSTEM_TIME_OLD => {
                self.system_time = value;
                Ok(self.system_time_bytes(now))
            }
            MSR_STEAL_TIME => {
                const RESERVED: u64 = 0x3E;
                if value & RESERVED != 0 {
                    return Err(Refused);
                }
                self.steal_time = value;
                Ok(self.steal_time_bytes(now))
            }
            _ => Err(Refused),
        }
    }

    fn next_version(&mut self) -> u32 {
        self.version = self.version.wrapping_add(2);
        self.version
    }

    /// `struct pvclock_wall_clock`: the time of day when the machine began.
    fn wall_clock_bytes(&mut self, now: &Now) -> GuestWrite {
        const NS_PER_S: u64 = 1_000_000_000;
        let began = now.wall.saturating_sub(now.nanoseconds);
        let seconds = u32::try_from(began / NS_PER_S).unwrap_or(u32::MAX);
        let nanoseconds = u32::try_from(began % NS_PER_S).unwrap_or(0);
        GuestWrite::new(self.wall_clock)
            .with(&self.next_version().to_le_bytes())
            .with(&seconds.to_le_bytes())
            .with(&nanoseconds.to_le_bytes())
    }

    /// `struct pvclock_vcpu_time_info`, if the guest wants it: how its TSC and the machine's time go together. To be
    /// written anew when that changes, which is when the guest moves its TSC.
    pub fn system_time_bytes(&mut self, now: &Now) -> Option<GuestWrite> {
        /// (ticks << 1) × 2³¹ / 2³² nanoseconds: one each.
        const MULTIPLIER: u32 = 1 << 31;
        const SHIFT: i8 = 1;
        /// All processors' clocks agree.
        const TSC_STABLE: u8 = 1;
        if self.system_time & ENABLED == 0 {
            return None;
        }
        let structure = GuestWrite::new(self.system_time & !ENABLED)
            .with(&self.next_version().to_le_bytes())
            .with(&[0; 4])
            .with(&now.tsc.to_le_bytes())
            .with(&now.nanoseconds.to_le_bytes())
            .with(&MULTIPLIER.to_le_bytes())
            .with(&SHIFT.to_le_bytes())
            .with(&[TSC_STABLE, 0, 0]);
        Some(structure)
    }

    /// `struct kvm_steal_time`, if the guest wants it. To be written when the processor goes on after others ran.
    pub fn steal_time_bytes(&mut self, now: &Now) -> Option<GuestWrite> {
        if self.steal_time & ENABLED == 0 {
            return None;
        }
        // Then come flags, "preempted" and padding: zeroes.
        let structure = GuestWrite::new(self.steal_time & !0x3F)
            .with(&now.stolen.to_le_bytes())
            .with(&self.next_version().to_le_bytes())
            .with(&[0; 52]);
        Some(structure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { tsc: 0x1111, nanoseconds: 2_000_000_007, wall: 1_700_000_002_500_000_009, stolen: 0x2222 };

    /// What Linux's `__pvclock_read_cycles` makes of the structure at a TSC.
    fn read_clock(structure: &[u8], tsc: u64) -> u64 {
        let u64_at = |at: usize| u64::from_le_bytes(structure[at..at + 8].try_into().unwrap());
        let multiplier = u32::from_le_bytes(structure[24..28].try_into().unwrap());
        let delta = (tsc - u64_at(8)) << structure[28];
        u64_at(16) + ((u128::from(delta) * u128::from(multiplier)) >> 32) as u64
    }

    #[test]
    fn the_clock_counts_a_nanosecond_a_tick_from_where_it_was_written() {
        let mut pv = Paravirt::default();
        let write = pv.write(MSR_SYSTEM_TIME, 0x5000 | 1, &NOW).unwrap().unwrap();
        assert_eq!((write.gpa, write.bytes().len()), (0x5000, 32));
        for later in [0, 1, 999_999_999, 1 << 40] {
            assert_eq!(read_clock(write.bytes(), NOW.tsc + later), NOW.nanoseconds + later);
        }
        assert_eq!(write.bytes()[29], 1, "stable");
        assert_eq!(pv.read(MSR_SYSTEM_TIME_OLD), Ok(0x5001));
    }

    #[test]
    fn versions_are_even_and_never_repeat_at_once() {
        let mut pv = Paravirt { system_time: 1, steal_time: 1, ..Paravirt::default() };
        let version = |write: Option<GuestWrite>, at: usize| write.unwrap().bytes()[at];
        assert_eq!(version(pv.system_time_bytes(&NOW), 0), 2);
        assert_eq!(version(pv.system_time_bytes(&NOW), 0), 4);
        assert_eq!(version(pv.steal_time_bytes(&NOW), 8), 6);
    }

    #[test]
    fn the_wall_clock_is_that_of_the_beginning() {
        let mut pv = Paravirt::default();
        let write = pv.write(MSR_WALL_CLOCK, 0x6000, &NOW).unwrap().unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(write.bytes()[at..at + 4].try_into().unwrap());
        assert_eq!((write.gpa, u32_at(4), u32_at(8)), (0x6000, 1_700_000_000, 500_000_002));
        assert_eq!(write.bytes().len(), 12);
    }

    #[test]
    fn what_is_switched_off_writes_nothing_and_reserved_bits_are_refused() {
        let mut pv = Paravirt::default();
        assert_eq!(pv.write(MSR_SYSTEM_TIME, 0x5000, &NOW), Ok(None));
        assert_eq!(pv.write(MSR_STEAL_TIME, 0x5000, &NOW), Ok(None));
        assert_eq!(pv.write(MSR_STEAL_TIME, 0x5002 | 1, &NOW), Err(Refused));
        assert_eq!(pv.read(MSR_STEAL_TIME), Ok(0x5000));
        assert_eq!(pv.write(0x4B56_4D02, 1, &NOW), Err(Refused));
        let write = pv.write(MSR_STEAL_TIME, 0x5040 | 1, &NOW).unwrap().unwrap();
        assert_eq!((write.gpa, write.bytes().len()), (0x5040, 64));
        assert_eq!(write.bytes()[..8], 0x2222_u64.to_le_bytes());
    }

    #[test]
    fn an_msr_is_there_only_with_its_feature() {
        let none = Features::default();
        let all = Features::of(&crate::cpuid::table());
        for index in [MSR_WALL_CLOCK_OLD, MSR_SYSTEM_TIME_OLD, MSR_WALL_CLOCK, MSR_SYSTEM_TIME, MSR_STEAL_TIME] {
            assert!(!Paravirt::has(index, &none));
            assert!(Paravirt::has(index, &all));
        }
        assert!(!Paravirt::has(0x4B56_4D02, &all));
    }
}
