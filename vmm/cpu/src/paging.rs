//! Page walks (SDM vol. 3A, chapter 4).

use crate::core::{Core, cr};
use crate::cpuid::PHYSICAL_BITS;
use crate::fault::{R, vector};
use crate::mem::{Access, Mmu, PAGE};

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Guest-physical address of the 4 KiB page.
    pub(crate) gpa: u64,
    /// Bytes of the page it is a piece of.
    pub(crate) size: u64,
}

/// Bits of paging-structure entries.
mod entry {
    pub(super) const P: u64 = 1 << 0;
    pub(super) const W: u64 = 1 << 1;
    pub(super) const U: u64 = 1 << 2;
    pub(super) const A: u64 = 1 << 5;
    pub(super) const D: u64 = 1 << 6;
    pub(super) const PS: u64 = 1 << 7;
    pub(super) const NX: u64 = 1 << 63;
}

/// Bits of a page fault's error code (SDM vol. 3A, §4.7).
mod error {
    pub(super) const P: u32 = 1 << 0;
    pub(super) const W: u32 = 1 << 1;
    pub(super) const U: u32 = 1 << 2;
    pub(super) const RSVD: u32 = 1 << 3;
    pub(super) const I: u32 = 1 << 4;
}

/// Physical address bits of an 8-byte entry that must be 0.
const BEYOND: u64 = ((1 << 52) - 1) & !((1 << PHYSICAL_BITS) - 1);
/// Address bits of an 8-byte entry.
const ADDRESS: u64 = ((1 << PHYSICAL_BITS) - 1) & !(PAGE - 1);

/// What the walk has gathered from the levels above.
struct Rights {
    writable: bool,
    user: bool,
    no_execute: bool,
}

impl Core {
    /// Translates with the rights `mmu`.
    ///
    /// # Errors
    /// #PF, with CR2 set.
    pub(crate) fn walk(&mut self, mmu: Mmu, la: u64, access: Access) -> R<Page> {
        if self.cr0 & cr::CR0_PG == 0 {
            return Ok(Page { gpa: la & !(PAGE - 1), size: PAGE });
        }
        if self.cr4 & cr::CR4_PAE == 0 {
            return self.walk_32(mmu, la, access);
        }
        let mut rights = Rights { writable: true, user: true, no_execute: false };
        let (mut table, mut level) = if self.long_mode() {
            (self.cr3 & ADDRESS, 4)
        } else {
            let pdpte = self.pdptes[(la >> 30 & 3) as usize];
            if pdpte & entry::P == 0 {
                return Err(self.page_fault(mmu, la, access, 0));
            }
            (pdpte & ADDRESS, 2)
        };
        loop {
            let shift = 12 + 9 * (level - 1);
            let at = table + (la >> shift & 0x1FF) * 8;
            let Some(mut e) = self.tlb.map().read::<u64>(at) else {
                // Nothing answers there: the bus reads ones, which have reserved bits set.
                return Err(self.page_fault(mmu, la, access, error::P | error::RSVD));
            };
            if e & entry::P == 0 {
                return Err(self.page_fault(mmu, la, access, 0));
            }
            let nxe = self.efer & cr::EFER_NXE != 0;
            let leaf = level == 1 || e & entry::PS != 0 && level <= 3;
            let mut reserved = BEYOND;
            if !nxe {
                reserved |= entry::NX;
            }
            if !self.long_mode() {
                reserved |= 0x7FF << 52;
            }
            if level == 4 {
                reserved |= entry::PS;
            }
            if leaf && level > 1 {
                // Address bits below the page's size, PAT (bit 12) excepted.
                reserved |= ((1 << shift) - 1) & !0x1FFF;
            }
            if level == 3 && leaf && !self.features.gib_pages() {
                reserved |= entry::PS;
            }
            if e & reserved != 0 {
                return Err(self.page_fault(mmu, la, access, error::P | error::RSVD));
            }
            rights.writable &= e & entry::W != 0;
            rights.user &= e & entry::U != 0;
            rights.no_execute |= nxe && e & entry::NX != 0;
            if leaf && !self.allowed(mmu, &rights, access) {
                return Err(self.page_fault(mmu, la, access, error::P));
            }
            let wanted = entry::A | if leaf && access == Access::Write { entry::D } else { 0 };
            if e & wanted != wanted {
                if self.set_bits::<u64>(at, e, e | wanted) == Some(false) {
                    // Someone changed the entry meanwhile: look at it again.
                    return self.walk(mmu, la, access);
                }
                e |= wanted;
            }
            if leaf {
                let size = 1u64 << shift;
                let gpa = e & ADDRESS & !(size - 1) | la & (size - 1) & !(PAGE - 1);
                return Ok(Page { gpa, size });
            }
            table = e & ADDRESS;
            level -= 1;
        }
    }

