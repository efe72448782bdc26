//! What a vCPU shows in CPUID, and the user's wishes about it (`--cpu-features +x,-y`).
//!
//! Features that the firmware or a 64-bit kernel cannot do without (long mode, NX, SSE2, APIC …) have no name here,
//! so nobody can take them away.

/// One leaf of CPUID (SDM vol. 2A, CPUID).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidLeaf {
    /// EAX on input.
    pub function: u32,
    /// ECX on input.
    pub index: u32,
    /// Whether ECX on input matters.
    pub indexed: bool,
    /// Output: EAX, EBX, ECX, EDX.
    pub output: [u32; 4],
}

const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Features, extended: leaf of [`CpuidLeaf::output`] and bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bit {
    function: u32,
    index: u32,
    register: usize,
    bit: u32,
}

/// A CPU feature that can be given or taken by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    name: &'static str,
    at: Bit,
    /// Shown without being asked for.
    by_default: bool,
}

const fn on(name: &'static str, function: u32, register: usize, bit: u32) -> Feature {
    Feature { name, at: Bit { function, index: 0, register, bit }, by_default: true }
}

const fn off(name: &'static str, function: u32, register: usize, bit: u32) -> Feature {
    Feature { by_default: false, ..on(name, function, register, bit) }
}

const LEAF_1: u32 = 1;
const LEAF_7: u32 = 7;
const EXT_1: u32 = 0x8000_0001;
const EXT_7: u32 = 0x8000_0007;
const LEAF_XSAVE: u32 = 0xD;

/// Names as in Linux's /proc/cpuinfo. Off by default: what would let the guest run guests of its own, wait in
/// MWAIT on the host's processor, or see performance counters and enclaves.
const FEATURES: &[Feature] = &[
    on("pni", LEAF_1, ECX, 0),
    on("pclmulqdq", LEAF_1, ECX, 1),
    off("monitor", LEAF_1, ECX, 3),
    off("vmx", LEAF_1, ECX, 5),
    off("smx", LEAF_1, ECX, 6),
    on("ssse3", LEAF_1, ECX, 9),
    on("fma", LEAF_1, ECX, 12),
    on("cx16", LEAF_1, ECX, 13),
    off("pdcm", LEAF_1, ECX, 15),
    on("pcid", LEAF_1, ECX, 17),
    on("sse4_1", LEAF_1, ECX, 19),
    on("sse4_2", LEAF_1, ECX, 20),
    on("x2apic", LEAF_1, ECX, 21),
    on("movbe", LEAF_1, ECX, 22),
    on("popcnt", LEAF_1, ECX, 23),
    on("tsc_deadline_timer", LEAF_1, ECX, 24),
    on("aes", LEAF_1, ECX, 25),
    on("xsave", LEAF_1, ECX, 26),
    on("avx", LEAF_1, ECX, 28),
    on("f16c", LEAF_1, ECX, 29),
    on("rdrand", LEAF_1, ECX, 30),
    on("fsgsbase", LEAF_7, EBX, 0),
    off("sgx", LEAF_7, EBX, 2),
    on("bmi1", LEAF_7, EBX, 3),
    on("avx2", LEAF_7, EBX, 5),
    on("smep", LEAF_7, EBX, 7),
    on("bmi2", LEAF_7, EBX, 8),
    on("erms", LEAF_7, EBX, 9),
    on("invpcid", LEAF_7, EBX, 10),
    on("avx512f", LEAF_7, EBX, 16),
    on("avx512dq", LEAF_7, EBX, 17),
    on("rdseed", LEAF_7, EBX, 18),
    on("adx", LEAF_7, EBX, 19),
    on("smap", LEAF_7, EBX, 20),
    on("clflushopt", LEAF_7, EBX, 23),
    on("clwb", LEAF_7, EBX, 24),
    on("avx512cd", LEAF_7, EBX, 28),
    on("sha_ni", LEAF_7, EBX, 29),
    on("avx512bw", LEAF_7, EBX, 30),
    on("avx512vl", LEAF_7, EBX, 31),
    on("umip", LEAF_7, ECX, 2),
    on("pku", LEAF_7, ECX, 3),
    on("gfni", LEAF_7, ECX, 8),
    on("vaes", LEAF_7, ECX, 9),
    on("vpclmulqdq", LEAF_7, ECX, 10),
    on("rdpid", LEAF_7, ECX, 22),
    off("sgx_lc", LEAF_7, ECX, 30),
    on("fsrm", LEAF_7, EDX, 4),
    off("svm", EXT_1, ECX, 2),
    on("abm", EXT_1, ECX, 5),
    on("sse4a", EXT_1, ECX, 6),
    on("3dnowprefetch", EXT_1, ECX, 8),
    off("perfctr_core", EXT_1, ECX, 23),
    on("pdpe1gb", EXT_1, EDX, 26),
    on("rdtscp", EXT_1, EDX, 27),
    on("invtsc", EXT_7, EDX, 8),
    Feature { name: "xsaveopt", at: Bit { function: LEAF_XSAVE, index: 1, register: EAX, bit: 0 }, by_default: true },
    Feature { name: "xsavec", at: Bit { function: LEAF_XSAVE, index: 1, register: EAX, bit: 1 }, by_default: true },
    Feature { name: "xsaves", at: Bit { function: LEAF_XSAVE, index: 1, register: EAX, bit: 3 }, by_default: true },
];

