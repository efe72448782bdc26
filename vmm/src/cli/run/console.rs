//! Where the guest's console goes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use super::events::Events;
use crate::cli::{Exit, Failure};

/// Passes the console on and looks for the text of `--until console:TEXT`.
pub(crate) struct Console {
    sink: Box<dyn Write + Send>,
    /// As many of the last bytes as the text has.
    last: VecDeque<u8>,
    events: Arc<Events>,
}

impl Console {
    pub(crate) fn open(place: &str, json: bool, events: Arc<Events>) -> Result<Self, Failure> {
        let sink: Box<dyn Write + Send> = match place {
            "none" => Box::new(io::sink()),
            "stdio" if json => Box::new(io::stderr()),
            "stdio" => Box::new(io::stdout()),
            path => {
                let failed = |e| Failure::because(Exit::HostFailed, format!("cannot write the console to {path}"), &e);
                Box::new(File::create(path).map_err(failed)?)
            }
        };
        Ok(Self { sink, last: VecDeque::new(), events })
    }

    fn look(&mut self, bytes: &[u8]) {
        let Some(needle) = self.events.needle() else { return };
        for byte in bytes {
            self.last.push_back(*byte);
            if self.last.len() > needle.len() {
                self.last.pop_front();
            }
            if self.last.iter().eq(needle.as_bytes()) {
                self.events.needle_seen();
            }
        }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.sink.write(bytes)?;
        self.look(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::events::Until;

    #[test]
    fn a_text_is_found_across_writes() {
        let events = Arc::new(Events::new(false, Some(Until::Console("Linux version".into()))));
        let mut console = Console::open("none", false, Arc::clone(&events)).unwrap();
        console.write_all(b"LLinux ver").unwrap();
        assert!(!events.reached());
        console.write_all(b"sion 6.1").unwrap();
        assert!(events.reached());
    }
}
