//! The agent in the guest: its end of the second serial port.
//!
//! The guest may run anything on that port, so whatever comes is an allegation. At most one nonce is at stake and one evidence
//! written; what is not understood is answered with a refusal and remembered for the end.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulla_agent::frame::{Message, Reason, Receiver};
use bulla_attest::HostKey;
use bulla_vmm::devices::serial::Peer;
use bulla_vmm::evidence;

use super::events::Events;
use super::take::{cannot_write, create};
use crate::cli::{Exit, Failure, Nonce};

/// What is wanted of the agent.
struct Order {
    path: PathBuf,
    /// Open from the start: the confined monitor opens none.
    file: File,
    nonce: Vec<u8>,
    key: Arc<HostKey>,
}

enum State {
    /// Before the hand-over there is no kernel, hence no agent.
    Early,
    /// TPMT_PUBLIC of the vTPM's attestation key.
    Expecting {
        ak_public: Vec<u8>,
    },
    Written,
    /// The host cannot write, for example.
    HostFailed(Failure),
    /// The agent has no evidence, or none that the monitor vouches for.
    Refused(String),
}

/// The evidence that an agent is to send: shared between the port, the progress handler and the end of `bulla run`.
pub(crate) struct AgentEvidence(Mutex<State>);

impl AgentEvidence {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel is about to run, in a machine whose vTPM has this attestation key.
    pub(crate) fn handed_over(&self, ak_public: Vec<u8>) {
        *self.state() = State::Expecting { ak_public };
    }

    /// Why there is no evidence, now that the VM is over.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let why = match std::mem::replace(&mut *self.state(), State::Written) {
            State::Written => return None,
            State::HostFailed(failure) => return Some(failure),
            State::Refused(why) => why,
            State::Early => "the kernel was not started".to_owned(),
            State::Expecting { .. } => "no agent sent any on the second serial port".to_owned(),
        };
        Some(Failure::new(Exit::GuestFailed, format!("no evidence from inside the guest: {why}")))
    }
}

/// What the second serial port leads to.
pub(crate) struct AgentLine {
    receiver: Receiver,
    order: Order,
    evidence: Arc<AgentEvidence>,
    events: Arc<Events>,
}

impl AgentLine {
    /// Makes the file, so that a bad one is known before the VM starts. It is empty until the evidence comes.
    pub(crate) fn prepare(
        path: &Path,
        nonce: &Nonce,
        key: &Arc<HostKey>,
        events: Arc<Events>,
    ) -> Result<(Self, Arc<AgentEvidence>), Failure> {
        let order = Order { path: path.to_owned(), file: create(path)?, nonce: nonce.0.clone(), key: Arc::clone(key) };
        let evidence = Arc::new(AgentEvidence(Mutex::new(State::Early)));
        Ok((Self { receiver: Receiver::new(), order, evidence: Arc::clone(&evidence), events }, evidence))
    }

    fn answer(&self, message: Message) -> Option<Message> {
        let decline = |why: &str| Some(Message::Declined(Reason::new(why)));
        let mut state = self.evidence.state();
        let State::Expecting { ak_public } = &*state else {
            return decline("no evidence is wanted, or none any more");
        };
        match message {
            Message::Hello => Some(Message::Challenge(self.order.nonce.clone())),
            Message::Evidence(claims) => match self.order.fulfil(ak_public, &claims) {
                Ok(()) => {
                    *state = State::Written;
                    drop(state);
                    self.events.agent_evidence(&self.order.path);
                    Some(Message::Done)
                }
                Err(refused) => {
                    let answer = decline(&refused.to_string());
                    *state = refused;
                    answer
                }
            },
            Message::Failed(reason) => {
                *state = State::Refused(reason.to_string());
                None
            }
            // What a monitor says.
            Message::Challenge(_) | Message::Done | Message::Declined(_) => None,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            // The guest need not know of the host's files.
            _ => f.write_str("the host failed"),
        }
    }
}

impl Order {
    /// Checks, signs and writes; what there is instead if that cannot be.
    fn fulfil(&self, ak_public: &[u8], claims: &[u8]) -> Result<(), State> {
        let evidence = evidence::from_agent(&self.nonce, ak_public, claims);
        let evidence = evidence.map_err(|error| State::Refused(error.to_string()))?;
        // The claims were read, so what can fail here is the host's key.
        let signed = evidence
            .sign(&self.key)
            .map_err(|e| State::HostFailed(Failure::because(Exit::HostFailed, "cannot sign evidence", &e)))?;
        (&self.file).write_all(&signed).map_err(|e| State::HostFailed(cannot_write(&self.path, &e)))
    }
}

