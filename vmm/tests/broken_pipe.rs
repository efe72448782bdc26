//! Readers that leave early, as `head` does.

use std::io;
use std::process::{Command, Stdio};

/// What is left to say goes nowhere; the exit code and standard error are as they were.
#[test]
fn a_reader_that_has_left_changes_nothing_but_the_output() {
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let bulla = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bulla"));
            command.args(arguments);
            command
        };
        let read = bulla().output().unwrap();
        assert!(!read.stdout.is_empty());
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let unread = bulla().stdout(Stdio::from(writer)).output().unwrap();
        let words = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!((unread.status, words(unread.stderr)), (read.status, words(read.stderr)), "{arguments:?}");
    }
}
