//! The list of tests: `x86/unittests.cfg`, sections of `key = value` lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Anything;

/// What the suite gives a test that says nothing about time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);
/// What QEMU gives a machine that says nothing about memory, in MiB.
const DEFAULT_MEMORY: u64 = 128;

/// One section.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    pub(crate) vcpus: u32,
    arguments: String,
    /// Options for QEMU, word by word.
    pub(crate) options: Vec<String>,
    pub(crate) timeout: Duration,
    /// Why the suite itself would not run it here.
    pub(crate) not_here: Option<String>,
}

impl Test {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: PathBuf::new(),
            vcpus: 1,
            arguments: String::new(),
            options: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            not_here: None,
        }
    }

    fn option(&self, name: &str) -> Option<&str> {
        let at = self.options.iter().position(|word| word == name)?;
        self.options.get(at.checked_add(1)?).map(String::as_str)
    }

    /// What follows the image's name on its command line. The time of day is the one thing that the suite has its shell
    /// compute.
    pub(crate) fn arguments(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.arguments.replace("`date +%s`", &now.to_string())
    }

    /// Memory in MiB (`-m 2048`, `-m 4g`).
    pub(crate) fn memory(&self) -> u64 {
        let Some(text) = self.option("-m") else { return DEFAULT_MEMORY };
        let (digits, unit) = match text.strip_suffix(['g', 'G']) {
            Some(digits) => (digits, 1024),
            None => (text.trim_end_matches(['m', 'M']), 1),
        };
        digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).unwrap_or(DEFAULT_MEMORY)
    }

    /// What `-cpu MODEL,+x,-y,vendor=z` says after the model.
    pub(crate) fn cpu_wishes(&self) -> impl Iterator<Item = &str> {
        self.option("-cpu").unwrap_or_default().split(',').skip(1)
    }
}

/// Reads the list of a built tree.
pub(crate) fn read(tree: &Path) -> Anything<Vec<Test>> {
    let path = tree.join("x86/unittests.cfg");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(parse(&text, &tree.join("x86")))
}

fn parse(text: &str, images: &Path) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            tests.push(Test::new(name));
        } else if let (Some((key, value)), Some(test)) = (line.split_once('='), tests.last_mut()) {
            set(test, key.trim(), value.trim(), images);
        }
    }
    tests
}

fn set(test: &mut Test, key: &str, value: &str, images: &Path) {
    match key {
        "file" => test.image = images.join(value),
        "smp" => test.vcpus = value.parse().unwrap_or(1),
        "test_args" => test.arguments = value.trim_matches(['"', '\'']).to_owned(),
        "qemu_params" | "extra_params" => {
            test.options = value.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect();
        }
        "timeout" => test.timeout = value.parse().map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        "arch" if value != "x86_64" => test.not_here = Some(format!("for {value} only")),
        "groups" if value.split_whitespace().any(|group| group == "nodefault") => {
            test.not_here = Some("the suite runs it only by hand".to_owned());
        }
        // What is checked are parameters of the host's own KVM module, which our processors do not have.
        "check" => test.not_here = Some(format!("wants a host with {value}")),
        "accel" => test.not_here = Some(format!("wants QEMU with {value}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_become_tests_and_what_is_not_said_has_a_default() {
        let text = "# words\n[one]\nfile = a.flat\nsmp = 3\nqemu_params = -cpu max,+x2apic,-pcid -m 4g\ntimeout = 7\n\n\
                    [two]\nfile = b.flat\narch = i386\ntest_args = \"-x `date +%s`\"\n[three]\nfile=c\nqemu_params=-m 2048";
        let tests = parse(text, Path::new("x"));
        let [one, two, three] = &tests[..] else { panic!("{tests:?}") };
        assert_eq!((one.name.as_str(), one.image.as_path(), one.vcpus), ("one", Path::new("x/a.flat"), 3));
        assert_eq!((one.timeout, one.memory()), (Duration::from_secs(7), 4096));
        assert_eq!(one.cpu_wishes().collect::<Vec<_>>(), ["+x2apic", "-pcid"]);
        assert_eq!((two.timeout, two.memory()), (DEFAULT_TIMEOUT, DEFAULT_MEMORY));
        assert!(two.arguments().strip_prefix("-x ").is_some_and(|time| time.parse::<u64>().is_ok()));
        assert_eq!(two.not_here.as_deref(), Some("for i386 only"));
        assert_eq!((three.memory(), three.not_here.is_none()), (2048, true));
    }
}
