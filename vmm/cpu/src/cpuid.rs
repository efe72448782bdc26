//! What this processor is, by CPUID (SDM vol. 2A, CPUID): the table, how a processor answers from it, and the set of features that
//! the decoder goes by. What is announced works; what is not announced is #UD.
//!
//! Why "GenuineIntel", family 6, model 0x36 (an Atom of 2011 by number, with features that it never had):
//! - SYSCALL and SYSENTER both work in long mode on Intel's processors, so 32-bit programs have their fast entry and
//!   SYSCALL outside 64-bit code is #UD; on AMD's, SYSENTER is #UD in long mode.
//! - That Atom does not speculate, and Linux knows it (`NO_SPECULATION` in its list of processors). Nor does this
//!   processor. So a stock kernel leaves out page-table isolation, retpolines, untrained returns and buffer clearing,
//!   which protect from nothing here and cost much in software. It is the truth, told in the one way that all kernels
//!   understand.
//! - It has no erratum that Linux works around from stepping 1 on, and no performance counters, MWAIT, or power management
//!   that a driver would look for by model.
//!
//! The TSC, the APIC timer and the crystal all count nanoseconds: leaf 0x15 says so, and nothing has to be calibrated.

/// Frequency of the TSC, of the APIC timer before division, and of the crystal that leaf 0x15 tells of.
pub const TSC_HZ: u64 = 1_000_000_000;
/// Width of a physical address: 1 TiB.
pub const PHYSICAL_BITS: u8 = 40;
/// Width of a linear address: four levels of page tables.
pub const LINEAR_BITS: u8 = 48;

/// One leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// EAX on input.
    pub function: u32,
    /// ECX on input.
    pub index: u32,
    /// Whether ECX on input matters.
    pub indexed: bool,
    /// Output: EAX, EBX, ECX, EDX.
    pub output: [u32; 4],
}

/// Places in [`Leaf::output`].
mod register {
    pub(super) const EAX: usize = 0;
    pub(super) const EBX: usize = 1;
    pub(super) const ECX: usize = 2;
    pub(super) const EDX: usize = 3;
}

const FEATURE_LEAF: u32 = 1;
const CACHE_LEAF: u32 = 4;
const EXTENDED_FEATURE_LEAF: u32 = 7;
const TOPOLOGY_LEAF: u32 = 0xB;
const XSAVE_LEAF: u32 = 0xD;
const LAST_BASIC: u32 = 0x16;
const KVM: u32 = 0x4000_0000;
const KVM_FEATURE_LEAF: u32 = KVM + 1;
const EXTENDED: u32 = 0x8000_0000;
const LAST_EXTENDED: u32 = EXTENDED + 8;

