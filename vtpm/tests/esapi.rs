//! The library tss-esapi, on tpm2-tss, as a client of `bulla-vtpm socket` that nobody here wrote: `cargo nextest run -p
//! bulla-vtpm --features host-tpm --test esapi`, which needs libtss2-dev. `./x test` runs it where that is installed.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use tss_esapi::abstraction::{ak, ek, nv};
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::constants::{NvIndexType, SessionType};
use tss_esapi::handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, PcrHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::{
    AsymmetricAlgorithm, EccSchemeAlgorithm, HashingAlgorithm, PublicAlgorithm, SignatureSchemeAlgorithm,
};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Attest, AttestInfo, Auth, Data, Digest, DigestValues, EccScheme, HashScheme, HashcheckTicket, HmacScheme,
    KeyedHashScheme, MaxNvBuffer, Nonce, NvPublicBuilder, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public,
    PublicBuilder, PublicKeyedHashParameters, RsaExponent, RsaScheme, SensitiveData, Signature, SignatureScheme,
    SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;
use tss_esapi::{Context, utils};

/// A started TPM, killed when dropped.
struct Tpm {
    process: Child,
    port: u16,
}

impl Tpm {
    /// tpm2-tss takes the port after the commands' for the control channel.
    fn start() -> Self {
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr()).map(|a| a.port());
        let port = (0..100)
            .find_map(|_| free(0).ok().filter(|port| port.checked_add(1).is_some_and(|next| free(next).is_ok())))
            .expect("two free ports");
        let process = Command::new(env!("CARGO_BIN_EXE_bulla-vtpm"))
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--server", &format!("type=tcp,port={port}"), "--ctrl", &format!("type=tcp,port={}", port + 1)])
            .stdout(Stdio::null())
            .spawn()
            .expect("bulla-vtpm starts");
        let mut tpm = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1)).is_err() {
            assert!(tpm.process.try_wait().expect("a child").is_none(), "bulla-vtpm ended");
            assert!(begun.elapsed() < Duration::from_secs(20), "bulla-vtpm does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        tpm
    }

    fn client(&self) -> Context {
        let tcti = TctiNameConf::from_str(&format!("swtpm:host=127.0.0.1,port={}", self.port)).expect("a TCTI");
        Context::new(tcti).expect("a context")
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A session whose commands and responses are encrypted, where they can be.
fn session(client: &mut Context, kind: SessionType) -> AuthSession {
    let session = client
        .start_auth_session(None, None, None, kind, SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256)
        .expect("StartAuthSession")
        .expect("a session");
    let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
    client.tr_sess_set_attributes(session, attributes, mask).expect("attributes");
    session
}

/// A storage key of the owner's: RSA-2048, as most software has it.
fn storage_key(client: &mut Context) -> KeyHandle {
    let template = utils::create_restricted_decryption_rsa_public(
        SymmetricDefinitionObject::AES_128_CFB,
        RsaKeyBits::Rsa2048,
        RsaExponent::default(),
    )
    .expect("a template");
    client.create_primary(Hierarchy::Owner, template, None, None, None, None).expect("CreatePrimary").key_handle
}

fn pcrs(slots: &[PcrSlot]) -> PcrSelectionList {
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, slots).build().expect("a selection")
}

#[test]
fn a_created_key_quotes_and_ring_believes_it() {
    let tpm = Tpm::start();
    let mut client = tpm.client();
    let auth = session(&mut client, SessionType::Hmac);
    client.set_sessions((Some(auth), None, None));

    let parent = storage_key(&mut client);
    let scheme = EccScheme::create(EccSchemeAlgorithm::EcDsa, Some(HashingAlgorithm::Sha256), None).expect("a scheme");
    let template = utils::create_unrestricted_signing_ecc_public(scheme, EccCurve::NistP256).expect("a template");
    let auth_value = Auth::try_from(b"of the key".to_vec()).expect("an authValue");
    let made = client.create(parent, template, Some(auth_value.clone()), None, None, None).expect("Create");
    let key = client.load(parent, made.out_private, made.out_public.clone()).expect("Load");
    client.tr_set_auth(key.into(), auth_value).expect("the authValue is the client's to know");

    let nonce = Data::try_from(b"a nonce".to_vec()).expect("data");
    let (attest, signature): (Attest, Signature) = client
        .quote(key, nonce.clone(), SignatureScheme::Null, pcrs(&[PcrSlot::Slot0, PcrSlot::Slot7]))
        .expect("Quote");
    assert_eq!(attest.extra_data(), &nonce);
    let AttestInfo::Quote { info } = attest.attested() else { panic!("{attest:?} is no quote") };
    let zeros = ring::digest::digest(&ring::digest::SHA256, &[0; 64]);
    assert_eq!(info.pcr_digest().value(), zeros.as_ref(), "nothing was measured");

    let (Public::Ecc { unique, .. }, Signature::EcDsa(signature)) = (made.out_public, signature) else {
        panic!("another kind of key");
    };
    let point = [&[4][..], unique.x().value(), unique.y().value()].concat();
    let rs = [signature.signature_r().value(), signature.signature_s().value()].concat();
    let bytes = attest.marshall().expect("bytes");
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(&bytes, &rs)
        .expect("the signature is good");
}

/// The certificate authority's part and the TPM's of a credential, for endorsement keys of both kinds.
#[test]
fn a_credential_is_activated_by_its_key_only() {
    let tpm = Tpm::start();
    for (kind, scheme) in [
        (AsymmetricAlgorithm::Rsa, SignatureSchemeAlgorithm::RsaPss),
        (AsymmetricAlgorithm::Ecc, SignatureSchemeAlgorithm::EcDsa),
    ] {
        let mut client = tpm.client();
        let ek = ek::create_ek_object(&mut client, kind, None).expect("an endorsement key");
        let made = ak::create_ak(&mut client, ek, HashingAlgorithm::Sha256, scheme, None, None).expect("Create");
        let ak = ak::load_ak(&mut client, ek, None, made.out_private, made.out_public).expect("Load");
        let (_, name, _) = client.read_public(ak).expect("ReadPublic");
        let (_, other, _) = client.read_public(ek).expect("ReadPublic");
        let secret = Digest::try_from(b"for this key only".to_vec()).expect("a digest");

        for (name, is_its) in [(name, true), (other, false)] {
            let (blob, seed) = client.make_credential(ek, secret.clone(), name).expect("MakeCredential");
            let by_value = session(&mut client, SessionType::Hmac);
            let by_policy = session(&mut client, SessionType::Policy);
            let policy = PolicySession::try_from(by_policy).expect("a policy session");
            client.set_sessions((Some(by_value), None, None));
            client
                .policy_secret(
                    policy,
                    AuthHandle::Endorsement,
                    Nonce::default(),
                    Digest::default(),
                    Nonce::default(),
                    None,
                )
                .expect("the endorsement key's policy");
            let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(false).with_encrypt(false).build();
            client.tr_sess_set_attributes(by_policy, attributes, mask).expect("attributes");
            client.set_sessions((Some(by_value), Some(by_policy), None));
            let activated = client.activate_credential(ak, ek, blob, seed);
            assert_eq!(activated.ok(), is_its.then(|| secret.clone()), "{kind:?}");
            client.clear_sessions();
            if !is_its {
                // Sessions of a command that succeeded, without continueSession, are gone.
                client.flush_context(SessionHandle::from(by_value).into()).expect("FlushContext");
                client.flush_context(SessionHandle::from(by_policy).into()).expect("FlushContext");
            }
        }
        for key in [ak, ek] {
            client.flush_context(key.into()).expect("FlushContext");
        }
    }
}

/// Sealed under PolicyPCR and PolicyAuthValue, as disks are: what was measured and a PIN, both.
#[test]
fn sealed_data_open_while_the_pcr_is_what_it_was() {
    let tpm = Tpm::start();
    let mut client = tpm.client();
    let auth = session(&mut client, SessionType::Hmac);
    client.set_sessions((Some(auth), None, None));
    let parent = storage_key(&mut client);
    let selection = || pcrs(&[PcrSlot::Slot16]);
    let pin = Auth::try_from(b"1234".to_vec()).expect("an authValue");
    let assert_policy = |client: &mut Context, session: AuthSession| {
        let policy = PolicySession::try_from(session).expect("a policy session");
        client.execute_without_session(|client| {
            client.policy_pcr(policy, Digest::default(), selection()).expect("PolicyPCR");
            client.policy_auth_value(policy).expect("PolicyAuthValue");
            client.policy_get_digest(policy).expect("PolicyGetDigest")
        })
    };

    let trial = session(&mut client, SessionType::Trial);
    let digest = assert_policy(&mut client, trial);
    let attributes =
        ObjectAttributesBuilder::new().with_fixed_tpm(true).with_fixed_parent(true).build().expect("attributes");
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(digest)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
        .expect("a template");
    let secret = SensitiveData::try_from(b"the disk's key".to_vec()).expect("data");
    let made = client.create(parent, template, Some(pin.clone()), Some(secret.clone()), None, None).expect("Create");
    let object = client.load(parent, made.out_private, made.out_public).expect("Load");

    let open = |client: &mut Context, pin: Auth| {
        let policy = session(client, SessionType::Policy);
        assert_policy(client, policy);
        client.tr_set_auth(object.into(), pin).expect("the client's to know");
        client.execute_with_session(Some(policy), |client| client.unseal(object.into()))
    };
    assert_eq!(open(&mut client, pin.clone()).expect("Unseal").value(), secret.value());
    let wrong = Auth::try_from(b"4321".to_vec()).expect("an authValue");
    open(&mut client, wrong).expect_err("not with another PIN");

    let mut measured = DigestValues::new();
    measured.set(HashingAlgorithm::Sha256, Digest::try_from(vec![7; 32]).expect("a digest"));
    client.pcr_extend(PcrHandle::Pcr16, measured).expect("PCR_Extend");
    open(&mut client, pin).expect_err("not after another measurement");
}

#[test]
fn nv_indices_are_written_read_and_count() {
    let tpm = Tpm::start();
    let mut client = tpm.client();
    let auth = session(&mut client, SessionType::Hmac);
    client.set_sessions((Some(auth), None, None));
    let attributes = || {
        NvIndexAttributesBuilder::new()
            .with_owner_write(true)
            .with_owner_read(true)
            .with_auth_read(true)
            .with_auth_write(true)
    };
    let define = |client: &mut Context, index: u32, kind: NvIndexType, size: usize| {
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index).expect("an index"))
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes().with_nv_index_type(kind).build().expect("attributes"))
            .with_data_area_size(size)
            .build()
            .expect("a public area");
        let auth_value = Auth::try_from(b"of the index".to_vec()).expect("an authValue");
        client.nv_define_space(Provision::Owner, Some(auth_value), public).expect("NV_DefineSpace")
    };

    // More than fits one command, by the index's own authValue.
    let data: Vec<u8> = (0..1500u32).map(|n| n as u8).collect();
    let index = define(&mut client, 0x0180_0010, NvIndexType::Ordinary, data.len());
    for (n, part) in data.chunks(500).enumerate() {
        let part = MaxNvBuffer::try_from(part.to_vec()).expect("a buffer");
        client.nv_write(NvAuth::NvIndex(index), index, part, (n * 500) as u16).expect("NV_Write");
    }
    let mut read: Vec<u8> = Vec::new();
    for offset in [0, 750] {
        read.extend(client.nv_read(NvAuth::Owner, index, 750, offset).expect("NV_Read").value());
    }
    assert_eq!(read, data);

    let counter = define(&mut client, 0x0180_0011, NvIndexType::Counter, 8);
    let mut values = Vec::new();
    for _ in 0..3 {
        client.nv_increment(NvAuth::Owner, counter).expect("NV_Increment");
        let value = client.nv_read(NvAuth::NvIndex(counter), counter, 8, 0).expect("NV_Read");
        values.push(u64::from_be_bytes(value.value().try_into().expect("eight octets")));
    }
    assert!(values.windows(2).all(|w| w[1] == w[0] + 1), "{values:?}");

    client.nv_undefine_space(Provision::Owner, index).expect("NV_UndefineSpace");
    client.nv_undefine_space(Provision::Owner, counter).expect("NV_UndefineSpace");
    assert!(nv::list(&mut client).expect("a list").is_empty());
}

