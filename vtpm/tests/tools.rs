//! tpm2-tools against the program bulla-vtpm: a client that nobody here wrote.
//!
//! The tools speak to it through their TCTI for the TCG's simulator, which this test answers on two sockets of the
//! loopback (command and platform, TCG "TPM 2.0 simulator" protocol) and hands on as the monitor would. Tests are
//! skipped where the tools are not installed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use bulla_tpm_types::{StartupType, command, response};
use bulla_vtpm_client::{Locality, VtpmProcess};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulla-vtpm");

/// Commands of the simulator's protocol.
const SEND_COMMAND: u32 = 8;
const SESSION_END: u32 = 20;

/// A vTPM that listens as the TCG's simulator does, and a folder for the tools' files.
struct Simulator {
    port: u16,
    dir: PathBuf,
}

fn u32_of(stream: &mut TcpStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Answers one connection to the command socket.
fn serve_commands(stream: &mut TcpStream, tpm: &Mutex<VtpmProcess>) -> io::Result<()> {
    while u32_of(stream)? == SEND_COMMAND {
        let mut locality = [0];
        stream.read_exact(&mut locality)?;
        let mut command = vec![0; usize::try_from(u32_of(stream)?).unwrap()];
        stream.read_exact(&mut command)?;
        let answer = tpm.lock().unwrap().client().command(Locality::try_from(locality[0]).unwrap(), &command).unwrap();
        let mut reply = u32::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
        reply.extend(answer);
        reply.extend([0; 4]);
        stream.write_all(&reply)?;
    }
    Ok(())
}

/// Answers one connection to the platform socket: every signal is taken, none is needed.
fn serve_platform(stream: &mut TcpStream) -> io::Result<()> {
    while u32_of(stream)? != SESSION_END {
        stream.write_all(&[0; 4])?;
    }
    Ok(())
}

/// Two listeners on neighbouring ports, as the protocol wants them.
fn neighbours() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let next = first.local_addr().unwrap().port().checked_add(1);
        if let Some(second) = next.and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()) {
            return (first, second);
        }
    }
}

