//! A command as the generator makes it, still in its parts, so that each part can be made wrong.

/// A session of a command.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) handle: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) attributes: u8,
    pub(crate) hmac: Vec<u8>,
}

impl Session {
    /// A password session (TPM_RS_PW).
    pub(crate) fn password(auth: &[u8]) -> Self {
        Self { handle: 0x4000_0009, nonce: Vec::new(), attributes: 1, hmac: auth.to_vec() }
    }
}

/// What the model learns when a command succeeds.
#[derive(Clone, Debug, Default)]
pub(crate) enum Note {
    #[default]
    Nothing,
    /// The response's handle is an object of this kind and authValue; whether it is the same in both TPMs.
    Object(super::model::Kind, Vec<u8>, bool),
    /// The response's handle is a session.
    Session,
    /// An entity has a new authValue.
    Auth(u32, Vec<u8>),
    /// An object that [`Note::Object`] describes was created under a parent.
    Created(u32, super::model::Kind, Vec<u8>),
    /// An object became persistent.
    Persistent(u32, u32),
    /// The response is a context of this handle.
    Context(u32),
    /// The response's first TPM2B is the digest of a policy.
    PolicyDigest,
}

/// A command. The parameters are those for swtpm and those for us, which differ in what the TPMs have made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cmd {
    pub(crate) code: u32,
    pub(crate) handles: Vec<u32>,
    /// Which of the handles are authorized, from the first.
    pub(crate) auths: usize,
    pub(crate) sessions: Vec<Session>,
    pub(crate) params: [Vec<u8>; 2],
    pub(crate) note: Note,
    // What can be wrong with the rest.
    pub(crate) tag: Option<u16>,
    pub(crate) size_off: i32,
    pub(crate) auth_size_off: i32,
    /// What was made wrong, for people.
    pub(crate) wrong: Vec<&'static str>,
}

impl Cmd {
    pub(crate) fn new(code: u32) -> Self {
        Self { code, ..Self::default() }
    }

    /// A handle that needs authorization; these come first.
    pub(crate) fn auth(mut self, handle: u32) -> Self {
        self.handles.push(handle);
        self.auths += 1;
        self
    }

    pub(crate) fn handle(mut self, handle: u32) -> Self {
        self.handles.push(handle);
        self
    }

    /// Parameters in hexadecimal.
    pub(crate) fn hex(self, s: &str) -> Self {
        let bytes = unhex(s);
        self.raw(&bytes)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.params.iter_mut().for_each(|p| p.extend(bytes));
        self
    }

    pub(crate) fn u16(self, n: usize) -> Self {
        self.raw(&(n as u16).to_be_bytes())
    }

    pub(crate) fn u32(self, n: u32) -> Self {
        self.raw(&n.to_be_bytes())
    }

    /// A TPM2B.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(bytes.len()).raw(bytes)
    }

    /// What each TPM has made itself.
    pub(crate) fn each(mut self, bytes: &[Vec<u8>; 2]) -> Self {
        self.params.iter_mut().zip(bytes).for_each(|(p, b)| p.extend(b));
        self
    }

    pub(crate) fn note(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    /// The octets for swtpm (0) or for us (1).
    pub(crate) fn bytes(&self, side: usize) -> Vec<u8> {
        let with = !self.sessions.is_empty();
        let mut bytes = self.tag.unwrap_or(if with { 0x8002 } else { 0x8001 }).to_be_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(self.code.to_be_bytes());
        self.handles.iter().for_each(|h| bytes.extend(h.to_be_bytes()));
        if with {
            let mut area = Vec::new();
            for s in &self.sessions {
                area.extend(s.handle.to_be_bytes());
                area.extend((s.nonce.len() as u16).to_be_bytes());
                area.extend(&s.nonce);
                area.push(s.attributes);
                area.extend((s.hmac.len() as u16).to_be_bytes());
                area.extend(&s.hmac);
            }
            bytes.extend((area.len() as u32).wrapping_add_signed(self.auth_size_off).to_be_bytes());
            bytes.extend(area);
        }
        bytes.extend(&self.params[side]);
        let size = (bytes.len() as u32).wrapping_add_signed(self.size_off);
        bytes[2..6].copy_from_slice(&size.to_be_bytes());
        bytes
    }
}

/// Octets from hexadecimal digits; anything else is ignored.
pub(crate) fn unhex(s: &str) -> Vec<u8> {
    let digits: Vec<u8> = s.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}
