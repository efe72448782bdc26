//! From a command's bytes to a response's bytes (Part 1, 18; Part 3, 5).

use alloc::vec::Vec;

use bulla_tpm_types::{
    CommandAttributes, Error, ErrorKind, Handle, PublicKind, Rc, Reader, Unmarshal, Writer, cc, rc, st,
};

use super::selftest::TestSet;
use super::table::{Command, MAX_HANDLES};
use super::{Mode, Tpm, auth, reply, table};

/// TPM_PT_MAX_COMMAND_SIZE.
pub const MAX_COMMAND_SIZE: usize = 4096;
/// TPM_PT_MAX_RESPONSE_SIZE.
pub const MAX_RESPONSE_SIZE: usize = 4096;

/// Most responses fit without another allocation.
const USUAL_RESPONSE: usize = 512;
/// tag, responseSize, responseCode.
const HEADER: usize = 10;

/// A command that has passed the checks of handles and sessions.
pub(super) struct Call<'a, 'b> {
    /// Where it came from.
    pub(super) locality: u8,
    /// Its handles, checked against the command table.
    pub(super) handles: &'b [Handle],
    params: Reader<'a>,
    out: &'b mut Writer,
    response_handle: Option<Handle>,
}

impl<'a> Call<'a, '_> {
    /// Handle `n`, from 1.
    pub(super) fn handle(&self, n: usize) -> Handle {
        n.checked_sub(1).and_then(|i| self.handles.get(i)).copied().unwrap_or_default()
    }

    /// Unmarshals all parameters. Bytes left over are TPM_RC_SIZE (Part 3, 5.7).
    pub(super) fn params<T>(&self, read: impl FnOnce(&mut Params<'a>) -> Result<T, Rc>) -> Result<T, Rc> {
        let mut params = Params { reader: self.params.clone(), number: 0 };
        let value = read(&mut params)?;
        if params.reader.is_empty() { Ok(value) } else { Err(rc::SIZE) }
    }

    /// Checks that there are no parameters.
    pub(super) fn no_params(&self) -> Result<(), Rc> {
        self.params(|_| Ok(()))
    }

    /// The response's parameters.
    pub(super) fn out(&mut self) -> &mut Writer {
        self.out
    }

    /// Answers a handle.
    pub(super) fn answer_handle(&mut self, handle: Handle) {
        self.response_handle = Some(handle);
    }
}

/// The parameters of a command, counted for response codes.
pub(super) struct Params<'a> {
    reader: Reader<'a>,
    number: usize,
}

impl<'a> Params<'a> {
    /// The next parameter.
    pub(super) fn get<T: Unmarshal<'a>>(&mut self) -> Result<T, Rc> {
        self.with(T::unmarshal)
    }

    /// The next parameter, read by `read`.
    pub(super) fn with<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>) -> Result<T, Rc> {
        self.number += 1;
        let number = self.number;
        read(&mut self.reader).map_err(|e| e.rc().parameter(number))
    }

    /// The next parameter: a TPM2B of at most `max` bytes.
    pub(super) fn tpm2b(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Rc> {
        self.with(|r| r.tpm2b(max, what))
    }

    /// The next parameter: a `UINT32`.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Rc> {
        self.with(|r| r.u32(what))
    }

    /// The next parameter: a `UINT16`.
    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Rc> {
        self.with(|r| r.u16(what))
    }

    /// The next parameter: a TPMI_YES_NO.
    pub(super) fn yes_no(&mut self, what: &'static str) -> Result<bool, Rc> {
        self.with(|r| match r.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(r.error(ErrorKind::Value, what)),
        })
    }
}

/// Executes a command and answers its response.
pub(super) fn execute(tpm: &mut Tpm, locality: u8, command: &[u8]) -> Vec<u8> {
    let mut w = Writer::from_vec(Vec::with_capacity(USUAL_RESPONSE));
    let mut result = run(tpm, locality, command, &mut w);
    if tpm.store_changes().is_err() {
        result = Err(rc::FAILURE);
    }
    if let Err(code) = result {
        w.truncate(0);
        // Part 3, 5.2: a command with a bad tag gets the answer that a TPM 1.2 would give.
        w.u16(if code == rc::BAD_TAG { st::RSP_COMMAND } else { st::NO_SESSIONS });
        w.u32(HEADER as u32);
        w.u32(code.0);
    }
    w.into_vec()
}