impl Peer for AgentLine {
    fn receive(&mut self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut answers = Vec::new();
        while let Some(received) = self.receiver.take(&mut bytes) {
            let answer = match received {
                Ok(message) => self.answer(message),
                Err(error) => Some(Message::Declined(Reason::new(&error.to_string()))),
            };
            // Nonce and reasons are of sizes that a frame takes.
            answers.extend(answer.and_then(|message| message.to_frame().ok()).unwrap_or_default());
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_attest::SignedEvidence;

    const NONCE: [u8; 16] = [7; 16];
    const AK: [u8; 90] = [1; 90];

    fn line() -> (AgentLine, Arc<AgentEvidence>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(HostKey::generate().unwrap());
        let events = Arc::new(Events::new(false, None));
        let path = dir.path().join("ev.cbor");
        let (line, evidence) = AgentLine::prepare(&path, &Nonce(NONCE.to_vec()), &key, events).unwrap();
        (line, evidence, dir)
    }

    fn say(line: &mut AgentLine, message: &Message) -> Vec<Message> {
        let (answer, mut receiver) = (line.receive(&message.to_frame().unwrap()).unwrap(), Receiver::new());
        let mut bytes = &answer[..];
        std::iter::from_fn(|| receiver.take(&mut bytes)).map(Result::unwrap).collect()
    }

    fn claims(ak: &[u8]) -> Message {
        let pcrs = bulla_agent::tpm::QUOTE_PCRS.map(|pcr| (pcr, vec![0; 32])).to_vec();
        let parts = bulla_agent::claims::Parts {
            nonce: NONCE.to_vec(),
            ak_public: ak.to_vec(),
            quote: vec![2; 80],
            signature: vec![3; 72],
            pcrs,
            event_log: vec![4; 4096],
        };
        Message::Evidence(parts.to_claims())
    }

    #[test]
    fn an_agent_gets_the_nonce_and_its_evidence_is_signed_and_written_once() {
        let (mut line, evidence, dir) = line();
        assert!(matches!(say(&mut line, &Message::Hello)[..], [Message::Declined(_)]), "before the hand-over");
        evidence.handed_over(AK.to_vec());
        assert_eq!(say(&mut line, &Message::Hello), [Message::Challenge(NONCE.to_vec())]);
        assert_eq!(say(&mut line, &claims(&AK)), [Message::Done]);
        let written = std::fs::read(dir.path().join("ev.cbor")).unwrap();
        let signed = SignedEvidence::from_bytes(&written).unwrap();
        assert!(signed.verify_envelope());
        assert_eq!((signed.evidence().root, &signed.evidence().nonce[..]), (bulla_attest::Root::VmmHosted, &NONCE[..]));
        assert!(matches!(say(&mut line, &claims(&AK))[..], [Message::Declined(_)]), "once");
        assert_eq!(std::fs::read(dir.path().join("ev.cbor")).unwrap(), written);
        assert!(evidence.failure().is_none());
    }

    #[test]
    fn evidence_of_another_key_is_refused_and_not_written() {
        let (mut line, evidence, dir) = line();
        evidence.handed_over(AK.to_vec());
        assert!(matches!(say(&mut line, &claims(&[9; 90]))[..], [Message::Declined(_)]));
        assert!(matches!(say(&mut line, &Message::Hello)[..], [Message::Declined(_)]), "there is no second try");
        assert_eq!(std::fs::read(dir.path().join("ev.cbor")).unwrap(), b"");
        let failure = evidence.failure().unwrap();
        assert_eq!(failure.exit(), Exit::GuestFailed);
        assert!(failure.to_string().contains("attestation key"), "{failure}");
    }

    #[test]
    fn what_kept_the_agent_from_it_is_told_at_the_end() {
        let (mut line, evidence, _dir) = line();
        evidence.handed_over(AK.to_vec());
        assert_eq!(say(&mut line, &Message::Failed(Reason::new("no TPM"))), []);
        assert!(evidence.failure().unwrap().to_string().ends_with("no TPM"));
        let (_line, evidence, _dir) = self::line();
        evidence.handed_over(AK.to_vec());
        assert!(evidence.failure().unwrap().to_string().contains("no agent"));
    }

    #[test]
    fn a_guest_that_talks_nonsense_gets_short_answers() {
        let (mut line, evidence, _dir) = line();
        evidence.handed_over(AK.to_vec());
        let mut nonsense = b"\xB7bla\x01\x03\xFF\xFF\xFF\xFF".repeat(100);
        nonsense.extend(b"login: ".repeat(1000));
        let answer = line.receive(&nonsense).unwrap();
        assert!(answer.len() < 100 * 100, "{}", answer.len());
        assert_eq!(say(&mut line, &Message::Hello), [Message::Challenge(NONCE.to_vec())], "it still works");
    }
}
