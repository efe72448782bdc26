//! States that earlier releases have written, which every later one reads: `states/vN` has those of format N's first release.
//!
//! A new release adds a folder, written by `cargo test -p bulla-vtpm --test states -- --ignored`, and never changes one.
//! The files hold secrets of TPMs that were made for this test.

use std::fs;
use std::path::{Path, PathBuf};

use bulla_tpm_types::{
    Digest, Handle, HashAlg, NvAttributes, NvPublic, StartupType, cc, command, response, rh, templates,
};
use bulla_vtpm::platform;

const INDEX: Handle = Handle(0x0150_0001);
const PERSISTENT: Handle = Handle(0x8100_0001);
const VALUE: &[u8] = b"kept over the years";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states")
}

/// The Name of the persistent key, which is in a file of its own.
fn name_of(response: &[u8]) -> String {
    let name = response::parse_read_public(response).expect("a key").name;
    name.as_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
#[ignore = "writes the files for a new release"]
fn write() {
    let folder = folder().join("v1");
    fs::create_dir_all(&folder).expect("a folder");
    let mut tpm = platform::manufacture();
    tpm.init();
    tpm.execute(0, &command::startup(StartupType::Clear));
    let key = tpm.execute(0, &command::create_primary(rh::OWNER, &templates::ak_p256()));
    let key = response::parse_create_primary(&key).expect("a key");
    let evict = command::Builder::with_empty_auth(cc::EVICT_CONTROL, &[rh::OWNER, key.handle], 1);
    let attributes = NvAttributes::OWNER_READ.with(NvAttributes::OWNER_WRITE).with(NvAttributes::NO_DA);
    let data_size = u16::try_from(VALUE.len()).expect("short");
    let public =
        NvPublic { index: INDEX, name_alg: HashAlg::Sha256, attributes, auth_policy: Digest::EMPTY, data_size };
    for cmd in [
        evict.params(|w| w.put(&PERSISTENT)).build(),
        command::nv_define_space(rh::OWNER, &[], &public),
        command::nv_write(rh::OWNER, INDEX, VALUE, 0),
    ] {
        response::parse_empty(&tpm.execute(0, &cmd)).expect("done");
    }
    fs::write(folder.join("name"), name_of(&tpm.execute(0, &command::read_public(PERSISTENT)))).expect("written");
    fs::write(folder.join("running.permanent"), &*tpm.permanent()).expect("written");
    fs::write(folder.join("running.volatile"), &*tpm.volatile()).expect("written");
    response::parse_empty(&tpm.execute(0, &command::shutdown(StartupType::State))).expect("shutdown");
    fs::write(folder.join("shutdown.permanent"), &*tpm.permanent()).expect("written");
}

#[test]
fn states_of_all_releases_are_read() {
    let mut releases = 0;
    for release in fs::read_dir(folder()).expect("the folder") {
        let release = release.expect("a folder").path();
        let read = |name: &str| fs::read(release.join(name)).expect(name);
        for (state, startup) in [("running.permanent", StartupType::Clear), ("shutdown.permanent", StartupType::State)]
        {
            let mut tpm = platform::load(&read(state)).expect(state);
            tpm.init();
            response::parse_empty(&tpm.execute(0, &command::startup(startup))).expect(state);
            check(&mut tpm, &read("name"));
        }
        let mut tpm = platform::load(&read("running.permanent")).expect("running");
        tpm.restore_volatile(&read("running.volatile")).expect("suspended");
        check(&mut tpm, &read("name"));
        releases += 1;
    }
    assert!(releases > 0);
}

fn check(tpm: &mut bulla_vtpm::engine::Tpm, name: &[u8]) {
    assert_eq!(name_of(&tpm.execute(0, &command::read_public(PERSISTENT))).as_bytes(), name);
    let size = u16::try_from(VALUE.len()).expect("short");
    let read = tpm.execute(0, &command::nv_read(rh::OWNER, INDEX, size, 0));
    assert_eq!(response::parse_nv_read(&read), Ok(VALUE));
    // Primary keys are the same for ever.
    let key = tpm.execute(0, &command::create_primary(rh::OWNER, &templates::ak_p256()));
    let key = response::parse_create_primary(&key).expect("a key");
    assert_eq!(name_of(&tpm.execute(0, &command::read_public(key.handle))).as_bytes(), name);
}