fn run(tpm: &mut Tpm, locality: u8, bytes: &[u8], w: &mut Writer) -> Result<(), Rc> {
    let mut r = Reader::new(bytes);
    let (has_sessions, code) = header(&mut r, bytes.len())?;
    // Part 3, 5.3: failure mode first, then whether the command exists, then whether the TPM is started.
    if tpm.mode == Mode::Failed && (has_sessions || !matches!(code, cc::GET_TEST_RESULT | cc::GET_CAPABILITY)) {
        return Err(rc::FAILURE);
    }
    let command = table::find(code).ok_or(rc::COMMAND_CODE)?;
    if matches!(tpm.mode, Mode::Off | Mode::Initialized) && code != cc::STARTUP {
        return Err(rc::INITIALIZE);
    }
    // A second TPM2_Startup is not looked at.
    if tpm.mode == Mode::Operational && code == cc::STARTUP {
        return Err(rc::INITIALIZE);
    }

    let mut handles = [Handle::default(); MAX_HANDLES];
    let handles = read_handles(tpm, command, &mut r, &mut handles)?;
    require_tests(tpm, handles)?;
    let checked = if has_sessions {
        Some(auth::check(tpm, command, handles, locality, &mut r)?)
    } else {
        auth::check_none(command)?;
        None
    };
    // cpHash is of the parameters as they were sent (Part 1, 16.7).
    let audited = if tpm.audit.includes(code) {
        tpm.require(TestSet::hash(tpm.audit.alg()))?;
        Some(auth::cp_hash(tpm, command, handles, r.rest()))
    } else {
        None
    };
    let (used, decrypted) = checked.map_or((None, None), |c| (Some(c.used), c.decrypted));
    if let Some(params) = &decrypted {
        r = Reader::new(params);
    }
    reseed_if_due(tpm)?;
    tpm.still_wanted()?;

    w.u16(if has_sessions { st::SESSIONS } else { st::NO_SESSIONS });
    w.u32(0);
    w.u32(rc::SUCCESS.0);
    let handle_at = w.len();
    if command.attributes.contains(CommandAttributes::R_HANDLE) {
        w.u32(0);
    }
    let size_at = w.len();
    if has_sessions {
        w.u32(0);
    }
    let params_at = w.len();
    let mut call = Call { locality, handles, params: r, out: w, response_handle: None };
    (command.run)(tpm, &mut call)?;
    let response_handle = call.response_handle;
    if let Some(handle) = response_handle {
        w.patch(handle_at, &handle.0.to_be_bytes());
    }
    let params_len = w.len() - params_at;
    match used {
        Some(used) => {
            let size = (w.len() - params_at) as u32;
            w.patch(size_at, &size.to_be_bytes());
            reply::finish(tpm, code, used, params_at, w)?;
        }
        None if command.sessions => reply::finish_without_sessions(tpm),
        None => {}
    }
    if let Some(cp_hash) = audited {
        let params = w.as_bytes().get(params_at..params_at + params_len).unwrap_or_default();
        reply::audit_command(tpm, code, &cp_hash, params);
    }
    let size = w.len() as u32;
    w.patch(2, &size.to_be_bytes());
    Ok(())
}

/// Part 3, 5.2: the header. Answers whether there are sessions, and the command code.
fn header(r: &mut Reader<'_>, len: usize) -> Result<(bool, u32), Rc> {
    let has_sessions = match r.u16("tag").map_err(|e| e.rc())? {
        st::SESSIONS => true,
        st::NO_SESSIONS => false,
        _ => return Err(rc::BAD_TAG),
    };
    let size = r.u32("commandSize").map_err(|e| e.rc())?;
    if usize::try_from(size) != Ok(len) || len > MAX_COMMAND_SIZE {
        return Err(rc::COMMAND_SIZE);
    }
    let code = r.u32("commandCode").map_err(|e| e.rc())?;
    Ok((has_sessions, code))
}

/// Part 3, 5.4: the handle area.
fn read_handles<'h>(
    tpm: &Tpm,
    command: &Command,
    r: &mut Reader<'_>,
    handles: &'h mut [Handle; MAX_HANDLES],
) -> Result<&'h [Handle], Rc> {
    // First the types of all handles, then what they refer to.
    for ((number, spec), place) in (1..).zip(command.handles).zip(handles.iter_mut()) {
        *place = r.get().map_err(|e: Error| e.rc().handle(number))?;
        if !spec.kind.accepts(*place) {
            return Err(rc::VALUE.handle(number));
        }
    }
    let handles = handles.get(..command.handles.len()).unwrap_or_default();
    for (number, handle) in (1..).zip(handles) {
        table::check_loaded(tpm, command.code, *handle, number)?;
    }
    Ok(handles)
}

/// An algorithm is tested before its first use: that of keys which were there when power came on, too.
fn require_tests(tpm: &mut Tpm, handles: &[Handle]) -> Result<(), Rc> {
    let is_rsa = |h: &Handle| tpm.objects.key(*h).is_ok_and(|k| matches!(k.public.kind, PublicKind::Rsa { .. }));
    if handles.iter().any(is_rsa) { tpm.require(TestSet::RSA) } else { Ok(()) }
}

/// Reseeds the random number generator now and then; the source's failure is the TPM's.
fn reseed_if_due(tpm: &mut Tpm) -> Result<(), Rc> {
    if tpm.random.wants_reseed() && tpm.random.reseed(&mut *tpm.entropy).is_err() {
        tpm.fail();
        return Err(rc::FAILURE);
    }
    Ok(())
}
