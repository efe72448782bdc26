//! x87 and SSE state, through the XSAVE image: `KVM_GET_FPU` and `KVM_SET_FPU` leave MXCSR out.
//!
//! Rule for the unsafe code here: `KVM_SET_XSAVE` reads as many bytes as the vCPU's state has, and that is at most the
//! 4096 of `kvm_xsave` unless this process asks the kernel for larger, dynamically enabled features
//! (`ARCH_REQ_XCOMP_GUEST_PERM`). bulla never does.
#![expect(unsafe_code, reason = "the size that KVM_SET_XSAVE reads is a matter of the rule above")]

use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;

use crate::backend::{FpuState, VcpuError};

fn host(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VcpuError {
    move |e| VcpuError::Host { what, source: e.into() }
}

/// Offsets in the legacy region of the XSAVE image (SDM vol. 1, §13.4.1) and its header (§13.4.2).
mod field {
    pub(super) const FCW: usize = 0;
    pub(super) const FSW: usize = 2;
    pub(super) const FTW: usize = 4;
    pub(super) const FOP: usize = 6;
    pub(super) const FIP: usize = 8;
    pub(super) const FDP: usize = 16;
    pub(super) const MXCSR: usize = 24;
    pub(super) const ST: usize = 32;
    pub(super) const XMM: usize = 160;
    pub(super) const XSTATE_BV: usize = 512;
}

/// x87 and SSE.
const XSTATE_BV_LEGACY: u64 = 3;

/// The image, by bytes.
struct Image(kvm_xsave);

impl Image {
    fn byte(&self, offset: usize) -> u8 {
        self.0.region.get(offset / 4).map_or(0, |word| word.to_le_bytes()[offset % 4])
    }

    fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|i| self.byte(offset + i))
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(word) = self.0.region.get_mut(at / 4) {
                let mut parts = word.to_le_bytes();
                parts[at % 4] = *byte;
                *word = u32::from_le_bytes(parts);
            }
        }
    }
}

/// Reads the state.
pub(super) fn get(vcpu: &VcpuFd) -> Result<FpuState, VcpuError> {
    let image = Image(vcpu.get_xsave().map_err(host("read FPU registers"))?);
    Ok(FpuState {
        st: std::array::from_fn(|i| image.get(field::ST + 16 * i)),
        xmm: std::array::from_fn(|i| image.get(field::XMM + 16 * i)),
        fcw: u16::from_le_bytes(image.get(field::FCW)),
        fsw: u16::from_le_bytes(image.get(field::FSW)),
        ftw: image.byte(field::FTW),
        fop: u16::from_le_bytes(image.get(field::FOP)),
        fip: u64::from_le_bytes(image.get(field::FIP)),
        fdp: u64::from_le_bytes(image.get(field::FDP)),
        mxcsr: u32::from_le_bytes(image.get(field::MXCSR)),
    })
}

/// Sets the state; what lies beyond x87 and SSE stays.
pub(super) fn set(vcpu: &VcpuFd, state: &FpuState) -> Result<(), VcpuError> {
    let mut image = Image(vcpu.get_xsave().map_err(host("read FPU registers"))?);
    for (i, register) in state.st.iter().enumerate() {
        image.put(field::ST + 16 * i, register);
    }
    for (i, register) in state.xmm.iter().enumerate() {
        image.put(field::XMM + 16 * i, register);
    }
    image.put(field::FCW, &state.fcw.to_le_bytes());
    image.put(field::FSW, &state.fsw.to_le_bytes());
    image.put(field::FTW, &[state.ftw]);
    image.put(field::FOP, &state.fop.to_le_bytes());
    image.put(field::FIP, &state.fip.to_le_bytes());
    image.put(field::FDP, &state.fdp.to_le_bytes());
    image.put(field::MXCSR, &state.mxcsr.to_le_bytes());
    let present = u64::from_le_bytes(image.get(field::XSTATE_BV)) | XSTATE_BV_LEGACY;
    image.put(field::XSTATE_BV, &present.to_le_bytes());
    // SAFETY: the rule at the top of this module.
    unsafe { vcpu.set_xsave(&image.0) }.map_err(host("set FPU registers"))
}