    /// 32-bit paging, with 4 MiB pages and PSE-36 (SDM vol. 3A, §4.3).
    fn walk_32(&mut self, mmu: Mmu, la: u64, access: Access) -> R<Page> {
        let mut rights = Rights { writable: true, user: true, no_execute: false };
        let mut table = self.cr3 & 0xFFFF_F000;
        for level in [2u32, 1] {
            let at = table + (la >> (2 + 10 * level) & 0x3FF) * 4;
            let Some(e) = self.tlb.map().read::<u32>(at).map(u64::from) else {
                return Err(self.page_fault(mmu, la, access, error::P));
            };
            if e & entry::P == 0 {
                return Err(self.page_fault(mmu, la, access, 0));
            }
            let leaf = level == 1 || e & entry::PS != 0 && self.cr4 & cr::CR4_PSE != 0;
            // PSE-36: bits 13–20 are address bits 32–39; bit 21 is reserved.
            if leaf && level == 2 && e & 1 << 21 != 0 {
                return Err(self.page_fault(mmu, la, access, error::P | error::RSVD));
            }
            rights.writable &= e & entry::W != 0;
            rights.user &= e & entry::U != 0;
            if leaf && !self.allowed(mmu, &rights, access) {
                return Err(self.page_fault(mmu, la, access, error::P));
            }
            let wanted = entry::A | if leaf && access == Access::Write { entry::D } else { 0 };
            if e & wanted != wanted && self.set_bits::<u32>(at, e as u32, (e | wanted) as u32) == Some(false) {
                return self.walk_32(mmu, la, access);
            }
            if leaf {
                return Ok(if level == 2 {
                    let base = e & 0xFFC0_0000 | (e >> 13 & 0xFF) << 32;
                    Page { gpa: base | la & 0x3F_F000, size: 1 << 22 }
                } else {
                    Page { gpa: e & 0xFFFF_F000, size: PAGE }
                });
            }
            table = e & 0xFFFF_F000;
        }
        Err(self.page_fault(mmu, la, access, 0))
    }

    fn set_bits<T: crate::mem::Plain>(&mut self, at: u64, old: T, new: T) -> Option<bool> {
        if self.code.holds(at) {
            self.code.written(at, T::BYTES);
            self.leave_block = true;
        }
        // A table in read-only memory cannot be updated; the walk goes on with it as it is.
        self.tlb.map().swap_if(at, old, new)
    }

    /// Access rights (SDM vol. 3A, §4.6.1).
    fn allowed(&self, mmu: Mmu, rights: &Rights, access: Access) -> bool {
        let wp = self.cr0 & cr::CR0_WP != 0;
        let supervisor_on_user_page = rights.user && matches!(mmu, Mmu::Supervisor | Mmu::SupervisorAc);
        let smap = self.cr4 & cr::CR4_SMAP != 0 && mmu == Mmu::Supervisor && supervisor_on_user_page;
        match mmu {
            Mmu::User | Mmu::UserAligned => {
                rights.user
                    && match access {
                        Access::Read => true,
                        Access::Write => rights.writable,
                        Access::Fetch => !rights.no_execute,
                    }
            }
            Mmu::Supervisor | Mmu::SupervisorAc => match access {
                Access::Read => !smap,
                Access::Write => !smap && (rights.writable || !wp),
                Access::Fetch => !(rights.no_execute || self.cr4 & cr::CR4_SMEP != 0 && supervisor_on_user_page),
            },
        }
    }

    #[cold]
    fn page_fault(&mut self, mmu: Mmu, la: u64, access: Access, mut code: u32) -> crate::fault::Fault {
        if access == Access::Write {
            code |= error::W;
        }
        if matches!(mmu, Mmu::User | Mmu::UserAligned) {
            code |= error::U;
        }
        let pae_nx = self.cr4 & cr::CR4_PAE != 0 && self.efer & cr::EFER_NXE != 0;
        if access == Access::Fetch && (pae_nx || self.cr4 & cr::CR4_SMEP != 0) {
            code |= error::I;
        }
        self.pending_cr2 = la;
        self.raise_with(vector::PF, code)
    }
}
