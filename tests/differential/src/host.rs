//! The processor of this machine, through a worker process (see [`crate::worker`]).

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::case::{Case, Outcome, word};

/// Cases of a batch: as many as a pipe holds, so that sending them never waits for the worker.
pub const MAX_BATCH: usize = 64;

/// Why there are no outcomes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The worker cannot be started.
    #[error("{program}: {error}")]
    Start {
        /// Its file.
        program: PathBuf,
        /// What was wrong.
        error: io::Error,
    },
    /// The worker dies whatever it is given.
    #[error("the worker ends without an outcome, also for a case that has none of its own: {0}")]
    Worker(String),
}

struct Worker {
    child: Child,
    input: ChildStdin,
    output: io::BufReader<ChildStdout>,
}

/// The processor of this machine.
pub struct Host {
    program: PathBuf,
    worker: Worker,
    /// Workers that a case took with it.
    pub deaths: u64,
}

impl Host {
    /// Starts a worker: `program worker`.
    pub fn start(program: PathBuf) -> Result<Self, Error> {
        let worker = spawn(&program)?;
        Ok(Self { program, worker, deaths: 0 })
    }

    /// Hands a batch of at most [`MAX_BATCH`] cases to the worker, without waiting for it. A worker that is dead is
    /// noticed in [`Host::outcomes`].
    pub fn send(&mut self, cases: &[Case]) {
        let mut bytes = Vec::with_capacity(8 + cases.len() * Case::SIZE);
        bytes.extend_from_slice(&(cases.len() as u64).to_le_bytes());
        for case in cases {
            case.write(&mut bytes);
        }
        // An error here means that the worker is dead, and then reading fails as well.
        let _ = self.worker.input.write_all(&bytes);
    }

    /// The outcomes of a batch that was sent. With a worker that died, the cases are run again one by one, and those
    /// that end a worker are marked so.
    ///
    /// `next` is the batch that was sent behind this one, if one was: it is sent again to a new worker.
    pub fn outcomes(&mut self, cases: &[Case], next: Option<&[Case]>) -> Result<Vec<Outcome>, Error> {
        if let Ok(outcomes) = self.receive(cases.len()) {
            return Ok(outcomes);
        }
        self.restart()?;
        let mut outcomes = Vec::with_capacity(cases.len());
        for case in cases {
            self.send(std::slice::from_ref(case));
            match self.receive(1) {
                Ok(mut one) => outcomes.append(&mut one),
                Err(_) => {
                    self.deaths += 1;
                    outcomes.push(Outcome::died(case));
                    self.restart()?;
                }
            }
        }
        if let Some(next) = next {
            self.send(next);
        }
        Ok(outcomes)
    }

    /// The outcome of one case.
    pub fn run(&mut self, case: &Case) -> Result<Outcome, Error> {
        self.send(std::slice::from_ref(case));
        let mut outcomes = self.outcomes(std::slice::from_ref(case), None)?;
        outcomes.pop().ok_or_else(|| Error::Worker("no outcome".to_owned()))
    }

    fn restart(&mut self) -> Result<(), Error> {
        let _ = self.worker.child.kill();
        let _ = self.worker.child.wait();
        self.worker = spawn(&self.program)?;
        Ok(())
    }

    fn receive(&mut self, count: usize) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(count);
        let input = &mut self.worker.output;
        let mut head = [0; Outcome::HEAD];
        let mut changes = Vec::new();
        for _ in 0..count {
            input.read_exact(&mut head)?;
            let (mut outcome, count) = Outcome::read(&head);
            changes.resize(count.min(1 << 13) * 16, 0);
            input.read_exact(&mut changes)?;
            let mut rest = changes.as_slice();
            while !rest.is_empty() {
                outcome.changes.push((word(&mut rest) as u32, word(&mut rest)));
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.worker.child.kill();
        let _ = self.worker.child.wait();
    }
}

fn spawn(program: &PathBuf) -> Result<Worker, Error> {
    let start = |error| Error::Start { program: program.clone(), error };
    let mut child =
        Command::new(program).arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(start)?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::Worker("no pipes".to_owned()));
    };
    Ok(Worker { child, input, output: io::BufReader::with_capacity(1 << 16, output) })
}
