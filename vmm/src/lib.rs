//! The bulla monitor: machine, KVM backend, measured start, and the program bulla
