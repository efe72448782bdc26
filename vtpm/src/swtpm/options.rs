//! The command line of `bulla-vtpm socket`, which is that of `swtpm socket`.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use bulla_tpm_types::StartupType;
use clap::Args;

use super::suboptions::{Kind, Known, OptionError, Suboptions};
use crate::state::{AnchorPlace, HostTpm, KeyFormat};

/// A TPM 2.0 on sockets: what `swtpm socket --tpm2` is.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Be a TPM 2.0, which this program is in any case; accepted for scripts made for swtpm
    #[arg(long)]
    pub tpm2: bool,
    /// Where commands come from: type=tcp,port=N[,bindaddr=A][,disconnect] | type=unixio,path=P[,mode=M] | fd=N
    #[arg(long, value_name = "OPTIONS", value_parser = server)]
    pub server: Option<Server>,
    /// Short for --server type=tcp,port=N,disconnect
    #[arg(short, long, value_name = "N", conflicts_with = "server")]
    pub port: Option<u16>,
    /// Take commands from this connected socket and end with it
    #[arg(short, long, value_name = "N", conflicts_with_all = ["server", "port"], value_parser = clap::value_parser!(RawFd).range(3..))]
    pub fd: Option<RawFd>,
    /// The control channel: type=unixio,path=P[,mode=M] | type=tcp,port=N[,bindaddr=A] | fd=N | clientfd=N; [terminate]
    #[arg(long, value_name = "OPTIONS", value_parser = control)]
    pub ctrl: Option<Control>,
    /// not-need-init, startup-clear|startup-state|startup-none, disable-auto-shutdown
    #[arg(long, value_name = "OPTIONS", value_parser = flags, default_value = "")]
    pub flags: Flags,
    /// reject-locality-4, allow-set-locality
    #[arg(long, value_name = "OPTIONS", value_parser = localities, default_value = "")]
    pub locality: Localities,
    /// End when the client has closed its connection
    #[arg(short, long)]
    pub terminate: bool,
    /// Go on in the background once the sockets are there
    #[arg(short, long)]
    pub daemon: bool,
    /// file=P|fd=N[,level=N][,prefix=TEXT][,truncate]; file=- is silent
    #[arg(long, value_name = "OPTIONS", value_parser = log, default_value = "")]
    pub log: Log,
    /// Where the TPM's state is kept: dir=D | backend-uri=dir://D; [mode=M][,lock]. $TPM_PATH unless given; without either, in memory
    #[arg(long, value_name = "OPTIONS", value_parser = tpm_state)]
    pub tpmstate: Option<TpmState>,
    /// Key of the state: file=P|fd=N[,format=hex|binary] | pwdfile=P|pwdfd=N; [mode=aes-cbc|aes-256-cbc][,kdf=K][,remove] |
    /// host-tpm[,pcrs=N+N][,tcti=TCTI]: made with the state, and sealed by this host's TPM
    #[arg(long, value_name = "OPTIONS", value_parser = key)]
    pub key: Option<KeyOption>,
    /// Key of states that leave over the control channel; options as of --key, but not host-tpm
    #[arg(long, value_name = "OPTIONS", value_parser = migration_key)]
    pub migration_key: Option<KeyOption>,
    /// What remembers which state was the last one, so that an older one is refused: a file on other storage, or
    /// host-tpm:INDEX[,tcti=TCTI], a counter in this host's TPM that tells starts
    #[arg(long, value_name = "FILE|host-tpm:INDEX", value_parser = AnchorPlace::parse)]
    pub state_anchor: Option<AnchorPlace>,
    /// Go on from a state that is older than the anchor remembers; the TPM then shows it
    #[arg(long, requires = "state_anchor")]
    pub accept_rollback: bool,
    /// release-lock-outgoing: another process may have the state once its last blob has been fetched
    #[arg(long, value_name = "OPTIONS", value_parser = migration, default_value = "")]
    pub migration: Migration,
    /// action=none|log|kill: what happens to this process if it makes a system call that it has no need for
    #[arg(long, value_name = "OPTIONS", value_parser = seccomp, default_value = "action=kill")]
    pub seccomp: Seccomp,
    /// Print, as JSON, which of swtpm's abilities this program has
    #[arg(long)]
    pub print_capabilities: bool,
    /// Print, as JSON, which states are stored where --tpmstate says
    #[arg(long)]
    pub print_states: bool,
    /// file=P|fd=N: where the process id is written
    #[arg(long, value_name = "OPTIONS", value_parser = pid)]
    pub pid: Option<PathOrFd>,
}

