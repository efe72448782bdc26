//! CreatePrimary (Part 3, 24.1).

use alloc::boxed::Box;

use bulla_tpm_types::{
    Data, Handle, HashAlg, Marshal, Name, PcrSelectionList, Public, Rc, SensitiveCreate, Unmarshal, rc,
};

use crate::Tpm;
use crate::create::{self, Parent};
use crate::dispatch::Call;
use crate::drbg::Drbg;
use crate::object::{Key, Kind, Object, qualified_name};
use crate::platform::Cancel;
use crate::secret::AuthValue;
use crate::selftest::TestSet;

/// What separates primary keys from everything else that derives from a seed.
///
/// The derivation is frozen: every endorsement key that anyone ever trusted depends on it.
const LABEL: &[u8] = b"bulla primary object 1";

impl Tpm {
    /// Makes the primary object of a hierarchy and a template, whose parameters are the first and the second.
    pub(super) fn make_primary(
        &mut self,
        hierarchy: Handle,
        sensitive: &SensitiveCreate<'_>,
        template: &Public,
    ) -> Result<(HashAlg, Key), Rc> {
        let name_alg =
            create::check_template(template, None, !sensitive.data.is_empty()).map_err(|e| e.parameter(2))?;
        if sensitive.user_auth.len() > name_alg.size() {
            return Err(rc::SIZE.parameter(1));
        }
        self.require(
            TestSet::of(template) | TestSet::BANKS | TestSet::hash(name_alg) | TestSet::DRBG | TestSet::ECDSA,
        )?;
        let seed = self.hierarchies.get(hierarchy).map(|h| &h.seed).ok_or(rc::HIERARCHY.handle(1))?;
        match derive(&seed[..], self.cancel.as_deref(), template, name_alg, (sensitive.data, hierarchy)) {
            // The generator answers keys: this cannot happen in a healthy TPM.
            Err(rc::FAILURE) => {
                self.fail();
                Err(rc::FAILURE)
            }
            made => Ok((name_alg, made.map_err(|e| e.parameter(1))?)),
        }
    }
}

/// TPM2_CreatePrimary.
pub(crate) fn create_primary(tpm: &mut Tpm, call: &mut Call<'_, '_>) -> Result<(), Rc> {
    let (sensitive, template, outside_info, creation_pcr) = call.params(|p| {
        Ok((
            p.with(|r| r.sized("TPM2B_SENSITIVE_CREATE", SensitiveCreate::unmarshal))?,
            p.with(|r| r.sized("TPM2B_PUBLIC", Public::unmarshal))?,
            p.get::<Data>()?,
            p.get::<PcrSelectionList>()?,
        ))
    })?;
    tpm.objects.has_room()?;
    let hierarchy = call.handle(1);
    let (name_alg, key) = tpm.make_primary(hierarchy, &sensitive, &template)?;
    let name = hierarchy_name(hierarchy);
    let parent = Parent { name_alg: None, name, qualified_name: name, hierarchy };
    let creation = tpm.creation((name_alg, &key.name), &parent, call.locality, outside_info, &creation_pcr);

    let (public, name) = (key.public, key.name);
    let object = Object { kind: Kind::Key(Box::new(key)), auth: AuthValue::new(sensitive.user_auth) };
    call.answer_handle(tpm.objects.insert(object)?);
    let out = call.out();
    out.sized(|w| w.put(&public));
    out.sized(|w| w.put(&creation.data));
    out.put(&creation.hash);
    out.put(&creation.ticket);
    out.put(&name);
    Ok(())
}

pub(super) fn hierarchy_name(hierarchy: Handle) -> Name {
    Name::new(&hierarchy.to_vec()).unwrap_or_default()
}

