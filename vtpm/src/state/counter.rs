//! What counts, outside the state, how often it was opened: a counter that nobody can set back.
//!
//! Each start of a vTPM is an epoch. The state says in which epoch it was stored, and the counter how many there were.
//! An [`Anchor`](super::Anchor) has to be told of each state; a counter once per start, before the sandbox, which is all
//! that an NV counter of a TPM takes: it is slow, and wears out.

use std::io;

use super::OpenError;

/// A number that only goes up, in a place that whoever may set back the state cannot set back with it.
///
/// It is asked and advanced when a state is opened, and then dropped.
pub trait Counter {
    /// What it stands at; `None` when it has never counted.
    ///
    /// # Errors
    /// When it cannot tell: the state is then not opened.
    fn read(&mut self) -> io::Result<Option<u64>>;

    /// Counts one on. Answers what it stands at now, which is durable. The first number can be any.
    ///
    /// # Errors
    /// When it may not have counted: the state is then not opened.
    fn advance(&mut self) -> io::Result<u64>;
}

/// The epochs that a missing state may have lost resets in: each is taken to have had no more than this many.
const RESETS_OF_AN_EPOCH: u64 = 1 << 20;

/// Whether a state of this epoch (0: of none; `None`: there is no state) is one of the last start.
pub(super) fn judge(found: Option<u64>, counted: Option<u64>) -> Result<(), OpenError> {
    let fits = match (found, counted) {
        // Neither has begun.
        (None | Some(0), None) => true,
        // The state is stored before the counter advances: the power may have gone between the two.
        (Some(found), Some(counted)) => found == counted || is_ahead(found, counted),
        _ => false,
    };
    if fits { Ok(()) } else { Err(OpenError::Counted { found: found.unwrap_or(0), counted: counted.unwrap_or(0) }) }
}

/// Whether the counter was not advanced after this state.
fn is_ahead(found: u64, counted: u64) -> bool {
    counted.checked_add(1) == Some(found)
}

/// How many resets a state of this epoch may not know of.
pub(super) fn lost(found: u64, counted: u64) -> u64 {
    counted.saturating_sub(found).max(1).saturating_mul(RESETS_OF_AN_EPOCH).min(1 << 31)
}

/// The number of the epoch that begins: a state is to be stored with it, and then [`end_of_last`] called.
pub(super) fn next(counter: &mut dyn Counter, found: Option<u64>, counted: Option<u64>) -> io::Result<u64> {
    let stands = match counted {
        // One that is ahead is caught up with first: else a copy of it would be taken for the last one once more.
        Some(counted) if !found.is_some_and(|found| is_ahead(found, counted)) => counted,
        _ => counter.advance()?,
    };
    stands.checked_add(1).ok_or_else(|| io::Error::other("the counter is at its end"))
}

