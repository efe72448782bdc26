//! CreatePrimary, ReadPublic and FlushContext.

use bulla_tpm_types::command::Builder;
use bulla_tpm_types::{
    AsymScheme, AuthCommand, Data, Handle, HashAlg, KdfScheme, Marshal, ObjectAttributes as A, PcrSelection,
    PcrSelectionList, Public, PublicKind, Rc, SensitiveCreate, StartupType, Symmetric, alg, cc, command, hash, rc,
    response, rh, templates,
};

use super::{code, load, load_ak, pcr, run, started, startup};

fn create(
    hierarchy: Handle,
    password: &[u8],
    sensitive: &SensitiveCreate<'_>,
    public: &Public,
    outside: &[u8],
    pcrs: &PcrSelectionList,
) -> Vec<u8> {
    let session = AuthCommand::password(password).expect("fits");
    Builder::with_sessions(cc::CREATE_PRIMARY, &[hierarchy], &[session])
        .params(|w| {
            w.sized(|w| w.put(sensitive));
            w.sized(|w| w.put(public));
            w.put(&Data::new(outside).expect("fits"));
            w.put(pcrs);
        })
        .build()
}

#[test]
fn a_seed_and_a_template_always_make_the_same_key() {
    let mut tpm = started();
    let first = load(&mut tpm, rh::ENDORSEMENT, &templates::ek_p256());
    let again = load(&mut tpm, rh::ENDORSEMENT, &templates::ek_p256());
    assert_ne!(first.handle, again.handle);
    assert_eq!((first.public, first.name), (again.public, again.name));
    let owner = load(&mut tpm, rh::OWNER, &templates::ek_p256());
    assert_ne!(first.name, owner.name, "each hierarchy has a seed of its own");
    assert_ne!(first.public.kind, load_ak(&mut tpm, rh::ENDORSEMENT).public.kind);
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_eq!(load(&mut tpm, rh::ENDORSEMENT, &templates::ek_p256()).name, first.name);
}

#[test]
fn the_null_hierarchy_forgets_its_keys_at_each_reset() {
    let mut tpm = started();
    let before = load_ak(&mut tpm, rh::NULL).name;
    tpm.init();
    startup(&mut tpm, StartupType::Clear).expect("startup");
    assert_ne!(load_ak(&mut tpm, rh::NULL).name, before);
}

#[test]
fn creation_data_names_the_parent_the_locality_and_the_pcr() {
    let mut tpm = started();
    let selection = PcrSelectionList::from_slice(&[PcrSelection::new(HashAlg::Sha256, &[1])]).expect("one");
    let cmd = create(rh::OWNER, &[], &SensitiveCreate::default(), &templates::ak_p256(), b"outside", &selection);
    let made = response::parse_create_primary(&tpm.execute(2, &cmd)).expect("a key");
    let data = made.creation_data;
    assert_eq!(data.locality.bits(), 1 << 2);
    assert_eq!((data.parent_name_alg, &data.outside_info[..]), (None, &b"outside"[..]));
    assert_eq!(data.parent_name[..], rh::OWNER.to_vec());
    assert_eq!(data.parent_qualified_name, data.parent_name);
    assert_eq!(data.pcr_select, selection);
    let value = pcr(&mut tpm, HashAlg::Sha256, 1);
    assert_eq!(data.pcr_digest, hash::digest(HashAlg::Sha256, &[&value]).digest());
    assert_eq!(made.creation_hash, hash::digest(HashAlg::Sha256, &[&data.to_vec()]).digest());
    assert_eq!((made.creation_ticket.hierarchy, made.creation_ticket.digest.len()), (rh::OWNER, 32));
    assert_eq!(made.name, made.public.name());
}

#[test]
fn the_public_area_can_be_read_while_the_key_is_loaded() {
    let mut tpm = started();
    let key = load_ak(&mut tpm, rh::ENDORSEMENT);
    let read = response::parse_read_public(&run(&mut tpm, &command::read_public(key.handle))).expect("loaded");
    assert_eq!((read.public, read.name), (key.public, key.name));
    let mut qualified = vec![0, 0x0b];
    qualified.extend(hash::digest(HashAlg::Sha256, &[&rh::ENDORSEMENT.to_vec(), &key.name]).as_bytes());
    assert_eq!(read.qualified_name[..], qualified);
    assert_eq!(code(&mut tpm, &command::flush_context(key.handle)), rc::SUCCESS);
    assert_eq!(code(&mut tpm, &command::read_public(key.handle)), rc::REFERENCE_H0);
    assert_eq!(code(&mut tpm, &command::flush_context(key.handle)), rc::HANDLE.parameter(1));
    assert_eq!(code(&mut tpm, &command::flush_context(rh::OWNER)), rc::VALUE.parameter(1));
}