impl Simulator {
    /// Starts a vTPM; `None`, with a word about it, where the tools are not there.
    fn start(test: &str) -> Option<Self> {
        for (tool, package) in [("tpm2_getcap", "tpm2-tools"), ("openssl", "openssl")] {
            if Command::new(tool).arg("--version").output().is_err() {
                println!("skipped: {test} needs {package}");
                return None;
            }
        }
        let mut process = VtpmProcess::spawn(Path::new(PROGRAM)).unwrap();
        process.client().power_on().unwrap();
        let started = process.client().command(Locality::ZERO, &command::startup(StartupType::Clear)).unwrap();
        response::parse_empty(&started).unwrap();
        let tpm = Arc::new(Mutex::new(process));
        let (commands, platform) = neighbours();
        let port = commands.local_addr().unwrap().port();
        let _ = thread::spawn(move || {
            for stream in commands.incoming() {
                let _ = serve_commands(&mut stream.unwrap(), &tpm);
            }
        });
        let _ = thread::spawn(move || {
            for stream in platform.incoming() {
                let _ = serve_platform(&mut stream.unwrap());
            }
        });
        let dir = std::env::temp_dir().join(format!("bulla-vtpm-tools-{}-{port}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Some(Self { port, dir })
    }

    /// Runs a line. The tools leave their objects loaded, for a resource manager to flush; here it is the test that
    /// does.
    fn output(&self, line: &str) -> Output {
        let flushed = self.just("tpm2_flushcontext -t");
        assert!(flushed.status.success());
        self.just(line)
    }

    fn just(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        Command::new(words.next().unwrap())
            .args(words)
            .current_dir(&self.dir)
            .env("TPM2TOOLS_TCTI", format!("mssim:host=127.0.0.1,port={}", self.port))
            .output()
            .unwrap()
    }

    /// Runs each line, which has to succeed; answers what the last one printed.
    fn run(&self, lines: &str) -> String {
        let mut last = String::new();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let output = self.output(line);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {errors}");
            last = String::from_utf8_lossy(&output.stdout).into_owned();
        }
        last
    }

    /// Runs a line, which the TPM has to refuse with this response code.
    fn refused(&self, line: &str, code: &str) {
        let output = self.output(line);
        let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success() && errors.contains(code), "{line}: {errors}");
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.join(name)).unwrap()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn data_are_sealed_to_a_parent_and_to_pcr() {
    let Some(tpm) = Simulator::start("sealing") else { return };
    tpm.write("secret", b"a secret of the tenant");
    tpm.run(
        "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_create -Q -C primary.ctx -i secret -p hush -u seal.pub -r seal.priv
         tpm2_load -Q -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx
         tpm2_unseal -Q -c seal.ctx -p hush -o out",
    );
    assert_eq!(tpm.read("out"), b"a secret of the tenant");
    // TPM_RC_AUTH_FAIL of session 1: the object is DA-protected.
    tpm.refused("tpm2_unseal -c seal.ctx -p wrong", "0x98e");

    tpm.run(
        "tpm2_startauthsession -Q -S trial.ctx
         tpm2_policypcr -Q -S trial.ctx -l sha256:0,16 -L pcr.policy
         tpm2_flushcontext -Q trial.ctx
         tpm2_create -Q -C primary.ctx -i secret -L pcr.policy -a fixedtpm|fixedparent -u seal.pub -r seal.priv
         tpm2_load -Q -C primary.ctx -u seal.pub -r seal.priv -c seal.ctx
         tpm2_startauthsession -Q --policy-session -S policy.ctx
         tpm2_policypcr -Q -S policy.ctx -l sha256:0,16
         tpm2_unseal -Q -c seal.ctx -p session:policy.ctx -o out2
         tpm2_flushcontext -Q policy.ctx
         tpm2_pcrextend -Q 16:sha256=1111111111111111111111111111111111111111111111111111111111111111
         tpm2_startauthsession -Q --policy-session -S policy.ctx
         tpm2_policypcr -Q -S policy.ctx -l sha256:0,16",
    );
    assert_eq!(tpm.read("out2"), b"a secret of the tenant");
    // TPM_RC_POLICY_FAIL of session 1.
    tpm.refused("tpm2_unseal -c seal.ctx -p session:policy.ctx", "0x99d");
}

/// RSAES and OAEP, each way: what OpenSSL encrypts the TPM decrypts, and the other way round, with a key that both have.
#[test]
fn openssl_and_the_tpm_encrypt_for_each_other() {
    let Some(tpm) = Simulator::start("RSA encryption") else { return };
    tpm.write("data", b"for the other side");
    tpm.run(
        "openssl genrsa -out key.pem 2048
         openssl rsa -in key.pem -pubout -out public.pem
         tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_import -Q -C primary.ctx -G rsa -i key.pem -u key.pub -r key.priv
         tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx",
    );
    let oaep = |hash| format!("-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{hash} -pkeyopt rsa_mgf1_md:{hash}");
    for (scheme, padding) in [
        ("rsaes", "-pkeyopt rsa_padding_mode:pkcs1".to_owned()),
        ("oaep-sha1", oaep("sha1")),
        ("oaep-sha256", oaep("sha256")),
        ("oaep-sha384", oaep("sha384")),
    ] {
        tpm.run(&format!(
            "openssl pkeyutl -encrypt -pubin -inkey public.pem {padding} -in data -out theirs
             tpm2_rsadecrypt -Q -c key.ctx -s {scheme} -o opened theirs
             tpm2_rsaencrypt -Q -c key.ctx -s {scheme} -o ours data
             openssl pkeyutl -decrypt -inkey key.pem {padding} -in ours -out read"
        ));
        assert_eq!(tpm.read("opened"), b"for the other side", "{scheme}");
        assert_eq!(tpm.read("read"), b"for the other side", "{scheme}");
    }
    // OpenSSL has the label as hexadecimal digits; the TPM's ends with a zero.
    let padding = oaep("sha256") + " -pkeyopt rsa_oaep_label:6c6162656c00";
    tpm.run(&format!(
        "openssl pkeyutl -encrypt -pubin -inkey public.pem {padding} -in data -out theirs
         tpm2_rsadecrypt -Q -c key.ctx -s oaep-sha256 -l label -o opened theirs
         tpm2_rsaencrypt -Q -c key.ctx -s oaep-sha256 -l label -o ours data
         openssl pkeyutl -decrypt -inkey key.pem {padding} -in ours -out read"
    ));
    assert_eq!((tpm.read("opened"), tpm.read("read")), (tpm.read("data"), tpm.read("data")));
    tpm.refused("tpm2_rsadecrypt -c key.ctx -s oaep-sha256 -l other -o opened theirs", "0x1c4");
}

#[test]
fn salted_and_bound_sessions_encrypt() {
    let Some(tpm) = Simulator::start("sessions") else { return };
    tpm.write("secret", b"0123456789");
    // HMAC sessions salted with the primary key, encrypting both ways.
    tpm.run(
        "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_startauthsession -Q --hmac-session --tpmkey-context primary.ctx -S hmac.ctx
         tpm2_sessionconfig -Q hmac.ctx --enable-encrypt --enable-decrypt
         tpm2_create -Q -C primary.ctx -P session:hmac.ctx -i secret -p hush -u seal.pub -r seal.priv
         tpm2_load -Q -C primary.ctx -P session:hmac.ctx -u seal.pub -r seal.priv -c seal.ctx
         tpm2_unseal -Q -c seal.ctx -p session:hmac.ctx+hush -o out
         tpm2_getrandom -Q -S hmac.ctx -o random 16
         tpm2_flushcontext -Q hmac.ctx",
    );
    assert_eq!(tpm.read("out"), b"0123456789");
    assert_eq!(tpm.read("random").len(), 16);
    tpm.run(
        "tpm2_startauthsession -Q --hmac-session --bind-context seal.ctx --bind-auth hush -S bound.ctx
         tpm2_unseal -Q -c seal.ctx -p session:bound.ctx+hush -o out2",
    );
    assert_eq!(tpm.read("out2"), b"0123456789");
}

#[test]
fn keys_attest_and_credentials_are_activated() {
    let Some(tpm) = Simulator::start("attestation") else { return };
    tpm.write("credential", b"sixteen octets..");
    tpm.run(
        "tpm2_createek -Q -G ecc -c ek.ctx -u ek.pub
         tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -f pem -n ak.name
         tpm2_quote -Q -c ak.ctx -l sha256:0,1,2 -q abcd -m quote.msg -s quote.sig -o quote.pcrs -g sha256
         tpm2_checkquote -Q -u ak.pub -m quote.msg -s quote.sig -f quote.pcrs -g sha256 -q abcd",
    );
    let name: String = tpm.read("ak.name").iter().map(|b| format!("{b:02x}")).collect();
    tpm.run(&format!("tpm2_makecredential -Q -u ek.pub -s credential -n {name} -o made"));
    tpm.run(
        "tpm2_startauthsession -Q --policy-session -S session.ctx
         tpm2_policysecret -Q -S session.ctx -c e
         tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i made -o out -P session:session.ctx
         tpm2_flushcontext -Q session.ctx",
    );
    assert_eq!(tpm.read("out"), b"sixteen octets..");
}

#[test]
fn keys_are_certified_and_the_owner_clears() {
    let Some(tpm) = Simulator::start("certification") else { return };
    tpm.run(
        "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_create -Q -C primary.ctx -G ecc -u key.pub -r key.priv --creation-data c.data -d c.hash -t c.ticket
         tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx
         tpm2_certify -Q -C key.ctx -c primary.ctx -g sha256 -o attest -s sig
         tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
         tpm2_certify -Q -C key.ctx -c primary.ctx -g sha256 -f plain -o attest -s sig.der
         openssl dgst -sha256 -verify key.pem -signature sig.der attest
         tpm2_certifycreation -Q -C key.ctx -c key.ctx -d c.hash -t c.ticket -g sha256 -o sig2 --attestation attest2
         tpm2_gettime -Q -c key.ctx -q 0011 --attestation time -o sig3
         tpm2_changeauth -Q -C primary.ctx -c key.ctx -r new.priv another
         tpm2_load -Q -C primary.ctx -u key.pub -r new.priv -c new.ctx
         tpm2_gettime -Q -c new.ctx -p another -q 0011 --attestation time -o sig3
         tpm2_dictionarylockout -Q -c
         tpm2_evictcontrol -Q -C o -c key.ctx 0x81010002
         tpm2_clear -Q",
    );
    assert_eq!(tpm.run("tpm2_getcap handles-persistent").trim(), "");
    // TPM_RC_INTEGRITY of parameter 1: the owner's hierarchy is another now.
    tpm.refused("tpm2_load -C primary.ctx -u key.pub -r key.priv -c key.ctx", "0x1df");
}

#[test]
fn policies_of_many_kinds() {
    let Some(tpm) = Simulator::start("policies") else { return };
    tpm.write("secret", b"for one of two");
    tpm.run(
        "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_startauthsession -Q -S s.ctx
         tpm2_policypassword -Q -S s.ctx -L password.policy
         tpm2_flushcontext -Q s.ctx
         tpm2_startauthsession -Q -S s.ctx
         tpm2_policysecret -Q -S s.ctx -c o -L secret.policy
         tpm2_flushcontext -Q s.ctx
         tpm2_startauthsession -Q -S s.ctx
         tpm2_policyor -Q -S s.ctx -L or.policy sha256:password.policy,secret.policy
         tpm2_flushcontext -Q s.ctx
         tpm2_create -Q -C primary.ctx -i secret -p hush -L or.policy -a fixedtpm|fixedparent -u o.pub -r o.priv
         tpm2_load -Q -C primary.ctx -u o.pub -r o.priv -c o.ctx
         tpm2_startauthsession -Q --policy-session -S s.ctx
         tpm2_policypassword -Q -S s.ctx
         tpm2_policyor -Q -S s.ctx sha256:password.policy,secret.policy
         tpm2_unseal -Q -c o.ctx -p session:s.ctx+hush -o out
         tpm2_flushcontext -Q s.ctx
         tpm2_startauthsession -Q --policy-session -S s.ctx
         tpm2_policysecret -Q -S s.ctx -c o
         tpm2_policyor -Q -S s.ctx sha256:password.policy,secret.policy
         tpm2_unseal -Q -c o.ctx -p session:s.ctx -o out2
         tpm2_flushcontext -Q s.ctx
         tpm2_startauthsession -Q --policy-session -S s.ctx
         tpm2_policycommandcode -Q -S s.ctx TPM2_CC_Quote",
    );
    assert_eq!((tpm.read("out"), tpm.read("out2")), (b"for one of two".to_vec(), b"for one of two".to_vec()));
    // Neither branch of the policy: TPM_RC_VALUE of parameter 1.
    tpm.refused("tpm2_policyor -S s.ctx sha256:password.policy,secret.policy", "0x1c4");
    // TPM_RC_POLICY_FAIL of session 1: the digest is compared before the command, as in libtpms.
    tpm.refused("tpm2_unseal -c o.ctx -p session:s.ctx", "0x99d");
}

#[test]
fn signatures_hmacs_and_persistent_keys() {
    let Some(tpm) = Simulator::start("signatures") else { return };
    tpm.write("message", b"what is signed");
    tpm.run(
        "tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_create -Q -C primary.ctx -G ecc -u key.pub -r key.priv
         tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx
         tpm2_sign -Q -c key.ctx -g sha256 -s ecdsa -o sig message
         tpm2_verifysignature -Q -c key.ctx -g sha256 -m message -s sig
         tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
         tpm2_sign -Q -c key.ctx -g sha256 -s ecdsa -f plain -o sig.der message
         openssl dgst -sha256 -verify key.pem -signature sig.der message
         tpm2_loadexternal -Q -C o -G ecc -u key.pem -c external.ctx
         tpm2_verifysignature -Q -c external.ctx -g sha256 -m message -s sig
         tpm2_evictcontrol -Q -C o -c key.ctx 0x81010001
         tpm2_sign -Q -c 0x81010001 -g sha256 -s ecdsa -o sig2 message
         tpm2_create -Q -C primary.ctx -G hmac -c hmac.ctx
         tpm2_hmac -Q -c hmac.ctx -o mac message",
    );
    assert_eq!(tpm.read("mac").len(), 32);
    assert_eq!(tpm.run("tpm2_getcap handles-persistent").trim(), "- 0x81010001");
    tpm.run("tpm2_evictcontrol -Q -C o -c 0x81010001");
    assert_eq!(tpm.run("tpm2_getcap handles-persistent").trim(), "");
    tpm.write("message2", b"something else");
    tpm.refused("tpm2_verifysignature -c external.ctx -g sha256 -m message2 -s sig", "0x2db");
}

#[test]
fn nv_indices_of_every_type() {
    let Some(tpm) = Simulator::start("NV indices") else { return };
    tpm.write("data", b"eight oc");
    tpm.write("pin", &[0, 0, 0, 0, 0, 0, 0, 2]);
    let basic = "ownerread|ownerwrite|authread|authwrite";
    tpm.run(&format!(
        "tpm2_nvdefine -Q -C o -s 16 -a {basic}|write_stclear|read_stclear 0x1500001
         tpm2_nvwrite -Q -C o -i data --offset 4 0x1500001
         tpm2_nvread -Q -C 0x1500001 -s 8 --offset 4 -o out 0x1500001
         tpm2_nvdefine -Q -C o -a {basic}|nt=counter 0x1500002
         tpm2_nvincrement -Q -C o 0x1500002
         tpm2_nvincrement -Q -C 0x1500002 0x1500002
         tpm2_nvread -Q -C o -s 8 -o count 0x1500002
         tpm2_nvdefine -Q -C o -a {basic}|nt=bits 0x1500003
         tpm2_nvsetbits -Q -C o --bits 0x8001 0x1500003
         tpm2_nvread -Q -C o -s 8 -o bits 0x1500003
         tpm2_nvdefine -Q -C o -g sha384 -a {basic}|nt=extend 0x1500004
         tpm2_nvextend -Q -C o -i data 0x1500004
         tpm2_nvread -Q -C o -s 48 -o digest 0x1500004
         tpm2_createprimary -Q -C o -G ecc -c primary.ctx
         tpm2_create -Q -C primary.ctx -G ecc -u key.pub -r key.priv
         tpm2_load -Q -C primary.ctx -u key.pub -r key.priv -c key.ctx
         tpm2_nvcertify -Q -C key.ctx -g sha256 -f plain -o sig.der --attestation attest --size 8 --offset 4 -c o 0x1500001
         tpm2_readpublic -Q -c key.ctx -f pem -o key.pem
         openssl dgst -sha256 -verify key.pem -signature sig.der attest
         tpm2_nvwritelock -Q -C o 0x1500001
         tpm2_nvreadlock -Q -C o 0x1500001"
    ));
    assert_eq!(tpm.read("out"), b"eight oc");
    assert_eq!((tpm.read("count"), tpm.read("bits")), (2u64.to_be_bytes().to_vec(), 0x8001u64.to_be_bytes().to_vec()));
    assert_eq!(tpm.read("digest").len(), 48);
    assert!(tpm.read("attest").ends_with(b"\0\x04\0\x08eight oc"));
    // TPM_RC_NV_LOCKED.
    tpm.refused("tpm2_nvwrite -C o -i data 0x1500001", "0x148");
    tpm.refused("tpm2_nvread -C o -s 8 0x1500001", "0x148");
    // A PIN that may be wrong twice. TPM_RC_BAD_AUTH of session 1, then TPM_RC_AUTH_UNAVAILABLE.
    tpm.run(
        "tpm2_nvdefine -Q -C o -p 1234 -a ownerread|ownerwrite|authread|no_da|nt=pinfail 0x1500005
         tpm2_nvwrite -Q -C o -i pin 0x1500005
         tpm2_nvread -Q -C 0x1500005 -P 1234 -s 8 -o pin.out 0x1500005",
    );
    tpm.refused("tpm2_nvread -C 0x1500005 -P 4321 -s 8 0x1500005", "0x9a2");
    tpm.refused("tpm2_nvread -C 0x1500005 -P 4321 -s 8 0x1500005", "0x9a2");
    tpm.refused("tpm2_nvread -C 0x1500005 -P 1234 -s 8 0x1500005", "0x12f");
    let listed = tpm.run("tpm2_getcap handles-nv-index");
    assert_eq!(listed.lines().count(), 5, "{listed}");
    tpm.run("tpm2_nvundefine -Q -C o 0x1500005");
    assert!(tpm.run("tpm2_nvreadpublic 0x1500004").contains("sha384"));
}
