//! The bundled guest kernel.
#![cfg_attr(bulla_guest, no_std, no_main)]

#[cfg(bulla_guest)]
mod tenant {
    use bulla_boot_abi::progress::Milestone;
    use bulla_guest_rt::{gate, main, println, progress};

    main!(tenant);

    fn tenant(_boot_params: u64) -> ! {
        println!("bulla tenant");
        progress(Milestone::TenantReady);
        gate::halt()
    }
}

/// On the host there is nothing to run; `bulla-firmware` builds the program for the guest.
#[cfg(not(bulla_guest))]
fn main() {}