/// CVE-2025-2884: a scheme that does not fit the key must not reach its private part.
#[test]
fn a_scheme_of_another_kind_of_key_is_refused() {
    let tpm = Tpm::start();
    let mut client = tpm.client();
    let auth = session(&mut client, SessionType::Hmac);
    client.set_sessions((Some(auth), None, None));
    let template =
        utils::create_unrestricted_signing_rsa_public(RsaScheme::Null, RsaKeyBits::Rsa2048, RsaExponent::default())
            .expect("a template");
    let made = client.create_primary(Hierarchy::Owner, template, None, None, None, None).expect("CreatePrimary");
    let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
    let digest = Digest::try_from(vec![7; 32]).expect("a digest");
    let mut sign = |scheme| {
        let no_ticket =
            TPMT_TK_HASHCHECK { tag: TPM2_ST_HASHCHECK, hierarchy: TPM2_RH_NULL, digest: Default::default() };
        let no_ticket = HashcheckTicket::try_from(no_ticket).expect("a ticket");
        client.sign(made.key_handle, digest.clone(), scheme, no_ticket)
    };
    sign(SignatureScheme::RsaSsa { hash_scheme: sha256 }).expect("its own");
    sign(SignatureScheme::RsaPss { hash_scheme: sha256 }).expect("its own");
    sign(SignatureScheme::EcDsa { hash_scheme: sha256 }).expect_err("a curve's");
    let hmac = HmacScheme::new(HashingAlgorithm::Sha256);
    sign(SignatureScheme::Hmac { hmac_scheme: hmac }).expect_err("a keyed hash's");
}