macro_rules! features {
    ($($(#[doc = $doc:literal])* $name:ident: $function:expr, $index:expr, $register:ident, $bit:expr;)*) => {
        /// What a processor can do, by name.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Features {
            $($(#[doc = $doc])* pub $name: bool,)*
        }

        impl Features {
            /// What a table announces.
            #[must_use]
            pub fn of(table: &[Leaf]) -> Self {
                let bit = |function: u32, index: u32, register: usize, bit: u32| {
                    table.iter().any(|leaf| {
                        leaf.function == function
                            && (!leaf.indexed || leaf.index == index)
                            && leaf.output[register] >> bit & 1 != 0
                    })
                };
                Self { $($name: bit($function, $index, register::$register, $bit),)* }
            }

            /// The bits of one register that announce these features.
            fn bits(&self, function: u32, index: u32, register: usize) -> u32 {
                let mut bits = 0;
                $(if self.$name && ($function, $index, register::$register) == (function, index, register) {
                    bits |= 1 << $bit;
                })*
                bits
            }

            /// Every feature that has a name here.
            #[must_use]
            pub const fn all() -> Self {
                Self { $($name: true,)* }
            }

            /// 1 GiB pages.
            #[must_use]
            pub const fn gib_pages(&self) -> bool {
                self.pages_1g
            }
        }
    };
}

features! {
    /// x87.
    fpu: FEATURE_LEAF, 0, EDX, 0;
    /// CR4.DE.
    de: FEATURE_LEAF, 0, EDX, 2;
    /// 4 MiB pages.
    pse: FEATURE_LEAF, 0, EDX, 3;
    /// RDTSC.
    tsc: FEATURE_LEAF, 0, EDX, 4;
    /// RDMSR, WRMSR.
    msr: FEATURE_LEAF, 0, EDX, 5;
    /// Page tables with entries of 64 bits.
    pae: FEATURE_LEAF, 0, EDX, 6;
    /// CMPXCHG8B.
    cx8: FEATURE_LEAF, 0, EDX, 8;
    /// Local APIC.
    apic: FEATURE_LEAF, 0, EDX, 9;
    /// SYSENTER, SYSEXIT.
    sep: FEATURE_LEAF, 0, EDX, 11;
    /// Memory type range registers.
    mtrr: FEATURE_LEAF, 0, EDX, 12;
    /// Global pages.
    pge: FEATURE_LEAF, 0, EDX, 13;
    /// CMOVcc, FCMOVcc, FCOMI.
    cmov: FEATURE_LEAF, 0, EDX, 15;
    /// Page attribute table.
    pat: FEATURE_LEAF, 0, EDX, 16;
    /// 4 MiB pages above 4 GiB.
    pse36: FEATURE_LEAF, 0, EDX, 17;
    /// CLFLUSH.
    clflush: FEATURE_LEAF, 0, EDX, 19;
    /// MMX.
    mmx: FEATURE_LEAF, 0, EDX, 23;
    /// FXSAVE, FXRSTOR.
    fxsr: FEATURE_LEAF, 0, EDX, 24;
    /// SSE.
    sse: FEATURE_LEAF, 0, EDX, 25;
    /// SSE2.
    sse2: FEATURE_LEAF, 0, EDX, 26;
    /// SSE3.
    sse3: FEATURE_LEAF, 0, ECX, 0;
    /// PCLMULQDQ.
    pclmulqdq: FEATURE_LEAF, 0, ECX, 1;
    /// SSSE3.
    ssse3: FEATURE_LEAF, 0, ECX, 9;
    /// CMPXCHG16B.
    cx16: FEATURE_LEAF, 0, ECX, 13;
    /// Process-context identifiers.
    pcid: FEATURE_LEAF, 0, ECX, 17;
    /// SSE4.1.
    sse4_1: FEATURE_LEAF, 0, ECX, 19;
    /// SSE4.2.
    sse4_2: FEATURE_LEAF, 0, ECX, 20;
    /// x2APIC mode.
    x2apic: FEATURE_LEAF, 0, ECX, 21;
    /// MOVBE.
    movbe: FEATURE_LEAF, 0, ECX, 22;
    /// POPCNT.
    popcnt: FEATURE_LEAF, 0, ECX, 23;
    /// TSC-deadline mode of the APIC timer.
    tsc_deadline: FEATURE_LEAF, 0, ECX, 24;
    /// AES-NI.
    aes: FEATURE_LEAF, 0, ECX, 25;
    /// XSAVE, XRSTOR, XGETBV, XSETBV.
    xsave: FEATURE_LEAF, 0, ECX, 26;
    /// RDRAND.
    rdrand: FEATURE_LEAF, 0, ECX, 30;
    /// This is a virtual machine.
    hypervisor: FEATURE_LEAF, 0, ECX, 31;
    /// RDFSBASE and its kin.
    fsgsbase: EXTENDED_FEATURE_LEAF, 0, EBX, 0;
    /// ANDN, BEXTR, BLSI, BLSMSK, BLSR, TZCNT.
    bmi1: EXTENDED_FEATURE_LEAF, 0, EBX, 3;
    /// CR4.SMEP.
    smep: EXTENDED_FEATURE_LEAF, 0, EBX, 7;
    /// BZHI, MULX, PDEP, PEXT, RORX, SARX, SHLX, SHRX.
    bmi2: EXTENDED_FEATURE_LEAF, 0, EBX, 8;
    /// REP MOVSB and REP STOSB are the fastest way.
    erms: EXTENDED_FEATURE_LEAF, 0, EBX, 9;
    /// INVPCID.
    invpcid: EXTENDED_FEATURE_LEAF, 0, EBX, 10;
    /// RDSEED.
    rdseed: EXTENDED_FEATURE_LEAF, 0, EBX, 18;
    /// ADCX, ADOX.
    adx: EXTENDED_FEATURE_LEAF, 0, EBX, 19;
    /// CR4.SMAP, CLAC, STAC.
    smap: EXTENDED_FEATURE_LEAF, 0, EBX, 20;
    /// CLFLUSHOPT.
    clflushopt: EXTENDED_FEATURE_LEAF, 0, EBX, 23;
    /// SHA extensions.
    sha: EXTENDED_FEATURE_LEAF, 0, EBX, 29;
    /// CR4.UMIP.
    umip: EXTENDED_FEATURE_LEAF, 0, ECX, 2;
    /// REP MOVSB is fast for short strings, too.
    fsrm: EXTENDED_FEATURE_LEAF, 0, EDX, 4;
    /// XSAVEOPT.
    xsaveopt: XSAVE_LEAF, 1, EAX, 0;
    /// XSAVEC.
    xsavec: XSAVE_LEAF, 1, EAX, 1;
    /// LAHF and SAHF in 64-bit mode.
    lahf: EXTENDED + 1, 0, ECX, 0;
    /// LZCNT.
    lzcnt: EXTENDED + 1, 0, ECX, 5;
    /// PREFETCHW.
    prefetchw: EXTENDED + 1, 0, ECX, 8;
    /// SYSCALL, SYSRET.
    syscall: EXTENDED + 1, 0, EDX, 11;
    /// Pages without execution.
    nx: EXTENDED + 1, 0, EDX, 20;
    /// 1 GiB pages.
    pages_1g: EXTENDED + 1, 0, EDX, 26;
    /// RDTSCP, IA32_TSC_AUX.
    rdtscp: EXTENDED + 1, 0, EDX, 27;
    /// Long mode.
    lm: EXTENDED + 1, 0, EDX, 29;
    /// The TSC counts at one pace in all states.
    invariant_tsc: EXTENDED + 7, 0, EDX, 8;
    /// The APIC timer counts in all states.
    arat: 6, 0, EAX, 2;
    /// kvmclock by its first MSRs.
    kvm_clock_old: KVM_FEATURE_LEAF, 0, EAX, 0;
    /// Ports need no pause after an access.
    kvm_nop_io_delay: KVM_FEATURE_LEAF, 0, EAX, 1;
    /// kvmclock.
    kvm_clock: KVM_FEATURE_LEAF, 0, EAX, 3;
    /// Steal time.
    kvm_steal_time: KVM_FEATURE_LEAF, 0, EAX, 5;
    /// kvmclock's own word that it is stable can be believed.
    kvm_clock_stable: KVM_FEATURE_LEAF, 0, EAX, 24;
}

/// Family 6, model 0x36, stepping 1.
const SIGNATURE: u32 = 0x0003_0661;
/// CLFLUSH line of 8 × 8 bytes, one logical processor.
const FEATURE_EBX: u32 = 8 << 8 | 1 << 16;
const BRAND: &[u8; 48] = b"bulla software processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// "TLB parameters are in leaf 0x18 (there is none), those of caches in leaf 4" (SDM vol. 2A, table 3-12).
const DESCRIPTORS: u32 = 0x00FE_FF01;
const MHZ: u32 = (TSC_HZ / 1_000_000) as u32;
/// x87 and SSE.
const XCR0_ALL: u32 = 3;
/// Legacy region and header of the XSAVE image.
const XSAVE_SIZE: u32 = 576;

/// Everything that is implemented. Two that work are not announced: XSAVEOPT and XSAVEC.
const fn implemented() -> Features {
    Features { xsaveopt: false, xsavec: false, ..Features::all() }
}

/// The table that this processor announces when nothing is cut from it.
#[must_use]
pub fn table() -> Vec<Leaf> {
    use register::{EAX, EBX, ECX, EDX};
    let features = implemented();
    let mut table = Vec::new();
    let mut add = |function: u32, index: Option<u32>, fixed: [u32; 4]| {
        let (indexed, index) = (index.is_some(), index.unwrap_or(0));
        let mut output = fixed;
        for register in [EAX, EBX, ECX, EDX] {
            output[register] |= features.bits(function, index, register);
        }
        table.push(Leaf { function, index, indexed, output });
    };
    let [v0, v1, v2] = words(b"GenuineIntel");
    // The vendor's name is in EBX, EDX, ECX.
    add(0, None, [LAST_BASIC, v0, v2, v1]);
    add(FEATURE_LEAF, None, [SIGNATURE, FEATURE_EBX, 0, 0]);
    add(2, None, [DESCRIPTORS, 0, 0, 0]);
    // 32 KiB of data, 32 KiB of code, 8 ways, 64 sets; 512 KiB of both, 8 ways, 1024 sets.
    add(CACHE_LEAF, Some(0), cache(1, 1, 64));
    add(CACHE_LEAF, Some(1), cache(2, 1, 64));
    add(CACHE_LEAF, Some(2), cache(3, 2, 1024));
    add(CACHE_LEAF, Some(3), [0; 4]);
    add(6, None, [0; 4]);
    add(EXTENDED_FEATURE_LEAF, Some(0), [0; 4]);
    // One thread a core, one core a package; EDX is the x2APIC ID.
    add(TOPOLOGY_LEAF, Some(0), [0, 1, 1 << 8, 0]);
    add(TOPOLOGY_LEAF, Some(1), [0, 1, 1 | 2 << 8, 0]);
    add(TOPOLOGY_LEAF, Some(2), [0, 0, 2, 0]);
    add(XSAVE_LEAF, Some(0), [XCR0_ALL, XSAVE_SIZE, XSAVE_SIZE, 0]);
    add(XSAVE_LEAF, Some(1), [0; 4]);
    add(0x15, None, [1, 1, TSC_HZ as u32, 0]);
    add(LAST_BASIC, None, [MHZ, MHZ, 100, 0]);
    let [k0, k1, k2] = words(b"KVMKVMKVM\0\0\0");
    add(KVM, None, [KVM_FEATURE_LEAF, k0, k1, k2]);
    add(KVM_FEATURE_LEAF, None, [0; 4]);
    add(EXTENDED, None, [LAST_EXTENDED, 0, 0, 0]);
    add(EXTENDED + 1, None, [0; 4]);
    for (function, part) in (EXTENDED + 2..).zip(BRAND.chunks_exact(16)) {
        let mut output = [0; 4];
        for (to, word) in output.iter_mut().zip(part.as_chunks::<4>().0) {
            *to = u32::from_le_bytes(*word);
        }
        add(function, None, output);
    }
    // The 512 KiB again, in AMD's form, which Linux prints: 8 ways, lines of 64 bytes.
    add(EXTENDED + 6, None, [0, 0, 512 << 16 | 6 << 12 | 64, 0]);
    add(EXTENDED + 7, None, [0; 4]);
    add(LAST_EXTENDED, None, [u32::from(LINEAR_BITS) << 8 | u32::from(PHYSICAL_BITS), 0, 0, 0]);
    table
}

/// Deterministic cache parameters (SDM vol. 2A, CPUID leaf 4): type 1 data, 2 code, 3 both; 8 ways, lines of 64 bytes.
fn cache(kind: u32, level: u32, sets: u32) -> [u32; 4] {
    const SELF_INITIALISING: u32 = 1 << 8;
    [kind | level << 5 | SELF_INITIALISING, 7 << 22 | 63, sets - 1, 0]
}

fn words(text: &[u8; 12]) -> [u32; 3] {
    let mut words = [0; 3];
    for (to, word) in words.iter_mut().zip(text.as_chunks::<4>().0) {
        *to = u32::from_le_bytes(*word);
    }
    words
}

/// What of the processor's state shows in CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// APIC ID.
    pub apic_id: u32,
    /// IA32_APIC_BASE has the APIC enabled.
    pub apic_enabled: bool,
    /// CR4.OSXSAVE.
    pub osxsave: bool,
}

/// What CPUID answers from `table`.
///
/// A leaf beyond the last of its range answers as the last basic leaf does (SDM vol. 2A, CPUID, "INPUT EAX"); one
/// that is missing within it is zero.
#[must_use]
pub fn query(table: &[Leaf], function: u32, index: u32, state: Dynamic) -> [u32; 4] {
    let last = |range: u32| find(table, range, 0).map(|output| output[register::EAX]);
    let in_range = |range: u32| last(range).is_some_and(|last| (range..=last).contains(&function));
    let function = if in_range(0) || in_range(EXTENDED) || in_range(KVM) || function >> 28 == 4 {
        function
    } else {
        last(0).unwrap_or(0)
    };
    let mut output = find(table, function, index).unwrap_or([0; 4]);
    let [_, ebx, ecx, edx] = &mut output;
    match function {
        FEATURE_LEAF => {
            const OSXSAVE: u32 = 1 << 27;
            const APIC: u32 = 1 << 9;
            *ebx = *ebx & 0x00FF_FFFF | state.apic_id << 24;
            *ecx = if state.osxsave { *ecx | OSXSAVE } else { *ecx & !OSXSAVE };
            if !state.apic_enabled {
                *edx &= !APIC;
            }
        }
        // The x2APIC ID and the low byte of ECX on input are there at any level.
        TOPOLOGY_LEAF => {
            *edx = state.apic_id;
            *ecx = *ecx & !0xFF | index & 0xFF;
        }
        _ => {}
    }
    output
}

fn find(table: &[Leaf], function: u32, index: u32) -> Option<[u32; 4]> {
    table
        .iter()
        .find(|leaf| leaf.function == function && (!leaf.indexed || leaf.index == index))
        .map(|leaf| leaf.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Dynamic = Dynamic { apic_id: 3, apic_enabled: true, osxsave: true };

    #[test]
    fn what_is_implemented_is_announced_and_nothing_else() {
        assert_eq!(Features::of(&table()), implemented());
        assert_eq!(Features::of(&[]), Features::default());
    }

    #[test]
    fn a_bit_that_is_cut_from_the_table_is_no_feature() {
        let mut table = table();
        for leaf in table.iter_mut().filter(|leaf| leaf.function == 1) {
            leaf.output[register::ECX] &= !(1 << 25);
        }
        assert_eq!(Features::of(&table), Features { aes: false, ..implemented() });
    }

    #[test]
    fn it_is_an_intel_processor_on_kvm() {
        let table = table();
        let text = |function, order: [usize; 3]| -> Vec<u8> {
            let output = query(&table, function, 0, ON);
            order.into_iter().flat_map(|register| output[register].to_le_bytes()).collect()
        };
        assert_eq!(text(0, [1, 3, 2]), b"GenuineIntel");
        assert_eq!(text(0x4000_0000, [1, 2, 3]), b"KVMKVMKVM\0\0\0");
        let brand: Vec<u8> = (0x8000_0002..=0x8000_0004)
            .flat_map(|function| query(&table, function, 0, ON))
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(brand, BRAND);
        let [eax, ..] = query(&table, 1, 0, ON);
        let (family, model) = (eax >> 8 & 0xF, eax >> 12 & 0xF0 | eax >> 4 & 0xF);
        assert_eq!((family, model), (6, 0x36));
    }

    #[test]
    fn state_shows_where_the_architecture_says() {
        let table = table();
        let off = Dynamic { apic_id: 3, ..Dynamic::default() };
        let (on, off) = (query(&table, 1, 0, ON), query(&table, 1, 0, off));
        assert_eq!((on[1] >> 24, on[2] ^ off[2], on[3] ^ off[3]), (3, 1 << 27, 1 << 9));
        assert_eq!(query(&table, 0xB, 0, ON), [0, 1, 0x100, 3]);
        assert_eq!(query(&table, 0xB, 1, ON), [0, 1, 0x201, 3]);
        assert_eq!(query(&table, 0xB, 7, ON), [0, 0, 7, 3]);
    }

    #[test]
    fn leaves_beyond_the_end_answer_as_the_last_basic_one() {
        let table = table();
        let last = query(&table, LAST_BASIC, 0, ON);
        for function in [LAST_BASIC + 1, 0x7FFF_FFFF, LAST_EXTENDED + 1, u32::MAX] {
            assert_eq!(query(&table, function, 0, ON), last, "{function:#x}");
        }
        assert_eq!(query(&table, 9, 0, ON), [0; 4]);
        assert_eq!(query(&table, 7, 1, ON), [0; 4]);
        assert_eq!(query(&table, 0x4000_0010, 0, ON), [0; 4]);
    }

    #[test]
    fn no_leaf_is_there_twice() {
        let table = table();
        for (i, leaf) in table.iter().enumerate() {
            let same = |other: &&Leaf| (other.function, other.index) == (leaf.function, leaf.index);
            assert_eq!(table.iter().skip(i).filter(same).count(), 1, "{leaf:x?}");
        }
    }
}
