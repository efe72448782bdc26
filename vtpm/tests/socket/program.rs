//! A `bulla-vtpm socket` and the test's end of its channels.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, thread};

use super::{GET_BLOB, SET_BLOB};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");

/// How often to look whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// A fresh folder.
pub(crate) fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("bulla-vtpm-socket-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Whether a program can be run.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A running `bulla-vtpm socket`; killed and reaped when dropped, and its folder removed.
pub(crate) struct Tpm {
    pub(crate) process: Child,
    pub(crate) dir: PathBuf,
    /// Of the data channel, where that is TCP; the control channel is on the next.
    pub(crate) port: u16,
}

impl Tpm {
    /// Both channels on Unix sockets.
    pub(crate) fn unix(arguments: &[&str]) -> Self {
        let channels = ["--server", "type=unixio,path=data", "--ctrl", "type=unixio,path=control"];
        Self::start(&[&channels, arguments].concat(), &["data", "control"])
    }

    /// Only the control channel, as QEMU wants it.
    pub(crate) fn control_only(arguments: &[&str]) -> Self {
        Self::start(&[&["--ctrl", "type=unixio,path=control"], arguments].concat(), &["control"])
    }

    /// In a folder of its own; returns when these sockets are there.
    pub(crate) fn start(arguments: &[&str], sockets: &[&str]) -> Self {
        Self::start_in(folder(), arguments, sockets)
    }

    /// In this folder; returns when these sockets are there and somebody listens.
    pub(crate) fn start_in(dir: PathBuf, arguments: &[&str], sockets: &[&str]) -> Self {
        let process = Command::new(PROGRAM)
            .args(["socket", "--tpm2", "--pid", "file=ready", "--log", "level=5"])
            .args(arguments)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .spawn();
        let mut tpm = Self { process: process.unwrap(), dir, port: 0 };
        tpm.until(|tpm| sockets.iter().all(|name| tpm.dir.join(name).exists()) && tpm.dir.join("ready").exists());
        tpm
    }

    /// Both channels on TCP.
    pub(crate) fn tcp(arguments: &[&str]) -> Self {
        let dir = folder();
        loop {
            // A port of which the next is free too; another process may still be faster.
            let Ok(probe) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { continue };
            let port = probe.local_addr().unwrap().port();
            if port == u16::MAX || TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_err() {
                continue;
            }
            drop(probe);
            let process = Command::new(PROGRAM)
                .args(["socket", "--tpm2", "--server", &format!("type=tcp,port={port}")])
                .args(["--ctrl", &format!("type=tcp,port={}", port + 1)])
                .args(arguments)
                .current_dir(&dir)
                .stdin(Stdio::null())
                .spawn();
            let mut tpm = Self { process: process.unwrap(), dir: dir.clone(), port };
            tpm.until(|tpm| TcpStream::connect((Ipv4Addr::LOCALHOST, tpm.port + 1)).is_ok());
            return tpm;
        }
    }

    /// Kills it, as a failing host would. Answers its folder, for the next.
    pub(crate) fn killed(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let _ = fs::remove_file(self.dir.join("ready"));
        self.keep_folder()
    }

    /// Its folder, which stays when it goes.
    pub(crate) fn keep_folder(mut self) -> PathBuf {
        std::mem::take(&mut self.dir)
    }

    fn until(&mut self, there: impl Fn(&Self) -> bool) {
        while !there(self) {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended");
            thread::sleep(LOOK);
        }
    }

    /// A connection to the control channel, and one to the data channel.
    pub(crate) fn connect(&self) -> (Control, UnixStream) {
        (self.control(), self.data())
    }

    pub(crate) fn control(&self) -> Control {
        Control(UnixStream::connect(self.dir.join("control")).unwrap())
    }

    pub(crate) fn data(&self) -> UnixStream {
        UnixStream::connect(self.dir.join("data")).unwrap()
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !self.dir.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The control channel's other end.
pub(crate) struct Control(pub(crate) UnixStream);

impl Control {
    /// A request, and so many bytes of its response.
    pub(crate) fn ask(&mut self, request: u32, fields: &[u8], length: usize) -> Vec<u8> {
        self.0.write_all(&[&request.to_be_bytes(), fields].concat()).unwrap();
        self.read(length)
    }

    /// GET_STATEBLOB: the flags that come with a state, and its bytes.
    pub(crate) fn blob(&mut self, kind: u8, flags: u8) -> (u32, Vec<u8>) {
        let head = self.ask(GET_BLOB, &[0, 0, 0, flags, 0, 0, 0, kind, 0, 0, 0, 0], 16);
        let field = |n: usize| u32::from_be_bytes(head[4 * n..4 * n + 4].try_into().unwrap());
        assert_eq!((field(0), field(2)), (0, field(3)));
        (field(1), self.read(usize::try_from(field(3)).unwrap()))
    }

    /// SET_STATEBLOB.
    pub(crate) fn give(&mut self, kind: u8, flags: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        self.ask(SET_BLOB, &[&[0, 0, 0, flags, 0, 0, 0, kind], &length[..], bytes].concat(), 4)
    }

    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// A message on the data channel and its response, which comes at once.
pub(crate) fn exchange(data: &mut UnixStream, message: &[u8]) -> Vec<u8> {
    data.write_all(message).unwrap();
    let mut room = [0; 5000];
    let count = data.read(&mut room).unwrap();
    room[..count].to_vec()
}

/// A response's code.
pub(crate) fn response_code(response: &[u8]) -> u32 {
    u32::from_be_bytes(response[6..10].try_into().unwrap())
}
