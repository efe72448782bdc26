//! The software processor against the processor of this machine.
//!
//! [`generate`] makes cases: an instruction or a few, and a state to start from. [`host`] has them executed by the
//! processor of this machine, in a confined [`worker`] process; [`soft`] by `bulla_cpu`. [`compare`] says where the two
//! ended differently, leaving out what the architecture leaves undefined ([`rules`]).

pub mod case;
pub mod compare;
pub mod generate;
pub mod host;
pub mod layout;
pub mod rng;
pub mod rules;
pub mod run;
pub mod soft;
pub mod worker;