#[test]
fn slots_are_limited_and_come_back() {
    let mut tpm = started();
    let handles: Vec<_> = (0..8).map(|_| load_ak(&mut tpm, rh::OWNER).handle).collect();
    let one_more = command::create_primary(rh::OWNER, &templates::ak_p256());
    assert_eq!(code(&mut tpm, &one_more), rc::OBJECT_MEMORY);
    assert_eq!(code(&mut tpm, &command::hash_sequence_start(None)), rc::OBJECT_MEMORY);
    assert_eq!(code(&mut tpm, &command::flush_context(handles[3])), rc::SUCCESS);
    assert_eq!(load_ak(&mut tpm, rh::OWNER).handle, handles[3]);
}

#[test]
fn templates_that_make_no_sense_are_refused() {
    let mut tpm = started();
    let mut refused = |public: Public, want: Rc| {
        let cmd = command::create_primary(rh::OWNER, &public);
        assert_eq!(code(&mut tpm, &cmd), want.parameter(2), "{public:?}");
    };
    let ak = templates::ak_p256();
    let ek = templates::ek_p256();
    let with = |public: Public, attributes: A| Public { attributes, ..public };
    let parms = |public: Public, change: &dyn Fn(&mut bulla_tpm_types::EccParms)| {
        let mut public = public;
        if let PublicKind::Ecc { parms, .. } = &mut public.kind {
            change(parms);
        }
        public
    };
    refused(with(ak, ak.attributes.without(A::FIXED_PARENT)), rc::ATTRIBUTES);
    refused(with(ak, ak.attributes | A::ENCRYPTED_DUPLICATION), rc::ATTRIBUTES);
    refused(with(ak, ak.attributes | A::DECRYPT), rc::ATTRIBUTES);
    refused(with(ak, ak.attributes.without(A::SIGN)), rc::ATTRIBUTES);
    refused(with(ak, ak.attributes.without(A::SENSITIVE_DATA_ORIGIN)), rc::ATTRIBUTES);
    refused(with(ek, ek.attributes | A::X509_SIGN), rc::ATTRIBUTES);
    refused(with(ak, A::from_bits(1 << 31 | ak.attributes.bits())), rc::RESERVED_BITS);
    refused(Public { name_alg: None, ..ak }, rc::HASH);
    refused(Public { auth_policy: bulla_tpm_types::Digest::zeros(31).expect("fits"), ..ak }, rc::SIZE);
    refused(parms(ak, &|p| p.curve = 0x10), rc::CURVE);
    refused(parms(ak, &|p| p.symmetric = Symmetric::AES_128_CFB), rc::SYMMETRIC);
    refused(parms(ek, &|p| p.symmetric = Symmetric::Null), rc::SYMMETRIC);
    refused(parms(ek, &|p| p.symmetric = Symmetric::Aes { bits: 128, mode: alg::CMAC }), rc::MODE);
    refused(parms(ak, &|p| p.scheme = AsymScheme::Null), rc::SCHEME);
    refused(parms(ak, &|p| p.scheme = AsymScheme::Ecdh(HashAlg::Sha256)), rc::SCHEME);
    refused(parms(ek, &|p| p.scheme = AsymScheme::Ecdsa(HashAlg::Sha256)), rc::SCHEME);
    refused(parms(ak, &|p| p.kdf = KdfScheme::Mgf1(HashAlg::Sha256)), rc::KDF);
    let keyed = PublicKind::KeyedHash {
        scheme: bulla_tpm_types::KeyedHashScheme::Null,
        unique: bulla_tpm_types::Digest::EMPTY,
    };
    refused(Public { kind: keyed, ..ak }, rc::SCHEME);
}

#[test]
fn sensitive_data_must_fit_the_key() {
    let mut tpm = started();
    let mut answer = |user_auth: &[u8], data: &[u8]| {
        let sensitive = SensitiveCreate { user_auth, data };
        let cmd = create(rh::OWNER, &[], &sensitive, &templates::ak_p256(), &[], &PcrSelectionList::new());
        let bytes = run(&mut tpm, &cmd);
        response::parse_create_primary(&bytes).map(|made| made.name)
    };
    use response::ResponseError::Tpm;
    assert!(answer(&[1; 32], &[]).is_ok());
    assert_eq!(answer(&[1; 33], &[]), Err(Tpm(rc::SIZE.parameter(1))));
    assert_eq!(answer(&[1; 65], &[]), Err(Tpm(rc::SIZE.parameter(1))));
    // What is given for a key pair is one more thing that it derives from (Part 3, 24.1).
    let names = [&[][..], &[1], &[2]].map(|data| answer(&[], data).expect("a key"));
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
}