/// A path, or a descriptor that the process was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathOrFd {
    /// A path.
    Path(PathBuf),
    /// A descriptor's number.
    Fd(RawFd),
}

/// Where connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TCP port to listen on.
    Tcp {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// A Unix socket to listen on.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its file mode bits.
        mode: u32,
    },
    /// A listening socket that the process was started with.
    Listening(RawFd),
    /// A connected socket that the process was started with.
    Connected(RawFd),
}

/// `--server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where clients come from.
    pub source: Source,
    /// Whether a connection ends with its first response.
    pub disconnect: bool,
}

/// `--ctrl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where the controlling process comes from.
    pub source: Source,
    /// Whether the program ends when the controlling process has closed its connection.
    pub terminate: bool,
}

/// `--flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Whether the TPM has power from the start.
    pub powered: bool,
    /// The TPM2_Startup that the program itself executes.
    pub startup: Option<StartupType>,
    /// Whether the program executes TPM2_Shutdown when the TPM loses power without one.
    pub auto_shutdown: bool,
}

/// `--locality`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Localities {
    /// Whether locality 4 is refused.
    pub reject_four: bool,
    /// Whether the command channel may set the locality by the vendor's command.
    pub in_band: bool,
}

/// `--log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where to; standard error unless given.
    pub target: Option<PathOrFd>,
    /// How much: 1, what goes wrong and who comes and goes; 5, every command by name, and its response code.
    pub level: u8,
    /// What each line begins with.
    pub prefix: String,
    /// Whether a file that exists is emptied.
    pub truncate: bool,
}

/// `--tpmstate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmState {
    /// The state's folder.
    pub dir: PathBuf,
    /// File mode bits of the state's file.
    pub mode: Option<u32>,
}

/// `--key` and `--migration-key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOption {
    /// Somebody has it.
    Given(GivenKey),
    /// A TPM of the host's opens it.
    HostTpm(HostTpm),
}

impl KeyOption {
    /// The number of the descriptor that it is read from.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Given(GivenKey { place: PathOrFd::Fd(fd), .. }) => Some(*fd),
            _ => None,
        }
    }
}

/// A key or passphrase in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenKey {
    /// Where the key or passphrase is.
    pub place: PathOrFd,
    /// How the key is written; `None`: it is a passphrase.
    pub format: Option<KeyFormat>,
    /// Whether its file is removed once it was read.
    pub remove: bool,
}

/// `--migration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Whether fetching the last blob gives the state's lock away.
    pub release_lock: bool,
}

/// `--seccomp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Nothing is filtered.
    None,
    /// The kernel logs what is not allowed.
    Log,
    /// What is not allowed ends the process.
    Kill,
}

const SERVER: Known = &[
    ("type", Kind::Value),
    ("port", Kind::Value),
    ("bindaddr", Kind::Value),
    ("path", Kind::Value),
    ("mode", Kind::Value),
    ("fd", Kind::Value),
    ("disconnect", Kind::Switch),
];
const CONTROL: Known = &[
    ("type", Kind::Value),
    ("port", Kind::Value),
    ("bindaddr", Kind::Value),
    ("path", Kind::Value),
    ("mode", Kind::Value),
    ("fd", Kind::Value),
    ("clientfd", Kind::Value),
    ("terminate", Kind::Switch),
];

/// Where swtpm takes the port from when none is given.
const PORT_VARIABLE: &str = "TPM_PORT";

fn server(text: &str) -> Result<Server, OptionError> {
    let options = Suboptions::parse(text, SERVER)?;
    let source = match source(&options)? {
        // swtpm reads commands from this descriptor; it does not listen on it.
        Source::Listening(fd) => Source::Connected(fd),
        source => source,
    };
    Ok(Server { source, disconnect: options.switch("disconnect")? })
}

fn control(text: &str) -> Result<Control, OptionError> {
    let options = Suboptions::parse(text, CONTROL)?;
    options.at_most_one(&["fd", "clientfd"])?;
    let source = match descriptor(&options, "clientfd")? {
        Some(fd) => Source::Connected(fd),
        None => source(&options)?,
    };
    Ok(Control { source, terminate: options.switch("terminate")? })
}

