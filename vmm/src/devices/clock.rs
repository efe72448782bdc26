//! Time as devices see it: injected, so that tests and snapshots decide what time it is.

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// The machine's clock.
pub trait Clock: Send + Sync {
    /// Nanoseconds of VM time: never goes back, stands still while the VM is stopped, and goes on in a restored VM from
    /// where it was saved.
    fn now(&self) -> u64;

    /// Nanoseconds since 1970-01-01 00:00 UTC, as the host believes.
    fn wall(&self) -> u64;

    /// The next deadline of some device (see [`super::Platform::next_deadline`]) may have moved closer: whoever
    /// sleeps until it must look again. Called with device locks held, so it may only leave a note.
    fn deadline_changed(&self) {}
}

/// `ns × hz / 10⁹` without overflow in between: ticks of a clock of `hz` in `ns`.
pub(crate) fn ns_to_ticks(ns: u64, hz: u64) -> u64 {
    let ticks = u128::from(ns) * u128::from(hz) / u128::from(NS_PER_S);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The first nanosecond at which `ticks` ticks of a clock of `hz` are complete.
pub(crate) fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    let ns = (u128::from(ticks) * u128::from(NS_PER_S)).div_ceil(u128::from(hz.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_inverse_at_tick_boundaries() {
        for hz in [1_193_182, 3_579_545, 1, NS_PER_S] {
            for ticks in [0, 1, 2, 65_535, 1 << 32] {
                let ns = ticks_to_ns(ticks, hz);
                assert_eq!(ns_to_ticks(ns, hz), ticks);
                assert!(ns == 0 || ns_to_ticks(ns - 1, hz) < ticks);
            }
        }
    }

    #[test]
    fn conversions_saturate() {
        assert_eq!(ticks_to_ns(u64::MAX, 1), u64::MAX);
        assert_eq!(ns_to_ticks(u64::MAX, u64::MAX), u64::MAX);
    }
}
