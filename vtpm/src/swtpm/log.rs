//! The log: lines with a prefix, on standard error or in a file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

use super::inherited::Inherited;
use super::options::{Log as Options, PathOrFd};

/// Level of what goes wrong, and of who comes and goes.
pub(super) const EVENTS: u8 = 1;
/// Level of every command.
pub(super) const COMMANDS: u8 = 5;

/// Where log lines go. Never in them: what is in a command, a response or a blob.
#[derive(Debug)]
pub(super) struct Log {
    target: Target,
    level: u8,
    prefix: String,
}

#[derive(Debug)]
enum Target {
    StandardError,
    File(Mutex<File>),
    Nowhere,
}

impl Log {
    /// Opens the log.
    pub(super) fn open(options: &Options, inherited: &mut Inherited) -> io::Result<Self> {
        let target = match &options.target {
            None => Target::StandardError,
            Some(PathOrFd::Path(path)) if path == Path::new("-") => Target::Nowhere,
            Some(PathOrFd::Path(path)) => {
                let mut open = OpenOptions::new();
                open.create(true);
                if options.truncate {
                    open.write(true).truncate(true)
                } else {
                    open.append(true)
                };
                Target::File(Mutex::new(open.open(path)?))
            }
            Some(PathOrFd::Fd(fd)) => Target::File(Mutex::new(File::from(inherited.take(*fd)?))),
        };
        Ok(Self { target, level: options.level, prefix: options.prefix.clone() })
    }

    /// Writes a line if its level is wanted. A log that cannot be written is no reason to stop.
    pub(super) fn line(&self, level: u8, text: fmt::Arguments<'_>) {
        if level > self.level {
            return;
        }
        let line = format!("{}{text}\n", self.prefix);
        match &self.target {
            Target::StandardError => drop(io::stderr().write_all(line.as_bytes())),
            Target::File(file) => {
                if let Ok(mut file) = file.lock() {
                    drop(file.write_all(line.as_bytes()));
                }
            }
            Target::Nowhere => {}
        }
    }
}