/// Features that no processor has without another, and that one (SDM vol. 1, §§13.2, 14.3, 14.7 and 15.2). Guests look for the feature
/// that they use, not always for what it rests on: Linux 7.2 runs AVX code where AVX is shown and XSAVE is not.
const NEEDS: &[(&str, &str)] = &[
    ("xsaveopt", "xsave"),
    ("xsavec", "xsave"),
    ("xsaves", "xsave"),
    ("avx", "xsave"),
    ("fma", "avx"),
    ("f16c", "avx"),
    ("vaes", "avx"),
    ("vpclmulqdq", "avx"),
    ("avx2", "avx"),
    ("avx512f", "avx2"),
    ("avx512dq", "avx512f"),
    ("avx512cd", "avx512f"),
    ("avx512bw", "avx512f"),
    ("avx512vl", "avx512f"),
];

impl Feature {
    /// Name as in Linux's /proc/cpuinfo.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every feature that has a name.
    pub fn all() -> &'static [Self] {
        FEATURES
    }

    /// Finds a feature by its name.
    ///
    /// # Errors
    /// [`CpuFeatureError::Unknown`].
    pub fn by_name(name: &str) -> Result<Self, CpuFeatureError> {
        FEATURES.iter().find(|f| f.name == name).copied().ok_or_else(|| CpuFeatureError::Unknown(shorten(name)))
    }

    /// Whether `table` shows it.
    pub fn shown_by(&self, table: &[CpuidLeaf]) -> bool {
        let Bit { function, index, register, bit } = self.at;
        table
            .iter()
            .filter(|l| l.function == function && (!l.indexed || l.index == index))
            .any(|l| l.output.get(register).is_some_and(|value| value & (1 << bit) != 0))
    }

    /// Whether no processor has it without `other`.
    fn needs(&self, other: &Self) -> bool {
        let mut at = self.name;
        while let Some((_, needed)) = NEEDS.iter().find(|(name, _)| *name == at) {
            if *needed == other.name {
                return true;
            }
            at = needed;
        }
        false
    }

    fn hide(&self, table: &mut [CpuidLeaf]) {
        let Bit { function, index, register, bit } = self.at;
        for leaf in table.iter_mut().filter(|l| l.function == function && (!l.indexed || l.index == index)) {
            if let Some(value) = leaf.output.get_mut(register) {
                *value &= !(1 << bit);
            }
        }
    }
}

/// Why a list of features was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuFeatureError {
    /// No feature has this name.
    #[error("unknown CPU feature `{0}`")]
    Unknown(String),
    /// An item that begins with neither + nor -.
    #[error("CPU feature `{0}` must begin with + (show it) or - (hide it)")]
    Sign(String),
    /// One feature twice.
    #[error("CPU feature `{0}` is named twice")]
    Twice(&'static str),
    /// A feature to be shown without another that it needs.
    #[error("CPU feature `{0}` cannot be shown where `{1}` is hidden")]
    Needs(&'static str, &'static str),
    /// A feature to be shown that this host's backend does not have.
    #[error("this host cannot give the guest CPU feature `{0}`")]
    HostLacks(&'static str),
}

/// Which features to show or hide, beyond the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    show: Vec<Feature>,
    hide: Vec<Feature>,
}

impl std::str::FromStr for CpuFeatures {
    type Err = CpuFeatureError;

    /// Reads `+x,-y`; an empty text asks for nothing.
    fn from_str(text: &str) -> Result<Self, CpuFeatureError> {
        let mut wishes = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (list, name) = if let Some(name) = item.strip_prefix('+') {
                (&mut wishes.show, name)
            } else if let Some(name) = item.strip_prefix('-') {
                (&mut wishes.hide, name)
            } else {
                return Err(CpuFeatureError::Sign(shorten(item)));
            };
            let feature = Feature::by_name(name)?;
            list.push(feature);
            if wishes.show.iter().chain(&wishes.hide).filter(|f| f.name == feature.name).count() > 1 {
                return Err(CpuFeatureError::Twice(feature.name));
            }
        }
        for shown in &wishes.show {
            if let Some(hidden) = wishes.hide.iter().find(|hidden| shown.needs(hidden)) {
                return Err(CpuFeatureError::Needs(shown.name, hidden.name));
            }
        }
        Ok(wishes)
    }
}

