//! DER, as much of it as certificates take (X.690, 8 and 10): what a caller gives is read, what the TPM says is written.

use alloc::vec::Vec;

/// Tags of universal types (X.690, 8; X.680, 8.6) and how to make others.
pub(super) mod tag {
    /// INTEGER.
    pub(crate) const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub(crate) const BIT_STRING: u8 = 0x03;
    /// OCTET STRING.
    pub(crate) const OCTET_STRING: u8 = 0x04;
    /// BOOLEAN.
    pub(crate) const BOOLEAN: u8 = 0x01;
    /// NULL.
    pub(crate) const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER.
    pub(crate) const OID: u8 = 0x06;
    /// SEQUENCE.
    pub(crate) const SEQUENCE: u8 = 0x30;

    /// A constructed element with a tag of the context's.
    pub(crate) const fn context(number: u8) -> u8 {
        0xa0 | number
    }
}

/// An element: its tag, what is in it, and all of its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) octets: &'a [u8],
}

/// Elements, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The elements that octets are.
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next element; `None` when there is none, or it is not DER with one octet for its tag and at most two for
    /// its length.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // The length of the length, which has to be the least that will do (X.690, 10.1).
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            length = match *bytes {
                [low @ 0x80..=0xff] => usize::from(low),
                [high @ 1..=0xff, low] => usize::from(u16::from_be_bytes([high, low])),
                _ => return None,
            };
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        let octets = self.0.get(..self.0.len().checked_sub(after.len())?)?;
        self.0 = after;
        // A tag of more octets (X.690, 8.1.2.4).
        (tag & 0x1f != 0x1f).then_some(Element { tag, content, octets })
    }

    /// What is in the next element, if it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|e| e.tag == tag).map(|e| e.content)
    }
}

/// The only element that octets are: what is in it, if it has this tag.
pub(super) fn only(octets: &[u8], tag: u8) -> Option<&[u8]> {
    let mut elements = Elements::new(octets);
    let content = elements.expect(tag)?;
    elements.rest().is_empty().then_some(content)
}

/// The first 32 bits of a BIT STRING, the first of them the highest; `None` for one that is longer or not DER.
pub(super) fn bits(content: &[u8]) -> Option<u32> {
    let (&unused, octets) = content.split_first()?;
    let mut value = [0; 4];
    value.get_mut(..octets.len())?.copy_from_slice(octets);
    // Bits of the last octet that are none of the string's are zero (X.690, 11.2).
    let clear = match octets.last() {
        Some(last) => unused < 8 && last.trailing_zeros() >= u32::from(unused),
        None => unused == 0,
    };
    clear.then_some(u32::from_be_bytes(value))
}

/// The tag and the length of an element with `length` octets in it.
fn head(tag: u8, length: usize) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let bytes = bytes.get(zeros..).unwrap_or_default();
    match bytes {
        [] => alloc::vec![tag, 0],
        [short @ 0..=0x7f] => alloc::vec![tag, *short],
        // At most the eight octets of a usize.
        long => [&[tag, 0x80 | long.len() as u8], long].concat(),
    }
}

/// An element of these parts.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = head(tag, parts.iter().map(|p| p.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An INTEGER that is not negative, big-endian.
pub(super) fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    match number.get(zeros..) {
        None | Some([]) => element(tag::INTEGER, &[&[0]]),
        Some(number @ [0x80..=0xff, ..]) => element(tag::INTEGER, &[&[0], number]),
        Some(number) => element(tag::INTEGER, &[number]),
    }
}

/// A BIT STRING of octets.
pub(super) fn bit_string(octets: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], octets])
}
