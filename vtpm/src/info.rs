//! What a TPM says of itself, asked the way any client would: by TPM2_GetCapability.

use bulla_tpm_types::response::{self, ResponseError};
use bulla_tpm_types::{AlgId, Error as TypesError, Reader, StartupType, alg, cap, command, pt};
use bulla_vtpm_client::Locality;
use serde::Serialize;
use thiserror::Error;

use crate::engine::command_name;
use crate::server::Engine;

/// A TPM's properties, as `bulla-vtpm info --json` prints them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Properties {
    /// TPM_PT_FAMILY_INDICATOR, "2.0".
    pub family: String,
    /// TPM_PT_REVISION of the library specification, times 100.
    pub revision: u32,
    /// TPM_PT_MANUFACTURER.
    pub manufacturer: String,
    /// TPM_PT_VENDOR_STRING_1 to 4.
    pub vendor: String,
    /// TPM_PT_FIRMWARE_VERSION_1 and 2, in hexadecimal.
    pub firmware_version: String,
    /// Most bytes in a command.
    pub max_command_size: u32,
    /// Most bytes in a response.
    pub max_response_size: u32,
    /// The PCR banks.
    pub banks: Vec<String>,
    /// The algorithms.
    pub algorithms: Vec<Named>,
    /// The commands.
    pub commands: Vec<Named>,
}

/// A number of the specification's and the name it has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The name without its prefix; empty if it is not known here.
    pub name: &'static str,
    /// The number.
    pub id: u32,
}

/// Why a TPM's properties could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InfoError {
    /// A command failed.
    #[error("{command}: {source}")]
    Command {
        /// Which one.
        command: &'static str,
        /// Its answer.
        source: ResponseError,
    },
    /// The TPM said that there is more and did not give it.
    #[error("the TPM does not come to the end of capability {capability}")]
    Endless {
        /// Which list.
        capability: u32,
    },
}

/// Starts the TPM (power, TPM2_Startup(CLEAR)) and asks for its properties.
///
/// # Errors
/// See [`InfoError`].
pub fn properties(tpm: &mut impl Engine) -> Result<Properties, InfoError> {
    tpm.power_on();
    let answer = tpm.execute(Locality::ZERO, &command::startup(StartupType::Clear));
    response::parse_empty(&answer).map_err(failed("TPM2_Startup"))?;

    let answer = tpm.execute(Locality::ZERO, &command::get_capability_pcrs());
    let banks = response::parse_capability_pcrs(&answer).map_err(failed(GET_CAPABILITY))?;

    // TPMS_ALG_PROPERTY: TPM_ALG_ID, TPMA_ALGORITHM.
    let algorithms = list(
        tpm,
        cap::ALGS,
        0,
        |&(id, _): &(AlgId, u32)| u32::from(id.0),
        |r| Ok((r.get()?, r.u32("TPMA_ALGORITHM")?)),
    )?;
    // TPMA_CC: the command index is the lower half, bit 29 tells a vendor's (Part 2, 8.9).
    let code = |attributes: &u32| attributes & 0x2000_FFFF;
    let commands = list(tpm, cap::COMMANDS, 0, code, |r| r.u32("TPMA_CC"))?;
    let fixed =
        list(tpm, cap::TPM_PROPERTIES, pt::FIXED, |&(tag, _)| tag, |r| Ok((r.u32("TPM_PT")?, r.u32("value")?)))?;

    let number = |tag| fixed.iter().find(|p| p.0 == tag).map_or(0, |p| p.1);
    let text = |tags: &[u32]| {
        let bytes: Vec<u8> = tags.iter().flat_map(|&tag| number(tag).to_be_bytes()).collect();
        let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    };
    let named = |name, id| Named { name, id };
    Ok(Properties {
        family: text(&[pt::FAMILY_INDICATOR]),
        revision: number(pt::REVISION),
        manufacturer: text(&[pt::MANUFACTURER]),
        vendor: text(&[pt::VENDOR_STRING_1, pt::VENDOR_STRING_2, pt::VENDOR_STRING_3, pt::VENDOR_STRING_4]),
        firmware_version: format!("{:08x}.{:08x}", number(pt::FIRMWARE_VERSION_1), number(pt::FIRMWARE_VERSION_2)),
        max_command_size: number(pt::MAX_COMMAND_SIZE),
        max_response_size: number(pt::MAX_RESPONSE_SIZE),
        // A bank with no PCR selected exists in the code but is not allocated (Part 3, 30.2).
        banks: banks.iter().filter(|b| !b.is_empty()).map(|b| b.alg.to_string()).collect(),
        algorithms: algorithms.iter().map(|&(id, _)| named(algorithm_name(id), u32::from(id.0))).collect(),
        commands: commands.iter().map(|a| named(command_name(code(a)).unwrap_or_default(), code(a))).collect(),
    })
}

