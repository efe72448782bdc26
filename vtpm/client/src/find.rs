//! Where the program `bulla-vtpm` is.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The program's file name.
pub const BINARY_NAME: &str = "bulla-vtpm";
/// The environment variable that names the program and overrules every other place.
pub const BINARY_VARIABLE: &str = "BULLA_VTPM";

/// The program is nowhere to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// What was tried, in order.
    pub tried: Vec<PathBuf>,
    /// Whether [`BINARY_VARIABLE`] was set, and so the only place that counted.
    pub by_variable: bool,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_variable {
            write!(f, "{BINARY_VARIABLE} does not name an executable file:")?;
        } else {
            write!(f, "no program {BINARY_NAME} was found; tried")?;
        }
        for (index, path) in self.tried.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma} {}", path.display())?;
        }
        write!(
            f,
            ". Build it with `cargo build -p bulla-vtpm`, install it beside this program, or set {BINARY_VARIABLE} to its path"
        )
    }
}

impl std::error::Error for NotFound {}

/// Finds the program: where `BULLA_VTPM` says; else beside this program; else one folder up from it
/// (test programs live in `target/*/deps`, the programs they use in `target/*`); else on `PATH`.
///
/// # Errors
/// [`NotFound`] tells all places that were tried.
pub fn find_binary() -> Result<PathBuf, NotFound> {
    find(env::var_os(BINARY_VARIABLE), env::current_exe().ok(), env::var_os("PATH"))
}

fn find(
    variable: Option<OsString>,
    this_program: Option<PathBuf>,
    path: Option<OsString>,
) -> Result<PathBuf, NotFound> {
    let by_variable = variable.is_some();
    let mut tried = Vec::new();
    if let Some(named) = variable {
        tried.push(PathBuf::from(named));
    } else {
        let folders = this_program.iter().flat_map(|p| p.ancestors().skip(1)).take(2);
        tried.extend(folders.map(|folder| folder.join(BINARY_NAME)));
        // A relative entry of PATH depends on where one stands: not for a program that is trusted.
        let on_path = path.iter().flat_map(env::split_paths);
        tried.extend(on_path.filter(|p| p.is_absolute()).map(|p| p.join(BINARY_NAME)));
    }
    match tried.iter().find(|path| is_program(path)) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound { tried, by_variable }),
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn program(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(BINARY_NAME);
        fs::write(&path, "#!").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_nearest_place_wins_and_the_variable_beats_all() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let this = Some(home.join("target/debug/deps/tests-1234"));
        let path = env::join_paths([home.join("a"), home.join("b")]).ok();
        let run = |variable: Option<&Path>| find(variable.map(OsString::from), this.clone(), path.clone());

        let missing = run(None).unwrap_err();
        assert_eq!(missing.tried.len(), 4);
        assert!(missing.to_string().contains("b/bulla-vtpm. Build it"));

        let on_path = program(&home.join("b"));
        assert_eq!(run(None), Ok(on_path));
        let up = program(&home.join("target/debug"));
        assert_eq!(run(None), Ok(up));
        let beside = program(&home.join("target/debug/deps"));
        assert_eq!(run(None), Ok(beside));
        let named = program(&home.join("named"));
        assert_eq!(run(Some(&named)), Ok(named.clone()));
    }

    #[test]
    fn a_variable_that_names_nothing_is_an_error_and_no_hint() {
        let home = tempfile::tempdir().unwrap();
        let this = program(&home.path().join("bin")).with_file_name("bulla");
        let wrong = home.path().join("nothing");
        let error = find(Some(wrong.clone().into()), Some(this), None).unwrap_err();
        assert_eq!(error.tried, [wrong]);
        assert!(error.to_string().starts_with("BULLA_VTPM does not name"));
    }

    #[test]
    fn a_file_that_cannot_be_run_and_a_relative_path_entry_do_not_count() {
        let home = tempfile::tempdir().unwrap();
        let path = program(&home.path().join("bin"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(find(None, Some(path.with_file_name("bulla")), None).is_err());
        let error = find(None, None, Some("relative:/absolute".into())).unwrap_err();
        assert_eq!(error.tried, [PathBuf::from("/absolute/bulla-vtpm")]);
    }
}