/// Ends the epochs before this one, whose first state is durable.
pub(super) fn end_of_last(counter: &mut dyn Counter, epoch: u64) -> io::Result<()> {
    let stands = counter.advance()?;
    if stands == epoch {
        return Ok(());
    }
    Err(io::Error::other(format!("it went to {stands}, not {epoch}: somebody else counts with it")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::path::Path;
    use std::rc::Rc;

    use tempfile::TempDir;
    use zeroize::Zeroizing;

    use super::super::{KeySource, Loaded, Options, Origin, STATE_FILE, open};
    use super::*;

    /// A counter that goes as a TPM's does, until the power does: after `power` more steps.
    #[derive(Clone, Default)]
    struct Steps {
        stands: Rc<Cell<u64>>,
        power: Rc<Cell<Option<u32>>>,
    }

    impl Counter for Steps {
        fn read(&mut self) -> io::Result<Option<u64>> {
            Ok(Some(self.stands.get()).filter(|&n| n > 0))
        }

        fn advance(&mut self) -> io::Result<u64> {
            match self.power.get() {
                Some(0) => return Err(io::Error::other("no power")),
                Some(n) => self.power.set(Some(n - 1)),
                None => {}
            }
            // A TPM's new counter begins beyond all that it ever had.
            self.stands.set(self.stands.get().max(40) + 1);
            Ok(self.stands.get())
        }
    }

    fn start(dir: &TempDir, counter: &Steps, accept_rollback: bool) -> Result<super::super::Opened, OpenError> {
        let options = Options {
            key: KeySource::Key(Zeroizing::new(vec![7; 32])),
            counter: Some(Box::new(counter.clone())),
            accept_rollback,
            ..Options::default()
        };
        open(dir.path(), options)
    }

    /// Starts, stores these states, and answers what was found.
    fn run(dir: &TempDir, counter: &Steps, states: &[&[u8]]) -> Option<Loaded> {
        let opened = start(dir, counter, false).expect("a state");
        states.iter().for_each(|state| opened.store().store(state).expect("stored"));
        opened.state
    }

    fn bytes(dir: &Path) -> Vec<u8> {
        fs::read(dir.join(STATE_FILE)).expect("the file")
    }

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_state_of_an_earlier_start_is_refused_and_one_of_the_last_is_not() {
        let (dir, counter) = (folder(), Steps::default());
        assert!(run(&dir, &counter, &[b"one", b"two"]).is_none());
        let first = bytes(dir.path());
        assert_eq!(
            run(&dir, &counter, &[b"three"]).map(|s| (s.permanent.to_vec(), s.origin)),
            Some((b"two".to_vec(), Origin::Here))
        );
        let second = bytes(dir.path());
        assert_eq!(counter.stands.get(), 43, "41: begun, then one for each start");

        fs::write(dir.path().join(STATE_FILE), &first).expect("set back");
        let refused = start(&dir, &counter, false).expect_err("refused");
        assert!(matches!(refused, OpenError::Counted { found: 42, counted: 43 }), "{refused}");
        assert_eq!(refused.exit(), bulla_vtpm_client::Exit::RolledBack);
        fs::write(dir.path().join(STATE_FILE), &second).expect("the last one");
        assert_eq!(run(&dir, &counter, &[]).map(|s| s.permanent.to_vec()), Some(b"three".to_vec()));

        fs::remove_file(dir.path().join(STATE_FILE)).expect("removed");
        assert!(matches!(start(&dir, &counter, false), Err(OpenError::Counted { found: 0, counted: 44 })));
        // Another counter, as of another machine's TPM, is none of this state's.
        fs::write(dir.path().join(STATE_FILE), &second).expect("written");
        assert!(matches!(start(&dir, &Steps::default(), false), Err(OpenError::Counted { found: 43, counted: 0 })));
    }

    #[test]
    fn an_accepted_rollback_is_shown_even_if_the_power_goes_before_the_first_state() {
        let (dir, counter) = (folder(), Steps::default());
        run(&dir, &counter, &[b"one"]);
        let first = bytes(dir.path());
        run(&dir, &counter, &[b"two"]);
        fs::write(dir.path().join(STATE_FILE), &first).expect("set back");
        let opened = start(&dir, &counter, true).expect("accepted");
        assert_eq!(opened.state.as_ref().map(|s| s.origin), Some(Origin::RolledBack { lost: 1 << 20 }));
        drop(opened);
        let again = run(&dir, &counter, &[b"three"]).expect("a state");
        assert_eq!(again.origin, Origin::Copied, "nobody has stored what shows it yet");
        assert_eq!(run(&dir, &counter, &[]).map(|s| s.origin), Some(Origin::Here));
    }

    /// Power goes between the state of a new epoch and the counter.
    #[test]
    fn a_start_that_was_cut_off_is_no_rollback_and_its_copy_is_one() {
        let (dir, counter) = (folder(), Steps::default());
        run(&dir, &counter, &[b"one"]);
        counter.power.set(Some(0));
        assert!(matches!(start(&dir, &counter, false), Err(OpenError::Counter(_))));
        let copy = bytes(dir.path());
        counter.power.set(None);
        assert_eq!(run(&dir, &counter, &[b"two"]).map(|s| s.permanent.to_vec()), Some(b"one".to_vec()));
        fs::write(dir.path().join(STATE_FILE), copy).expect("set back");
        assert!(matches!(start(&dir, &counter, false), Err(OpenError::Counted { .. })));
    }

    /// A new state has nothing to be stored until its TPM is made, in the sandbox.
    #[test]
    fn a_new_state_that_was_cut_off_is_still_new() {
        let (dir, counter) = (folder(), Steps::default());
        for power in [1, 2, 2] {
            counter.power.set(Some(power));
            drop(start(&dir, &counter, false));
        }
        counter.power.set(None);
        assert!(run(&dir, &counter, &[b"one"]).is_none());
        assert_eq!(run(&dir, &counter, &[]).map(|s| s.permanent.to_vec()), Some(b"one".to_vec()));
    }

    #[test]
    fn what_was_suspended_is_still_there_after_the_epoch_began() {
        let (dir, counter) = (folder(), Steps::default());
        let opened = start(&dir, &counter, false).expect("new");
        opened.store().suspend(b"permanent", b"volatile").expect("stored");
        drop(opened);
        for _ in 0..2 {
            let loaded = run(&dir, &counter, &[]).expect("a state");
            assert_eq!(loaded.volatile.map(|v| v.to_vec()), Some(b"volatile".to_vec()));
        }
    }
}