impl CpuFeatures {
    /// Cuts a vCPU's CPUID table from what the backend can show. With a feature go those that need it.
    ///
    /// # Errors
    /// [`CpuFeatureError::HostLacks`] names the first feature asked for that `supported` does not have.
    pub fn apply(&self, supported: &[CpuidLeaf]) -> Result<Vec<CpuidLeaf>, CpuFeatureError> {
        if let Some(lacking) = self.show.iter().find(|f| !f.shown_by(supported)) {
            return Err(CpuFeatureError::HostLacks(lacking.name));
        }
        let mut table = supported.to_vec();
        let unwanted = FEATURES.iter().filter(|f| !f.by_default && !self.show.contains(f));
        let orphaned = FEATURES.iter().filter(|f| self.hide.iter().any(|hidden| f.needs(hidden)));
        for feature in unwanted.chain(&self.hide).chain(orphaned) {
            feature.hide(&mut table);
        }
        Ok(table)
    }
}

/// What a message quotes of foreign text.
fn shorten(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ones() -> Vec<CpuidLeaf> {
        let leaf = |function, index, indexed| CpuidLeaf { function, index, indexed, output: [u32::MAX; 4] };
        vec![
            leaf(LEAF_1, 0, false),
            leaf(LEAF_7, 0, true),
            leaf(LEAF_XSAVE, 0, true),
            leaf(LEAF_XSAVE, 1, true),
            leaf(EXT_1, 0, false),
            leaf(EXT_7, 0, false),
        ]
    }

    fn wishes(text: &str) -> Result<CpuFeatures, CpuFeatureError> {
        text.parse()
    }

    #[test]
    fn names_and_places_are_unique() {
        for (i, f) in FEATURES.iter().enumerate() {
            assert!(FEATURES.iter().skip(i + 1).all(|g| g.name != f.name && g.at != f.at), "{}", f.name);
        }
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused_by_name() {
        assert_eq!(wishes("+aes,-nonsense"), Err(CpuFeatureError::Unknown("nonsense".into())));
        assert_eq!(wishes("aes"), Err(CpuFeatureError::Sign("aes".into())));
        assert_eq!(wishes("+aes,-aes"), Err(CpuFeatureError::Twice("aes")));
        assert_eq!(wishes("-lm"), Err(CpuFeatureError::Unknown("lm".into())));
        assert_eq!(wishes(" , ,"), Ok(CpuFeatures::default()));
    }

    #[test]
    fn a_feature_the_host_lacks_is_refused_by_name() {
        let mut host = all_ones();
        Feature::by_name("avx2").unwrap().hide(&mut host);
        assert_eq!(wishes("+avx2").unwrap().apply(&host), Err(CpuFeatureError::HostLacks("avx2")));
        assert!(wishes("-avx2").unwrap().apply(&host).is_ok());
    }

    #[test]
    fn with_a_feature_go_those_that_need_it() {
        let host = all_ones();
        let hidden = |text: &str| -> Vec<&str> {
            let (plain, table) =
                (wishes("").unwrap().apply(&host).unwrap(), wishes(text).unwrap().apply(&host).unwrap());
            FEATURES.iter().filter(|f| f.shown_by(&plain) && !f.shown_by(&table)).map(Feature::name).collect()
        };
        assert_eq!(hidden("-avx512f"), ["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"]);
        let without_xsave = hidden("-xsave");
        assert_eq!(without_xsave.len(), NEEDS.len() + 1, "{without_xsave:?}");
        assert!(NEEDS.iter().all(|(name, _)| without_xsave.contains(name)), "{without_xsave:?}");
        assert_eq!(wishes("+vaes,-xsave"), Err(CpuFeatureError::Needs("vaes", "xsave")));
        assert!(wishes("-vaes,+xsave").is_ok());
    }

    #[test]
    fn every_need_names_two_features_and_ends() {
        for (name, needed) in NEEDS {
            let (feature, needed) = (Feature::by_name(name).unwrap(), Feature::by_name(needed).unwrap());
            assert!(feature.needs(&needed) && !needed.needs(&feature) && !feature.needs(&feature), "{name}");
        }
    }

    #[test]
    fn defaults_hide_nested_virtualisation_and_wishes_change_exactly_one_bit() {
        let host = all_ones();
        let plain = CpuFeatures::default().apply(&host).unwrap();
        for f in FEATURES {
            assert_eq!(f.shown_by(&plain), f.by_default, "{}", f.name);
        }
        let without = wishes("-aes").unwrap().apply(&host).unwrap();
        let with_svm = wishes("+svm").unwrap().apply(&host).unwrap();
        for f in FEATURES {
            assert_eq!(f.shown_by(&without), f.by_default && f.name != "aes", "{}", f.name);
            assert_eq!(f.shown_by(&with_svm), f.by_default || f.name == "svm", "{}", f.name);
        }
    }
}
