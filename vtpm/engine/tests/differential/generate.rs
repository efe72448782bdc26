//! What the generator chooses, and how it authorizes it.

use super::command::{Cmd, Session};
use super::model::{Kind, Model};
use super::rng::Rng;
use super::{mutate, valid};

/// So many transient objects stay loaded: swtpm has room for three, and needs one for itself now and then.
const OBJECTS: usize = 2;
/// So many sessions stay loaded, of swtpm's three.
const SESSIONS: usize = 3;

pub(crate) struct Generator {
    pub(crate) rng: Rng,
    pub(crate) model: Model,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), model: Model::default() }
    }

    /// The next command.
    pub(crate) fn next(&mut self) -> Cmd {
        if self.model.transient().count() > OBJECTS {
            let all: Vec<_> = self.model.transient().map(|o| o.handle).collect();
            return Cmd::new(0x165).u32(self.rng.pick(&all));
        }
        if self.rng.chance(3) {
            return self.garbage();
        }
        let mut code = self.rng.pick(valid::OFTEN);
        if self.rng.chance(50) {
            code = self.rng.pick(valid::ALL);
        }
        if matches!(code, 0x176 | 0x161) && self.model.sessions.len() >= SESSIONS {
            return Cmd::new(0x165).u32(self.any_session());
        }
        let cmd = valid::command(self, code);
        let mut cmd = self.authorize(cmd);
        if self.rng.chance(40) {
            mutate::mutate(self, &mut cmd);
            if self.rng.chance(15) {
                mutate::mutate(self, &mut cmd);
            }
        }
        cmd
    }

    fn garbage(&mut self) -> Cmd {
        let mut cmd =
            Cmd::new(if self.rng.chance(80) { self.rng.pick(valid::ALL) } else { 0x11e + self.rng.below(130) as u32 });
        cmd.wrong.push("garbage");
        let n = self.rng.below(80);
        let bytes = self.rng.bytes(n);
        cmd.tag = self.rng.chance(50).then_some(0x8002);
        cmd.raw(&bytes)
    }

    /// Gives a command the sessions that it needs, and sometimes one more.
    fn authorize(&mut self, mut cmd: Cmd) -> Cmd {
        let auths: Vec<_> = cmd.handles.iter().take(cmd.auths).copied().collect();
        for handle in auths {
            let auth = self.model.auth(handle);
            let free: Vec<_> =
                self.model.sessions.iter().copied().filter(|s| cmd.sessions.iter().all(|t| t.handle != *s)).collect();
            let by_session = !free.is_empty() && self.rng.chance(if auth.is_empty() { 15 } else { 5 });
            cmd.sessions.push(if by_session {
                let hmac = if self.rng.chance(30) { auth } else { Vec::new() };
                Session { handle: self.rng.pick(&free), nonce: self.nonce(), attributes: self.attributes(), hmac }
            } else {
                Session::password(&auth)
            });
        }
        if cmd.sessions.len() < 3 && !self.model.sessions.is_empty() && self.rng.chance(5) {
            let attributes = self.rng.pick(&[0x81, 0x81, 0x21, 0x41, 0x61, 0xe1, 0x01, 0x83, 0x85]);
            let extra = Session { handle: self.any_session(), nonce: self.nonce(), attributes, hmac: Vec::new() };
            cmd.sessions.push(extra);
        }
        cmd
    }

    pub(crate) fn nonce(&mut self) -> Vec<u8> {
        let n = self.rng.pick(&[0, 16, 20, 32]);
        self.rng.bytes(n)
    }

    fn attributes(&mut self) -> u8 {
        self.rng.pick(&[1, 1, 1, 1, 1, 0, 0x81, 0x21, 0x41])
    }

    pub(crate) fn any_session(&mut self) -> u32 {
        if self.model.sessions.is_empty() { 0x0300_0000 } else { self.rng.pick(&self.model.sessions) }
    }

    pub(crate) fn policy(&mut self) -> u32 {
        let policies: Vec<_> = self.model.sessions.iter().copied().filter(|s| s >> 24 == 3).collect();
        if policies.is_empty() { 0x0300_0000 } else { self.rng.pick(&policies) }
    }

    /// An object of one of these kinds, usually.
    pub(crate) fn object(&mut self, kinds: &[Kind]) -> u32 {
        let fit: Vec<_> = self.model.objects.iter().filter(|o| kinds.contains(&o.kind)).map(|o| o.handle).collect();
        if !fit.is_empty() && self.rng.chance(95) {
            return self.rng.pick(&fit);
        }
        let all: Vec<_> = self.model.objects.iter().map(|o| o.handle).collect();
        if all.is_empty() { 0x8000_0000 } else { self.rng.pick(&all) }
    }

    pub(crate) fn object_or_null(&mut self, kinds: &[Kind]) -> u32 {
        if self.rng.chance(25) { valid::NULL } else { self.object(kinds) }
    }

    pub(crate) fn nv(&mut self) -> u32 {
        if self.model.nv.is_empty() || self.rng.chance(4) {
            0x0100_0000 + self.rng.below(6) as u32
        } else {
            self.rng.pick(&self.model.nv)
        }
    }

    /// Who authorizes the use of an Index.
    pub(crate) fn nv_auth(&mut self, index: u32) -> u32 {
        self.rng.pick(&[index, index, valid::OWNER, valid::OWNER, valid::PLATFORM])
    }

    pub(crate) fn password(&mut self) -> Vec<u8> {
        self.rng.pick(&[&b""[..], b"", b"pw", b"secret\0", b"a longer one, which is a secret, too"]).to_vec()
    }

    /// The digest of a policy, or none.
    pub(crate) fn policy_digest(&mut self) -> Vec<u8> {
        if self.model.policies.is_empty() || self.rng.chance(60) {
            Vec::new()
        } else {
            self.rng.pick(&self.model.policies)
        }
    }

    pub(crate) fn digest(&mut self) -> Vec<u8> {
        if self.rng.chance(50) { vec![0x5a; 32] } else { self.rng.bytes(32) }
    }

    pub(crate) fn data(&mut self) -> Vec<u8> {
        let n = self.rng.pick(&[0, 1, 3, 8, 16, 20, 32, 32, 33, 64, 200]);
        self.rng.bytes(n)
    }
}
