//! The host's end of the mailbox: asking things of the bundled tenant ([`bulla_boot_abi::mailbox`]).

use std::time::{Duration, Instant};

use bulla_boot_abi::mailbox::{BOX_HEADER, BOX_LEN, MESSAGE_MAX, MessageError, Reply, Request};
use bulla_boot_abi::map::MAILBOX_SIZE;

use crate::shared::{SharedError, SharedRegion};

const SEQUENCE: usize = 0;
const LENGTH: usize = 4;
/// How long to sleep between two looks at the box.
const POLL: Duration = Duration::from_micros(200);

/// A mailbox shared with one tenant.
#[derive(Debug)]
pub struct Mailbox {
    region: SharedRegion,
    sequence: u32,
}

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The shared memory could not be made.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// Longer than a box.
    #[error("request of {len} bytes is longer than a mailbox message may be ({MESSAGE_MAX})")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The tenant did not answer in time.
    #[error("the tenant did not answer within {0:?}")]
    Timeout(Duration),
    /// The VM stopped before it answered.
    #[error("the VM stopped before the tenant answered")]
    Gone,
    /// The reply cannot be read: tenant at fault.
    #[error("the tenant's reply is malformed: {0}")]
    Reply(#[from] MessageError),
    /// The tenant says it could not be done.
    #[error("the tenant refused: {0}")]
    Refused(String),
    /// A reply of another kind than was asked for: tenant at fault.
    #[error("the tenant answered {0} with something else")]
    Unexpected(&'static str),
}

impl Mailbox {
    /// Makes an empty mailbox.
    ///
    /// # Errors
    /// [`MailboxError::Shared`].
    pub fn create() -> Result<Self, MailboxError> {
        Ok(Self { region: SharedRegion::create("bulla-mailbox", MAILBOX_SIZE)?, sequence: 0 })
    }

    /// The region to give to the VM.
    #[must_use]
    pub fn region(&self) -> &SharedRegion {
        &self.region
    }

    /// Puts a request into the box without waiting for the reply; [`Self::wait`] takes it.
    ///
    /// # Errors
    /// [`MailboxError::TooLong`].
    pub fn post(&mut self, request: &Request) -> Result<(), MailboxError> {
        let message = request.encode();
        if message.len() > MESSAGE_MAX {
            return Err(MailboxError::TooLong { len: message.len() });
        }
        self.region.write(BOX_HEADER, &message)?;
        self.region.store_u32(LENGTH, message.len() as u32)?;
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.region.store_u32(SEQUENCE, self.sequence)?;
        Ok(())
    }

    /// Waits for the reply to the last request. `alive` is asked between looks and says whether the VM still runs.
    ///
    /// # Errors
    /// [`MailboxError`]; a reply that says "failed" is [`MailboxError::Refused`].
    pub fn wait(&mut self, timeout: Duration, mut alive: impl FnMut() -> bool) -> Result<Reply, MailboxError> {
        let start = Instant::now();
        while self.region.load_u32(BOX_LEN + SEQUENCE)? != self.sequence {
            if !alive() {
                return Err(MailboxError::Gone);
            }
            if start.elapsed() > timeout {
                return Err(MailboxError::Timeout(timeout));
            }
            std::thread::sleep(POLL);
        }
        let len = self.region.load_u32(BOX_LEN + LENGTH)? as usize;
        if len > MESSAGE_MAX {
            return Err(MessageError::Length.into());
        }
        match Reply::decode(&self.region.read(BOX_LEN + BOX_HEADER, len)?)? {
            Reply::Failed { reason } => Err(MailboxError::Refused(reason)),
            reply => Ok(reply),
        }
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// As [`Self::post`] and [`Self::wait`].
    pub fn ask(
        &mut self,
        request: &Request,
        timeout: Duration,
        alive: impl FnMut() -> bool,
    ) -> Result<Reply, MailboxError> {
        self.post(request)?;
        self.wait(timeout, alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the tenant: answers the request that is in the box.
    fn answer(mailbox: &Mailbox, reply: &[u8], claimed_len: u32) {
        let r = mailbox.region();
        let sequence = r.load_u32(SEQUENCE).unwrap();
        r.write(BOX_LEN + BOX_HEADER, reply).unwrap();
        r.store_u32(BOX_LEN + LENGTH, claimed_len).unwrap();
        r.store_u32(BOX_LEN + SEQUENCE, sequence).unwrap();
    }

    #[test]
    fn a_request_is_seen_and_its_reply_taken() {
        let mut mailbox = Mailbox::create().unwrap();
        mailbox.post(&Request::Recv).unwrap();
        let len = mailbox.region().load_u32(LENGTH).unwrap() as usize;
        assert_eq!(Request::decode(&mailbox.region().read(BOX_HEADER, len).unwrap()), Ok(Request::Recv));
        let reply = Reply::Message { message: b"hi".to_vec() };
        answer(&mailbox, &reply.encode(), reply.encode().len() as u32);
        assert_eq!(mailbox.wait(Duration::from_secs(1), || true).unwrap(), reply);
    }

    #[test]
    fn a_lying_length_is_an_error_not_a_read_past_the_box() {
        let mut mailbox = Mailbox::create().unwrap();
        mailbox.post(&Request::Recv).unwrap();
        answer(&mailbox, b"", u32::MAX);
        let got = mailbox.wait(Duration::from_secs(1), || true);
        assert!(matches!(got, Err(MailboxError::Reply(MessageError::Length))), "{got:?}");
    }

    #[test]
    fn a_stopped_vm_is_noticed() {
        let mut mailbox = Mailbox::create().unwrap();
        let got = mailbox.ask(&Request::Recv, Duration::from_secs(60), || false);
        assert!(matches!(got, Err(MailboxError::Gone)), "{got:?}");
    }

    #[test]
    fn a_request_longer_than_the_box_is_refused() {
        let mut mailbox = Mailbox::create().unwrap();
        let got = mailbox.post(&Request::Send { message: vec![0; MESSAGE_MAX] });
        assert!(matches!(got, Err(MailboxError::TooLong { .. })), "{got:?}");
    }
}
