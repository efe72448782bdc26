//! What is not announced is #UD: the one place where that is decided.

use iced_x86::{Code as Id, CpuidFeature as F};

use crate::cpuid::Features;

/// Does a processor with these features know the instruction?
pub(super) fn announced(code: Id, features: &Features) -> bool {
    if matches!(code, Id::Vmcall | Id::Vmmcall) {
        // Not by VMX or SVM, which this processor has not, but by the leaf that says "KVMKVMKVM".
        return features.hypervisor;
    }
    // Shadow stacks are not there, but this one was made from what had been a no-operation (SDM vol. 2, RDSSPD).
    if matches!(code, Id::Rdsspd_r32 | Id::Rdsspq_r64) {
        return true;
    }
    code.cpuid_features().iter().all(|needed| known(*needed, features))
}

fn known(needed: F, f: &Features) -> bool {
    match needed {
        // What every processor of 64 bits has, and hints that are no-operations on those that do not know them.
        F::INTEL8086
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::X64
        | F::CPUID
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::RDPMC
        | F::PREFETCHW
        | F::CET_IBT
        | F::CLDEMOTE
        | F::PREFETCHWT1
        | F::WBNOINVD => true,
        // TZCNT and LZCNT without their features are BSF and BSR: their lowering sees to that.
        F::LZCNT => true,
        F::BMI1 => true,
        F::ADX => f.adx,
        F::AES => f.aes,
        F::BMI2 => f.bmi2,
        F::CLFLUSHOPT => f.clflushopt,
        F::CLFSH => f.clflush,
        F::CMOV => f.cmov,
        F::CMPXCHG16B => f.cx16,
        F::CX8 => f.cx8,
        F::FPU | F::FPU287 | F::FPU387 => f.fpu,
        F::FSGSBASE => f.fsgsbase,
        F::FXSR => f.fxsr,
        F::INVPCID => f.invpcid,
        F::MMX => f.mmx,
        F::MOVBE => f.movbe,
        F::MSR => f.msr,
        F::PCLMULQDQ => f.pclmulqdq,
        F::POPCNT => f.popcnt,
        F::RDRAND => f.rdrand,
        F::RDSEED => f.rdseed,
        F::RDTSCP => f.rdtscp,
        F::SEP => f.sep,
        F::SHA => f.sha,
        F::SMAP => f.smap,
        F::SSE => f.sse,
        F::SSE2 => f.sse2,
        F::SSE3 => f.sse3,
        F::SSE4_1 => f.sse4_1,
        F::SSE4_2 => f.sse4_2,
        F::SSSE3 => f.ssse3,
        F::SYSCALL => f.syscall,
        F::TSC => f.tsc,
        F::XSAVE => f.xsave,
        F::XSAVEC => f.xsavec,
        F::XSAVEOPT => f.xsaveopt,
        _ => false,
    }
}
