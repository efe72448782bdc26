//! What the tenant answers to each request.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bulla_boot_abi::mailbox::{BenchKind, Reply, Request, Role};
use bulla_channel::appraise::PolicyError;
use bulla_channel::ring::RingError;
use bulla_channel::{Channel, Error as ChannelError, Region};
use bulla_guest_rt::measure::Transport;

use crate::boot::BootFacts;
use crate::policy::{ChannelConfig, CmdlineError};
use crate::tpm::{Quote, SharedTpm, Tpm, TpmError};

/// The machine under the tenant, as far as requests need it.
pub trait Machine {
    /// Begins a wait of bounded length.
    fn start_waiting(&mut self);
    /// Pauses a little; whether to go on waiting.
    fn keep_waiting(&mut self) -> bool;
    /// Does one access that exits to the monitor.
    fn exit(&mut self, kind: BenchKind);
}

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TPM failed.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The command line has no usable policy.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// There is no channel to use.
    #[error("no channel has been opened")]
    NoChannel,
    /// There is no memory where the channel should be.
    #[error("the channel window cannot be used")]
    NoWindow,
    /// Nothing came in time.
    #[error("no message came in time")]
    NoMessage,
}

impl From<PolicyError> for ServeError {
    fn from(error: PolicyError) -> Self {
        Self::Cmdline(error.into())
    }
}

/// The tenant.
pub struct Tenant<T, R, M> {
    tpm: SharedTpm<T>,
    event_log: Vec<u8>,
    config: Result<ChannelConfig, CmdlineError>,
    window: fn(usize) -> Option<R>,
    machine: M,
    channel: Option<Channel<R, SharedTpm<T>>>,
}

impl<T, R, M> core::fmt::Debug for Tenant<T, R, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tenant").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<T: Transport, R: Region, M: Machine> Tenant<T, R, M> {
    /// A tenant booted as `facts` say. `window` gives the shared region of as many bytes as the command line says.
    #[must_use]
    pub fn new(tpm: Tpm<T>, facts: BootFacts, window: fn(usize) -> Option<R>, machine: M) -> Self {
        let config = ChannelConfig::from_cmdline(&facts.cmdline);
        Self { tpm: SharedTpm::new(tpm), event_log: facts.event_log, config, window, machine, channel: None }
    }

    /// Does what is asked. [`Request::PowerOff`] is only acknowledged; the caller does it.
    pub fn answer(&mut self, request: Request) -> Reply {
        self.serve(request).unwrap_or_else(|error| Reply::Failed { reason: reason(&error) })
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    fn serve(&mut self, request: Request) -> Result<Reply, ServeError> {
        match request {
            Request::Quote { nonce } => {
                let Quote { ak_public, attest, signature } = self.tpm.with(|tpm| tpm.quote(&nonce))?;
                Ok(Reply::Quote { ak_public, attest, signature, event_log: self.event_log.clone() })
            }
            Request::ChannelOpen { role } => self.open(role),
            Request::Send { message } => self.send(&message),
            Request::Recv => self.recv(),
            Request::Bench { kind, count } => {
                (0..count).for_each(|_| self.machine.exit(kind));
                Ok(Reply::Done)
            }
            Request::PowerOff => {
                if let Some(mut channel) = self.channel.take() {
                    channel.close();
                }
                Ok(Reply::Done)
            }
        }
    }

    fn open(&mut self, role: Role) -> Result<Reply, ServeError> {
        let ChannelConfig { id, size, policy } = self.config.clone()?;
        let region = (self.window)(size).ok_or(ServeError::NoWindow)?;
        let role = match role {
            Role::Initiator => bulla_channel::Role::Initiator,
            Role::Responder => bulla_channel::Role::Responder,
        };
        let tpm = self.tpm.clone();
        let random = |out: &mut [u8]| Ok(tpm.with(|tpm| tpm.random(out))?);
        let mut channel = Channel::connect(region, role, id, tpm.clone(), policy, random)?;
        self.machine.start_waiting();
        channel.open(|| self.machine.keep_waiting())?;
        let peer_ak_name = channel.peer().map(|peer| peer.ak().as_bytes().to_vec()).unwrap_or_default();
        self.channel = Some(channel);
        Ok(Reply::Opened { peer_ak_name })
    }

    fn send(&mut self, message: &[u8]) -> Result<Reply, ServeError> {
        let channel = self.channel.as_mut().ok_or(ServeError::NoChannel)?;
        self.machine.start_waiting();
        loop {
            match channel.send(message) {
                Err(ChannelError::Ring(RingError::Full)) if self.machine.keep_waiting() => {}
                result => return Ok(result.map(|()| Reply::Done)?),
            }
        }
    }

    fn recv(&mut self) -> Result<Reply, ServeError> {
        let channel = self.channel.as_mut().ok_or(ServeError::NoChannel)?;
        self.machine.start_waiting();
        loop {
            if let Some(message) = channel.recv()? {
                return Ok(Reply::Message { message: message.to_vec() });
            }
            if !self.machine.keep_waiting() {
                return Err(ServeError::NoMessage);
            }
        }
    }
}

