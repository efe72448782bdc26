//! The tenant's end of the mailbox ([`bulla_boot_abi::mailbox`]).
//!
//! The memory belongs to the host. A message is copied out once, word by word, and only the copy is looked at.

use alloc::string::ToString;
use alloc::vec::Vec;

use bulla_boot_abi::mailbox::{BOX_HEADER, BOX_LEN, MESSAGE_MAX, MessageError, Reply, Request};
use bulla_channel::Region;

const WORD: usize = 8;
const REPLY_BOX: usize = BOX_LEN / WORD;
const MESSAGE: usize = BOX_HEADER / WORD;

/// The mailbox.
#[derive(Debug)]
pub struct Mailbox<R> {
    region: R,
    seen: u32,
}

impl<R: Region> Mailbox<R> {
    /// The mailbox in `region`, which must be [`bulla_boot_abi::map::MAILBOX_SIZE`] bytes.
    #[must_use]
    pub const fn new(region: R) -> Self {
        Self { region, seen: 0 }
    }

    /// The next request, if there is one; it must be answered with [`Mailbox::reply`] before the next is taken.
    ///
    /// # Errors
    /// [`MessageError`] for a request that cannot be read; it wants an answer too.
    pub fn poll(&mut self) -> Result<Option<Request>, MessageError> {
        // Sequence number and length are one word: the host writes the length first.
        let head = self.region.load_acquire(0).ok_or(MessageError::Length)?;
        let (sequence, len) = (head as u32, (head >> 32) as usize);
        if sequence == self.seen || sequence == 0 {
            return Ok(None);
        }
        self.seen = sequence;
        if len > MESSAGE_MAX {
            return Err(MessageError::Length);
        }
        let mut message = Vec::with_capacity(len.next_multiple_of(WORD));
        for word in 0..len.div_ceil(WORD) {
            let word = self.region.load(MESSAGE + word).ok_or(MessageError::Length)?;
            message.extend(word.to_le_bytes());
        }
        message.truncate(len);
        Request::decode(&message).map(Some)
    }

    /// Answers the request last taken. A reply that does not fit is replaced by one that says so.
    pub fn reply(&mut self, reply: &Reply) {
        let mut message = reply.encode();
        if message.len() > MESSAGE_MAX {
            let reason = MessageTooLong(message.len()).to_string();
            message = Reply::Failed { reason }.encode();
        }
        for (index, chunk) in (REPLY_BOX + MESSAGE..).zip(message.chunks(WORD)) {
            let mut word = [0; WORD];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            // A mailbox that is too small loses words; the host made it so.
            let _lost = self.region.store(index, u64::from_le_bytes(word));
        }
        let head = u64::from(self.seen) | (message.len() as u64) << 32;
        let _lost = self.region.store_release(REPLY_BOX, head);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a reply of {0} bytes does not fit the mailbox")]
struct MessageTooLong(usize);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use bulla_channel::HeapRegion;

    const WORDS: usize = 2 * BOX_LEN / WORD;

    fn post(region: &HeapRegion, sequence: u32, message: &[u8], claimed: usize) {
        for (index, chunk) in (MESSAGE..).zip(message.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            region.store(index, u64::from_le_bytes(word)).unwrap();
        }
        region.store_release(0, u64::from(sequence) | (claimed as u64) << 32).unwrap();
    }

    fn answer(region: &HeapRegion) -> (u32, Reply) {
        let head = region.load(REPLY_BOX).unwrap();
        let len = (head >> 32) as usize;
        let words = (0..len.div_ceil(WORD)).flat_map(|w| region.load(REPLY_BOX + MESSAGE + w).unwrap().to_le_bytes());
        (head as u32, Reply::decode(&words.take(len).collect::<Vec<u8>>()).unwrap())
    }

    #[test]
    fn a_request_is_taken_once_and_answered_under_its_number() {
        let region = HeapRegion::new(WORDS);
        let mut mailbox = Mailbox::new(region.clone());
        assert_eq!(mailbox.poll(), Ok(None));
        let request = Request::Quote { nonce: vec![7; 31] };
        post(&region, 5, &request.encode(), request.encode().len());
        assert_eq!(mailbox.poll(), Ok(Some(request)));
        assert_eq!(mailbox.poll(), Ok(None));
        let reply = Reply::Failed { reason: "no".into() };
        mailbox.reply(&reply);
        assert_eq!(answer(&region), (5, reply));
    }

    #[test]
    fn a_lying_length_is_refused_and_answered() {
        let region = HeapRegion::new(WORDS);
        let mut mailbox = Mailbox::new(region.clone());
        post(&region, 1, &[4], MESSAGE_MAX + 1);
        assert_eq!(mailbox.poll(), Err(MessageError::Length));
        mailbox.reply(&Reply::Done);
        assert_eq!(answer(&region), (1, Reply::Done));
    }

    #[test]
    fn a_reply_that_does_not_fit_is_told_so() {
        let region = HeapRegion::new(WORDS);
        let mut mailbox = Mailbox::new(region.clone());
        post(&region, 1, &Request::Recv.encode(), 1);
        mailbox.poll().unwrap();
        mailbox.reply(&Reply::Message { message: vec![0; MESSAGE_MAX] });
        assert!(matches!(answer(&region), (1, Reply::Failed { reason }) if reason.contains("does not fit")));
        let longest = Reply::Message { message: vec![3; MESSAGE_MAX - 5] };
        mailbox.reply(&longest);
        assert_eq!(answer(&region), (1, longest));
    }
}
