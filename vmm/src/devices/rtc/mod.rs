//! CMOS real-time clock: MC146818 at ports 0x70 and 0x71, with the century at index 0x32.
//!
//! Source: Motorola MC146818A data sheet. It shows the host's time of day (UTC) plus what the guest has changed.
//! Alarm and update-ended interrupts work; the periodic interrupt and the square wave do not exist (kernels have
//! better timers), and "update in progress" never reads as set, since an update takes no time here.

mod calendar;
mod device;
mod state;
#[cfg(test)]
mod tests;

pub use device::{RTC_LEN, RTC_PORTS, Rtc};
pub use state::RtcState;