/// What to tell the host, within reason.
fn reason(error: &ServeError) -> String {
    let mut text = error.to_string();
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= 1000);
    text.truncate(end.unwrap_or(text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EngineTransport, Patience, facts, fresh_seed};
    use alloc::format;
    use alloc::vec;
    use bulla_channel::HeapRegion;
    use std::cell::RefCell;

    type TestTenant = Tenant<EngineTransport, HeapRegion, Patience>;

    std::thread_local! {
        static REGION: RefCell<Option<HeapRegion>> = const { RefCell::new(None) };
    }

    fn window(_: usize) -> Option<HeapRegion> {
        REGION.with_borrow(Clone::clone)
    }

    fn with_patience(kernel: &[u8], cmdline: &str, polls: u32) -> TestTenant {
        let mut transport = EngineTransport::started(fresh_seed());
        transport.extend(4, kernel);
        Tenant::new(Tpm::new(transport).unwrap(), facts(cmdline), window, Patience::of(polls))
    }

    fn tenant(cmdline: &str) -> TestTenant {
        with_patience(b"kernel", cmdline, 3)
    }

    fn failed(reply: Reply) -> String {
        match reply {
            Reply::Failed { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a channel between an initiator with this kernel and command line and a good responder, each in a thread; then
    /// each says something and listens, if they are to `talk`.
    fn meet(kernel: &'static [u8], cmdline: &'static str, talk: bool) -> [Reply; 4] {
        let region = HeapRegion::new(32768);
        let run = |role, kernel: &'static [u8], cmdline: &'static str| {
            let region = region.clone();
            std::thread::spawn(move || {
                REGION.set(Some(region));
                let mut tenant = with_patience(kernel, cmdline, 1_000_000);
                let opened = tenant.answer(Request::ChannelOpen { role });
                if !talk {
                    return [opened, Reply::Done];
                }
                let said = tenant.answer(Request::Send { message: format!("I am the {role:?}").into_bytes() });
                let heard = if said == Reply::Done { tenant.answer(Request::Recv) } else { said };
                [opened, heard]
            })
        };
        let responder = run(Role::Responder, b"kernel", "peer_pcrs=same");
        let [opened, heard] = run(Role::Initiator, kernel, cmdline).join().unwrap();
        let [theirs, they_heard] = responder.join().unwrap();
        [opened, heard, theirs, they_heard]
    }

    #[test]
    fn two_tenants_with_their_own_vtpms_talk() {
        let [opened, heard, theirs, they_heard] = meet(b"kernel", "peer_pcrs=same", true);
        let (Reply::Opened { peer_ak_name: a }, Reply::Opened { peer_ak_name: b }) = (opened, theirs) else {
            panic!("not opened: {heard:?} {they_heard:?}");
        };
        assert_eq!((a.len(), &a[..2]), (34, &[0, 11][..]));
        assert_ne!(a, b);
        assert_eq!(heard, Reply::Message { message: b"I am the Responder".to_vec() });
        assert_eq!(they_heard, Reply::Message { message: b"I am the Initiator".to_vec() });
    }

    #[test]
    fn a_tenant_with_another_kernel_is_refused_with_the_pcr() {
        let [opened, .., theirs, _] = meet(b"changed kernel", "peer_pcrs=same:0", false);
        assert!(matches!(opened, Reply::Opened { .. }), "{opened:?}");
        assert!(failed(theirs).contains("PCR 4"));
    }

    #[test]
    fn evidence_has_the_nonce_the_log_and_a_quote_that_verifies() {
        let mut tenant = tenant("");
        let nonce = vec![9; 32];
        let Reply::Quote { ak_public, attest, signature, event_log } = tenant.answer(Request::Quote { nonce }) else {
            panic!("no quote");
        };
        assert_eq!(event_log, facts("").event_log);
        assert!(attest.windows(34).any(|window| window[..2] == [0, 32] && window[2..] == [9; 32]));
        assert!(!ak_public.is_empty() && signature.len() == 72);
    }

    #[test]
    fn without_a_policy_on_the_command_line_no_channel_is_opened() {
        let reason = failed(tenant("quiet").answer(Request::ChannelOpen { role: Role::Initiator }));
        assert!(reason.contains("says nothing about the peer"), "{reason}");
    }

    #[test]
    fn a_window_that_is_not_there_is_told() {
        let reason = failed(tenant("peer_pcrs=same").answer(Request::ChannelOpen { role: Role::Initiator }));
        assert!(reason.contains("window"), "{reason}");
    }

    #[test]
    fn a_peer_that_never_comes_is_not_waited_for_for_ever() {
        REGION.set(Some(HeapRegion::new(32768)));
        for role in [Role::Initiator, Role::Responder] {
            let reason = failed(tenant("peer_pcrs=same").answer(Request::ChannelOpen { role }));
            assert!(reason.contains("gave up"), "{reason}");
        }
    }

    #[test]
    fn without_a_channel_nothing_is_sent_or_received() {
        let mut tenant = tenant("peer_pcrs=same");
        for request in [Request::Recv, Request::Send { message: vec![1] }] {
            assert_eq!(failed(tenant.answer(request)), "no channel has been opened");
        }
    }

    #[test]
    fn exits_are_done_as_often_as_asked() {
        let mut tenant = tenant("");
        assert_eq!(tenant.answer(Request::Bench { kind: BenchKind::Mmio, count: 5 }), Reply::Done);
        assert_eq!(tenant.machine().exits, vec![BenchKind::Mmio; 5]);
    }
}