/// Derives the key of a template from a hierarchy's primary seed (Part 1, 27.7.4 and Annex B.6).
///
/// An HMAC_DRBG is instantiated from the seed, a label, the template's Name and the caller's data; the key comes
/// from it as a random one comes from the TPM's own generator.
fn derive(
    seed: &[u8],
    cancel: Option<&dyn Cancel>,
    template: &Public,
    name_alg: HashAlg,
    (data, hierarchy): (&[u8], Handle),
) -> Result<Key, Rc> {
    let mut random = Drbg::new(&[seed, LABEL, &template.name(), data]);
    let (public, private) = create::make(&mut random, cancel, template, name_alg, data)?;
    let name = public.name();
    // Part 1, 26.5: the Qualified Name of a primary object is over the hierarchy's handle.
    let qualified_name = qualified_name(&public, &hierarchy.to_vec(), &name);
    Ok(Key { public, name, qualified_name, hierarchy, private: Some(private), external: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_tpm_types::{EccParameter, PublicKind, templates};

    fn derived(template: &Public) -> Key {
        derive(&[0x5a; 64], None, template, HashAlg::Sha256, (&[], bulla_tpm_types::rh::ENDORSEMENT)).expect("a key")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn private(key: &Key) -> String {
        hex(&key.ecc().expect("a pair").to_bytes())
    }

    /// Frozen: the values were computed by another implementation (of the DRBG and of P-256, in
    /// Python). A change here takes every existing endorsement key away from its owner.
    #[test]
    fn primary_keys_of_a_seed_are_for_ever() {
        let ek = derived(&templates::ek_p256());
        assert_eq!(private(&ek), "97d8d00187a5105c4a5cb08e114b19fae727994f193d818e6530a337bf54c7ce");
        assert_eq!(hex(&ek.name), "000b4c60286c67558406074420332cfe47cfedc0597eb1b9c4d885c32ab672739354");
        assert_eq!(hex(&ek.qualified_name), "000b7a282b35e6d94dc1a989d16ffd0b5398531cbc4ae8d0911d8ef7353a69150640");
        let ak = derived(&templates::ak_p256());
        assert_eq!(private(&ak), "eee5a23c04303651a15261fd77be92b22b6ae6fa5ad97c7035ae191058f27af8");
        assert_eq!(hex(&ak.name), "000b6ec2fc13ece358220bca895f56fd228df74ec8d10e5f9872ef98bd0688a03477");
    }

    /// Frozen, and computed elsewhere, too: what follows the key of a parent, and primary objects that are no pairs.
    #[test]
    fn primary_seeds_and_symmetric_objects_are_for_ever() {
        let seed = |key: &Key| hex(&key.private.as_ref().expect("a sensitive area").seed);
        let data = |key: &Key| hex(key.data().expect("data"));
        let ek = derived(&templates::ek_p256());
        assert_eq!(seed(&ek), "2b454e2d90c051ee40604441c6ef74357f24f119777357ac0b9f1d3629d18772");

        let sym = bulla_tpm_types::Symmetric::AES_128_CFB;
        let kind = PublicKind::SymCipher { sym, unique: Default::default() };
        let attributes = bulla_tpm_types::ObjectAttributes::from_bits(0x0003_0072);
        let sym = derived(&Public { kind, attributes, ..templates::ak_p256() });
        assert_eq!(data(&sym), "2d3fffaaa7019ac0608778d378dabf08");
        assert_eq!(seed(&sym), "be02fa0c118e71a2779564d6927323cb45bba47a643202aa377e9aa4b31ce8fb");
        let PublicKind::SymCipher { unique, .. } = sym.public.kind else { panic!("a symmetric key") };
        assert_eq!(hex(&unique), "319d0381f4599dcd3c565f964b5cc2f3886be9257cfcd5313766a39cc19dfaa5");

        let kind = PublicKind::KeyedHash { scheme: Default::default(), unique: Default::default() };
        let attributes = bulla_tpm_types::ObjectAttributes::from_bits(0x52);
        let template = Public { kind, attributes, ..templates::ak_p256() };
        let hierarchy = bulla_tpm_types::rh::ENDORSEMENT;
        let sealed =
            derive(&[0x5a; 64], None, &template, HashAlg::Sha256, (b"sealed", hierarchy)).expect("sealed data");
        assert_eq!(seed(&sealed), "edd83182544b66887ded5ff40b17b11f07055c7d9906fd17bee17fea2c5042b6");
        let PublicKind::KeyedHash { unique, .. } = sealed.public.kind else { panic!("sealed data") };
        assert_eq!(hex(&unique), "1bbc01f02eef5cc07f5060d3b224ee4681059f00cf2694e3bcde224f72441559");
    }

    /// Frozen, and computed elsewhere (`vectors/rsa.py`): the first prime, the Name, and the seed that follows the key.
    #[test]
    fn rsa_primary_keys_of_a_seed_are_for_ever() {
        let sha256 = |octets: &[u8]| hex(bulla_tpm_types::hash::digest(HashAlg::Sha256, &[octets]).as_bytes());
        let prime = |key: &Key| sha256(&key.rsa().expect("a pair").prime());
        let ek = derived(&templates::ek_rsa2048());
        assert_eq!(prime(&ek), "870b271007526f2c5be2b7ce175a4af1083d3c9b1bac37e2123beee8b76485b6");
        assert_eq!(hex(&ek.name), "000b5dbf49e3ea5bf1908da475259aa6d70452b6aaeb3c26bf396acc528b78745a34");
        let seed = hex(&ek.private.as_ref().expect("a sensitive area").seed);
        assert_eq!(seed, "f4d1b794ca2b0ae64df91fe3088479cddcf1b3c20bdea2ec36ed9ade985c3769");
        let ak = derived(&templates::ak_rsa2048());
        assert_eq!(prime(&ak), "cdfe2b85c2faa5b82a400862f49cb1e064ced3b28c75b72022e11abdd64cfe48");
        assert_eq!(hex(&ak.name), "000b9f34ab15efad47fa0757c16d651e4a8d8b8e0979b0030e4f2c876d71eaa8ce1d");
    }

    #[test]
    fn another_unique_field_makes_another_key() {
        let mut other = templates::ak_p256();
        if let PublicKind::Ecc { unique, .. } = &mut other.kind {
            unique.x = EccParameter::new(&[1]).expect("fits");
        }
        assert_ne!(derived(&other).name, derived(&templates::ak_p256()).name);
    }
}