fn descriptor(options: &Suboptions, key: &'static str) -> Result<Option<RawFd>, OptionError> {
    options.with(key, |text| match text.parse::<RawFd>() {
        Ok(fd) if fd > 2 => Ok(fd),
        Ok(_) => Err("0, 1 and 2 are the standard streams".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

fn source(options: &Suboptions) -> Result<Source, OptionError> {
    if let Some(fd) = descriptor(options, "fd")? {
        options.at_most_one(&["fd", "port"])?;
        options.at_most_one(&["fd", "path"])?;
        return Ok(Source::Listening(fd));
    }
    match options.text("type").unwrap_or("tcp") {
        "tcp" => {
            options.at_most_one(&["port", "path"])?;
            let from_environment = || std::env::var(PORT_VARIABLE).ok().and_then(|port| port.parse().ok());
            let port =
                options.value("port")?.or_else(from_environment).ok_or(OptionError::Missing("`port` or `fd`"))?;
            let address = options.value("bindaddr")?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            Ok(Source::Tcp { address, port })
        }
        "unixio" => {
            options.at_most_one(&["path", "port"])?;
            let path = options.text("path").ok_or(OptionError::Missing("`path` or `fd`"))?.into();
            Ok(Source::Unix { path, mode: options.mode("mode")?.unwrap_or(0o770) })
        }
        other => Err(OptionError::Value {
            key: "type",
            value: other.to_owned(),
            reason: "neither `tcp` nor `unixio`".to_owned(),
        }),
    }
}

fn flags(text: &str) -> Result<Flags, OptionError> {
    let keys = [
        "not-need-init",
        "startup-none",
        "startup-clear",
        "startup-state",
        "startup-deactivated",
        "disable-auto-shutdown",
    ];
    const KNOWN: Known = &[
        ("not-need-init", Kind::Switch),
        ("startup-none", Kind::Switch),
        ("startup-clear", Kind::Switch),
        ("startup-state", Kind::Switch),
        ("startup-deactivated", Kind::Switch),
        ("disable-auto-shutdown", Kind::Switch),
    ];
    let options = Suboptions::parse(text, KNOWN)?;
    options.at_most_one(keys.get(1..5).unwrap_or_default())?;
    if options.switch("startup-deactivated")? {
        return Err(OptionError::Unsupported("`startup-deactivated` is of TPM 1.2; a TPM 2.0 has no such start"));
    }
    let startup = if options.switch("startup-clear")? {
        Some(StartupType::Clear)
    } else if options.switch("startup-state")? {
        Some(StartupType::State)
    } else {
        None
    };
    Ok(Flags {
        powered: options.switch("not-need-init")? || startup.is_some(),
        startup,
        auto_shutdown: !options.switch("disable-auto-shutdown")?,
    })
}

fn localities(text: &str) -> Result<Localities, OptionError> {
    let options =
        Suboptions::parse(text, &[("reject-locality-4", Kind::Switch), ("allow-set-locality", Kind::Switch)])?;
    Ok(Localities { reject_four: options.switch("reject-locality-4")?, in_band: options.switch("allow-set-locality")? })
}

fn log(text: &str) -> Result<Log, OptionError> {
    const KNOWN: Known = &[
        ("file", Kind::Value),
        ("fd", Kind::Value),
        ("level", Kind::Value),
        ("prefix", Kind::Value),
        ("truncate", Kind::Switch),
    ];
    let options = Suboptions::parse(text, KNOWN)?;
    options.at_most_one(&["file", "fd"])?;
    Ok(Log {
        target: path_or_fd(&options)?,
        level: options.value("level")?.unwrap_or(1),
        prefix: options.text("prefix").unwrap_or_default().to_owned(),
        truncate: options.switch("truncate")?,
    })
}

fn pid(text: &str) -> Result<PathOrFd, OptionError> {
    let options = Suboptions::parse(text, &[("file", Kind::Value), ("fd", Kind::Value)])?;
    options.at_most_one(&["file", "fd"])?;
    path_or_fd(&options)?.ok_or(OptionError::Missing("`file` or `fd`"))
}

/// Where swtpm takes the state's folder from when none is given.
pub(super) const PATH_VARIABLE: &str = "TPM_PATH";

fn tpm_state(text: &str) -> Result<TpmState, OptionError> {
    const KNOWN: Known = &[
        ("dir", Kind::Value),
        ("backend-uri", Kind::Value),
        ("mode", Kind::Value),
        ("lock", Kind::Switch),
        ("backup", Kind::Switch),
        ("fsync", Kind::Switch),
    ];
    let options = Suboptions::parse(text, KNOWN)?;
    options.at_most_one(&["dir", "backend-uri"])?;
    // A state of ours is always locked, always durable, and always two states, one of them the one before.
    for key in ["lock", "backup", "fsync"] {
        options.switch(key)?;
    }
    let from_uri = |uri: &str| match uri.split_once("://") {
        Some(("dir", dir)) => Ok(PathBuf::from(dir)),
        Some(("file", _)) => Err("a state is a folder here: use dir://".to_owned()),
        _ => Err("not dir://FOLDER".to_owned()),
    };
    let dir = match options.text("dir") {
        Some(dir) => PathBuf::from(dir),
        None => options.with("backend-uri", from_uri)?.ok_or(OptionError::Missing("`dir` or `backend-uri`"))?,
    };
    Ok(TpmState { dir, mode: options.mode("mode")? })
}

/// `--key` and `--migration-key`.
pub(crate) fn key(text: &str) -> Result<KeyOption, OptionError> {
    if let Some(host) = HostTpm::parse(text) {
        let wrong = |reason| OptionError::Value { key: "key", value: text.to_owned(), reason };
        return host.map(KeyOption::HostTpm).map_err(wrong);
    }
    const KNOWN: Known = &[
        ("file", Kind::Value),
        ("fd", Kind::Value),
        ("pwdfile", Kind::Value),
        ("pwdfd", Kind::Value),
        ("format", Kind::Value),
        ("mode", Kind::Value),
        ("kdf", Kind::Value),
        ("remove", Kind::Switch),
    ];
    let options = Suboptions::parse(text, KNOWN)?;
    for (n, one) in KNOWN.iter().take(4).enumerate() {
        for other in KNOWN.iter().take(4).skip(n + 1) {
            options.at_most_one(&[one.0, other.0])?;
        }
    }
    // They name ciphers of swtpm's; ours is XChaCha20-Poly1305 in any case, and Argon2id.
    options.with("mode", one_of(&["aes-cbc", "aes-256-cbc"]))?;
    options.with("kdf", one_of(&["sha512", "pbkdf2"]))?;
    let format = options.with("format", |text| match text {
        "hex" => Ok(KeyFormat::Hex),
        "binary" => Ok(KeyFormat::Binary),
        _ => Err("neither `hex` nor `binary`".to_owned()),
    })?;
    let (place, format) = if let Some(path) = options.text("pwdfile") {
        (PathOrFd::Path(path.into()), None)
    } else if let Some(fd) = descriptor(&options, "pwdfd")? {
        (PathOrFd::Fd(fd), None)
    } else if let Some(path) = options.text("file") {
        (PathOrFd::Path(path.into()), Some(format.unwrap_or(KeyFormat::Hex)))
    } else {
        let fd = descriptor(&options, "fd")?.ok_or(OptionError::Missing("`file`, `fd`, `pwdfile` or `pwdfd`"))?;
        (PathOrFd::Fd(fd), Some(format.unwrap_or(KeyFormat::Hex)))
    };
    Ok(KeyOption::Given(GivenKey { place, format, remove: options.switch("remove")? }))
}

fn migration_key(text: &str) -> Result<KeyOption, OptionError> {
    match key(text)? {
        KeyOption::HostTpm(_) => {
            Err(OptionError::Unsupported("a state that leaves is not for this host's TPM to open"))
        }
        given => Ok(given),
    }
}

fn one_of(words: &'static [&'static str]) -> impl Fn(&str) -> Result<(), String> {
    move |text| if words.contains(&text) { Ok(()) } else { Err(format!("not one of {}", words.join(", "))) }
}

fn migration(text: &str) -> Result<Migration, OptionError> {
    const KNOWN: Known = &[("incoming", Kind::Switch), ("release-lock-outgoing", Kind::Switch)];
    let options = Suboptions::parse(text, KNOWN)?;
    if options.switch("incoming")? {
        return Err(OptionError::Unsupported(
            "`incoming` is not supported yet: start this process when the other has released the state",
        ));
    }
    Ok(Migration { release_lock: options.switch("release-lock-outgoing")? })
}

fn seccomp(text: &str) -> Result<Seccomp, OptionError> {
    let options = Suboptions::parse(text, &[("action", Kind::Value)])?;
    let action = options.with("action", |text| match text {
        "none" => Ok(Seccomp::None),
        "log" => Ok(Seccomp::Log),
        "kill" => Ok(Seccomp::Kill),
        _ => Err("not `none`, `log` or `kill`".to_owned()),
    })?;
    action.ok_or(OptionError::Missing("`action`"))
}

/// `file` or `fd`. Any descriptor will do, standard error included.
fn path_or_fd(options: &Suboptions) -> Result<Option<PathOrFd>, OptionError> {
    Ok(match options.text("file") {
        Some(path) => Some(PathOrFd::Path(path.into())),
        None => options
            .with("fd", |text| match text.parse::<RawFd>() {
                Ok(fd) if fd >= 0 => Ok(fd),
                Ok(_) => Err("negative".to_owned()),
                Err(error) => Err(error.to_string()),
            })?
            .map(PathOrFd::Fd),
    })
}

impl Options {
    /// The numbers of all descriptors that the command line names.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let of_source = |source: &Source| match source {
            Source::Listening(fd) | Source::Connected(fd) => Some(*fd),
            Source::Tcp { .. } | Source::Unix { .. } => None,
        };
        let of_target = |target: &PathOrFd| match target {
            PathOrFd::Fd(fd) => Some(*fd),
            PathOrFd::Path(_) => None,
        };
        [
            self.server.as_ref().and_then(|server| of_source(&server.source)),
            self.ctrl.as_ref().and_then(|control| of_source(&control.source)),
            self.log.target.as_ref().and_then(of_target),
            self.pid.as_ref().and_then(of_target),
            self.key.as_ref().and_then(KeyOption::descriptor),
            self.migration_key.as_ref().and_then(KeyOption::descriptor),
            self.fd,
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_swtpm_reads_them() {
        let tcp = |address: &str, port| Source::Tcp { address: address.parse().unwrap(), port };
        assert_eq!(server("type=tcp,port=7").unwrap(), Server { source: tcp("127.0.0.1", 7), disconnect: false });
        assert_eq!(
            server("port=7,bindaddr=::1,disconnect").unwrap(),
            Server { source: tcp("::1", 7), disconnect: true }
        );
        let unix = Source::Unix { path: "/run/x".into(), mode: 0o600 };
        assert_eq!(server("type=unixio,path=/run/x,mode=0600").unwrap().source, unix);
        assert_eq!(server("type=tcp,fd=5").unwrap().source, Source::Connected(5));
        assert_eq!(control("type=unixio,fd=5").unwrap().source, Source::Listening(5));
        assert_eq!(
            control("type=unixio,clientfd=5,terminate").unwrap(),
            Control { source: Source::Connected(5), terminate: true }
        );
        for wrong in ["type=tcp,port=70000", "type=udp,port=1", "type=unixio", "type=tcp,fd=2", "fd=5,port=3", "path"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
        assert!(control("fd=5,clientfd=6").is_err());
    }

    #[test]
    fn a_key_is_somebody_s_or_the_host_tpm_s() {
        let given = GivenKey { place: PathOrFd::Path("k".into()), format: Some(KeyFormat::Hex), remove: true };
        assert_eq!(key("file=k,remove").unwrap(), KeyOption::Given(given));
        assert_eq!(key("pwdfd=7").unwrap().descriptor(), Some(7));
        assert!(matches!(key("host-tpm,pcrs=0+7,tcti=swtpm:host=h,port=1").unwrap(), KeyOption::HostTpm(_)));
        assert!(key("host-tpm,file=k").unwrap_err().to_string().contains("there is no `file=k`"));
        assert!(migration_key("host-tpm").is_err());
    }

    #[test]
    fn flags_imply_power() {
        let powered = Flags { powered: true, startup: None, auto_shutdown: true };
        assert_eq!(flags("").unwrap(), Flags { powered: false, ..powered });
        assert_eq!(flags("not-need-init").unwrap(), powered);
        assert_eq!(flags("startup-none").unwrap(), Flags { powered: false, ..powered });
        assert_eq!(flags("startup-clear").unwrap().startup, Some(StartupType::Clear));
        let state = Flags { powered: true, startup: Some(StartupType::State), auto_shutdown: false };
        assert_eq!(flags("startup-state,disable-auto-shutdown").unwrap(), state);
        assert!(flags("startup-clear,startup-state").is_err());
        assert!(flags("startup-deactivated").unwrap_err().to_string().contains("TPM 1.2"));
    }
}