const GET_CAPABILITY: &str = "TPM2_GetCapability";
/// How many entries of a list to ask for at once; a TPM may give fewer.
const PAGE: u32 = 64;

fn failed(command: &'static str) -> impl Fn(ResponseError) -> InfoError {
    move |source| InfoError::Command { command, source }
}

/// Asks for all of a list, from `first` on, page by page (Part 3, 30.2: moreData).
fn list<T>(
    tpm: &mut impl Engine,
    capability: u32,
    first: u32,
    id: impl Fn(&T) -> u32,
    read: impl Fn(&mut Reader<'_>) -> Result<T, TypesError>,
) -> Result<Vec<T>, InfoError> {
    let mut items = Vec::new();
    let mut next = first;
    loop {
        let answer = tpm.execute(Locality::ZERO, &command::get_capability(capability, next, PAGE));
        let (more, page) = page(&answer, capability, &read).map_err(failed(GET_CAPABILITY))?;
        let last = page.last().map(&id);
        items.extend(page);
        if !more {
            return Ok(items);
        }
        next = last
            .filter(|&last| last >= next)
            .and_then(|last| last.checked_add(1))
            .ok_or(InfoError::Endless { capability })?;
    }
}

fn page<T>(
    answer: &[u8],
    capability: u32,
    read: impl Fn(&mut Reader<'_>) -> Result<T, TypesError>,
) -> Result<(bool, Vec<T>), ResponseError> {
    let response = response::parse(answer, false)?;
    let mut r = Reader::new(response.params);
    let more = r.u8("moreData")? != 0;
    let got = r.u32("TPM_CAP")?;
    if got != capability {
        return Err(ResponseError::Capability(got));
    }
    let count = r.u32("TPML count")?;
    let mut items = Vec::new();
    // Ends where the bytes do, whatever the count says.
    for _ in 0..count {
        items.push(read(&mut r)?);
    }
    Ok((more, items))
}

const fn algorithm_name(id: AlgId) -> &'static str {
    match id {
        alg::RSA => "RSA",
        alg::SHA1 => "SHA1",
        alg::HMAC => "HMAC",
        alg::AES => "AES",
        alg::MGF1 => "MGF1",
        alg::KEYEDHASH => "KEYEDHASH",
        alg::XOR => "XOR",
        alg::SHA256 => "SHA256",
        alg::SHA384 => "SHA384",
        alg::SHA512 => "SHA512",
        alg::SM3_256 => "SM3_256",
        alg::RSASSA => "RSASSA",
        alg::RSAES => "RSAES",
        alg::RSAPSS => "RSAPSS",
        alg::OAEP => "OAEP",
        alg::ECDSA => "ECDSA",
        alg::ECDH => "ECDH",
        alg::ECDAA => "ECDAA",
        alg::ECSCHNORR => "ECSCHNORR",
        alg::KDF1_SP800_56A => "KDF1_SP800_56A",
        alg::KDF2 => "KDF2",
        alg::KDF1_SP800_108 => "KDF1_SP800_108",
        alg::ECC => "ECC",
        alg::SYMCIPHER => "SYMCIPHER",
        alg::CTR => "CTR",
        alg::OFB => "OFB",
        alg::CBC => "CBC",
        alg::CFB => "CFB",
        alg::ECB => "ECB",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts, tells of one bank, then says the same page for ever.
    struct Parrot;

    impl Engine for Parrot {
        fn power_on(&mut self) {}
        fn hash_start(&mut self) {}
        fn hash_data(&mut self, _: &[u8]) {}
        fn hash_end(&mut self) -> Vec<u8> {
            Vec::new()
        }

        fn execute(&mut self, _: Locality, command: &[u8]) -> Vec<u8> {
            let params: &[u8] = match command {
                [.., 0, 0, 0, 5, _, _, _, _, _, _, _, _] => &[0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 11, 3, 1, 0, 0],
                [.., 0, 0, 0, 0, _, _, _, _, _, _, _, _] => &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 11, 0, 0, 0, 4],
                _ => &[],
            };
            let mut answer = vec![0x80, 1, 0, 0, 0, 10 + params.len() as u8, 0, 0, 0, 0];
            answer.extend(params);
            answer
        }
    }

    #[test]
    fn a_tpm_that_repeats_itself_is_not_asked_for_ever() {
        let error = properties(&mut Parrot).unwrap_err();
        assert!(matches!(error, InfoError::Endless { capability: cap::ALGS }), "{error}");
    }
}
