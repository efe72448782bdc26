//! What both TPMs have, as far as the generator wants to know.

use std::collections::{BTreeMap, BTreeSet};

use bulla_vtpm_engine::Tpm;

use super::command::{Cmd, Note};
use super::peers::Swtpm;

/// What an object is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Storage,
    Restricted,
    Sign,
    Exchange,
    RsaSign,
    Hmac,
    Aes,
    Sealed,
    Public,
    HashSequence,
    EventSequence,
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) handle: u32,
    pub(crate) kind: Kind,
    pub(crate) auth: Vec<u8>,
    /// Whether both TPMs have the same one.
    pub(crate) same: bool,
}

/// A created object: its parent, kind and authValue, and what each TPM has answered.
type Created = (u32, Kind, Vec<u8>, [Vec<u8>; 2]);

#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Transient and persistent.
    pub(crate) objects: Vec<Object>,
    pub(crate) sessions: Vec<u32>,
    pub(crate) nv: Vec<u32>,
    auths: BTreeMap<u32, Vec<u8>>,
    /// TPM2B_PRIVATE and TPM2B_PUBLIC under a parent.
    pub(crate) created: Vec<Created>,
    /// Saved contexts, and of what.
    pub(crate) contexts: Vec<(u32, [Vec<u8>; 2])>,
    /// Policy sessions whose digests are not the same in both TPMs.
    pub(crate) own_policies: BTreeSet<u32>,
    /// Digests that policy sessions had.
    pub(crate) policies: Vec<Vec<u8>>,
}

impl Model {
    pub(crate) fn auth(&self, handle: u32) -> Vec<u8> {
        let object = self.objects.iter().find(|o| o.handle == handle).map(|o| o.auth.clone());
        object.or_else(|| self.auths.get(&handle).cloned()).unwrap_or_default()
    }

    pub(crate) fn object(&self, handle: u32) -> Option<&Object> {
        self.objects.iter().find(|o| o.handle == handle)
    }

    pub(crate) fn transient(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|o| o.handle >> 24 == 0x80)
    }

    /// Learns from a command that both have executed.
    pub(crate) fn learn(&mut self, cmd: &Cmd, responses: [&[u8]; 2]) {
        let [theirs, ours] = responses;
        let own = |h: &u32| matches!(h >> 24, 0x80 | 0x81) && !self.object(*h).is_some_and(|o| o.same);
        if matches!(cmd.code, 0x151 | 0x160) && own(&cmd.handles[0]) {
            self.own_policies.insert(cmd.handles[1]);
        }
        // A new session may have an old one's handle; PolicyRestart begins anew.
        if matches!(cmd.code, 0x176 | 0x180) {
            let session =
                if cmd.code == 0x180 { cmd.handles[0] } else { u32::from_be_bytes(ours[10..14].try_into().unwrap()) };
            self.own_policies.remove(&session);
        }
        let handle = || ours.get(10..14).map(|b| u32::from_be_bytes(b.try_into().unwrap())).unwrap_or_default();
        let params = |r: &[u8]| r.get(if cmd.sessions.is_empty() { 10 } else { 14 }..).unwrap_or_default().to_vec();
        match &cmd.note {
            Note::Nothing => {}
            Note::Object(kind, auth, same) => {
                let handle = handle();
                self.objects.retain(|o| o.handle != handle);
                self.objects.push(Object { handle, kind: *kind, auth: auth.clone(), same: *same });
            }
            Note::Session => {
                let handle = handle();
                self.sessions.retain(|s| *s != handle);
                self.sessions.push(handle);
            }
            Note::Auth(of, auth) => match self.objects.iter_mut().find(|o| o.handle == *of) {
                Some(object) => object.auth = auth.clone(),
                None => drop(self.auths.insert(*of, auth.clone())),
            },
            Note::Created(parent, kind, auth) => {
                let two = [params(theirs), params(ours)].map(|p| {
                    let private = 2 + usize::from(u16::from_be_bytes([p[0], p[1]]));
                    let public = 2 + usize::from(u16::from_be_bytes([p[private], p[private + 1]]));
                    p[..private + public].to_vec()
                });
                self.created.push((*parent, *kind, auth.clone(), two));
            }
            Note::Persistent(object, to) => {
                if let Some(object) = self.object(*object).cloned() {
                    self.objects.push(Object { handle: *to, ..object });
                }
            }
            Note::Context(of) => self.contexts.push((*of, [params(theirs), params(ours)])),
            Note::PolicyDigest if self.own_policies.contains(&cmd.handles[0]) => {}
            Note::PolicyDigest => {
                let digest = params(ours).get(2..34).map(<[u8]>::to_vec);
                self.policies.extend(digest);
            }
        }
        if self.created.len() > 6 {
            self.created.remove(0);
        }
        if self.contexts.len() > 6 {
            self.contexts.remove(0);
        }
        if self.policies.len() > 6 {
            self.policies.remove(0);
        }
    }

    /// Forgets what is no longer there, and notices what is there unexpectedly.
    pub(crate) fn sync(&mut self, ours: &mut Tpm, swtpm: &mut Swtpm) {
        // Both are asked, since a command without an audit session ends an exclusive one.
        let mut ask = |c: &[u8]| {
            swtpm.run(c);
            ours.execute(0, c)
        };
        let mut listed = |first| handles(&mut ask, first);
        let objects = [listed(0x8000_0000), listed(0x8100_0000)].concat();
        self.objects.retain(|o| objects.contains(&o.handle));
        for handle in objects {
            if self.object(handle).is_none() {
                self.objects.push(Object { handle, kind: Kind::Unknown, auth: Vec::new(), same: false });
            }
        }
        self.sessions = listed(0x0200_0000);
        self.nv = listed(0x0100_0000);
    }
}

/// TPM2_GetCapability(TPM_CAP_HANDLES).
pub(crate) fn handles(mut run: impl FnMut(&[u8]) -> Vec<u8>, first: u32) -> Vec<u32> {
    let answer = run(&Cmd::new(0x17a).u32(1).u32(first).u32(100).bytes(1));
    let list = answer.get(19..).unwrap_or_default();
    list.chunks_exact(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect()
}
