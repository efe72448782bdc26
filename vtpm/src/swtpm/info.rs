//! What CMD_GET_INFO tells: JSON, as libtpms words it and swtpm's tools read it.

use serde_json::{Map, Value, json};

use crate::info::properties;
use crate::platform;

const SPECIFICATION: u64 = 1;
const ATTRIBUTES: u64 = 1 << 1;
const FEATURES: u64 = 1 << 2;

/// The parts of the information that `flags` names. `None` if the TPM cannot be asked.
pub(super) fn json(flags: u64) -> Option<String> {
    // A TPM of its own, so that the running one need not be started, nor be disturbed.
    let properties = properties(&mut platform::manufacture()).ok()?;
    let mut parts = Map::new();
    if flags & SPECIFICATION != 0 {
        let part = json!({"family": properties.family, "level": 0, "revision": properties.revision});
        parts.insert("TPMSpecification".to_owned(), part);
    }
    if flags & ATTRIBUTES != 0 {
        // The names of an EK certificate's tcg-at-tpmManufacturer and its kin (TCG EK Credential Profile, 3.1.2).
        let id: String = padded(&properties.manufacturer).iter().map(|byte| format!("{byte:02X}")).collect();
        let version = properties.firmware_version.get(..8).unwrap_or_default();
        let part = json!({
            "manufacturer": format!("id:{id}"),
            "version": format!("id:{}", version.to_uppercase()),
            "model": properties.vendor,
        });
        parts.insert("TPMAttributes".to_owned(), part);
    }
    if flags & FEATURES != 0 {
        parts.insert("TPMFeatures".to_owned(), json!({"RSAKeySizes": [1024, 2048, 3072, 4096]}));
    }
    Some(Value::Object(parts).to_string())
}

/// The manufacturer's four characters, zeros where it has fewer.
fn padded(text: &str) -> [u8; 4] {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}
