//! The program.
use bulla_boot_abi::progress::Milestone;
use bulla_guest_rt::{gate, main, progress};

main!(bootloader);

fn bootloader(_: u64) -> ! {
    progress(Milestone::BootloaderEntered);
    gate::halt()
}
