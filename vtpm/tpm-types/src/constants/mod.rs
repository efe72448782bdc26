//! Numbers of Part 2, chapters 6 and 7. Only those that bulla uses or reports.

mod algorithms;
mod codes;
mod handles;
mod properties;

pub use algorithms::{AlgId, HashAlg, alg, ecc};
pub use codes::{Rc, StartupType, cc, rc, st};
pub use handles::{Handle, ht, rh};
pub use properties::{cap, pt, pt_pcr};
