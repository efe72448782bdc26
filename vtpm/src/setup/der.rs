//! What certificates need of DER (X.690), written. Nothing is read here.

/// The tags used (X.690, 8; the class and the constructed bit are part of them).
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const OID: u8 = 0x06;
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const CONTEXT: u8 = 0x80;
    pub(super) const CONTEXT_CONSTRUCTED: u8 = 0xa0;
}

/// An element's bytes.
pub(super) type Der = Vec<u8>;

fn element(tag: u8, content: &[u8]) -> Der {
    let mut der = vec![tag];
    // Definite, and in as few octets as it takes (X.690, 10.1).
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => der.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|&&octet| octet == 0).count();
            let octets = length.get(zeros..).unwrap_or_default();
            der.push(0x80 | octets.len() as u8);
            der.extend(octets);
        }
    }
    der.extend(content);
    der
}

pub(super) fn sequence(parts: &[Der]) -> Der {
    element(tag::SEQUENCE, &parts.concat())
}

/// A SET OF: its elements are in ascending order of their bytes (X.690, 11.6).
pub(super) fn set(mut parts: Vec<Der>) -> Der {
    parts.sort();
    element(tag::SET, &parts.concat())
}

/// `[number] EXPLICIT`.
pub(super) fn explicit(number: u8, inner: &[u8]) -> Der {
    element(tag::CONTEXT_CONSTRUCTED | number, inner)
}

/// `[number] IMPLICIT` of a primitive type.
pub(super) fn implicit(number: u8, content: &[u8]) -> Der {
    element(tag::CONTEXT | number, content)
}

/// A non-negative INTEGER from its big-endian octets.
pub(super) fn integer(octets: &[u8]) -> Der {
    let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
    let mut content = octets.get(zeros..).unwrap_or_default().to_vec();
    if content.first().is_none_or(|&first| first >= 0x80) {
        content.insert(0, 0);
    }
    element(tag::INTEGER, &content)
}

/// BOOLEAN TRUE; FALSE is a default everywhere here, and so is left out.
pub(super) fn yes() -> Der {
    element(tag::BOOLEAN, &[0xff])
}

pub(super) fn null() -> Der {
    element(tag::NULL, &[])
}

pub(super) fn octets(content: &[u8]) -> Der {
    element(tag::OCTET_STRING, content)
}

/// A BIT STRING of whole octets.
pub(super) fn bits(content: &[u8]) -> Der {
    element(tag::BIT_STRING, &[&[0], content].concat())
}

/// A BIT STRING of a named bit list whose bits, up to eight, are these: zeros at the end are left out (X.690, 11.2.2).
pub(super) fn named_bits(bits: u8) -> Der {
    match bits {
        0 => element(tag::BIT_STRING, &[0]),
        bits => element(tag::BIT_STRING, &[bits.trailing_zeros() as u8, bits]),
    }
}

pub(super) fn utf8(text: &str) -> Der {
    element(tag::UTF8_STRING, text.as_bytes())
}

/// An OBJECT IDENTIFIER; the first two of its numbers share an octet or more (X.690, 8.19.4).
pub(super) fn oid(numbers: &[u32]) -> Der {
    let mut content = Vec::new();
    let (first, rest) = match numbers {
        [first, second, rest @ ..] => (first * 40 + second, rest),
        _ => (0, numbers),
    };
    for &number in [first].iter().chain(rest) {
        let groups = number.checked_ilog2().unwrap_or(0) / 7;
        for group in (0..=groups).rev() {
            let more = if group == 0 { 0 } else { 0x80 };
            content.push((number >> (7 * group)) as u8 & 0x7f | more);
        }
    }
    element(tag::OID, &content)
}

/// A time in seconds since 1970, as certificates write it (RFC 5280, 4.1.2.5): a UTCTime through 2049, then a
/// GeneralizedTime.
pub(super) fn time(unix: u64) -> Der {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = date(days);
    let clock = format!("{:02}{:02}{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if year < 2050 {
        element(tag::UTC_TIME, format!("{:02}{month:02}{day:02}{clock}", year % 100).as_bytes())
    } else {
        element(tag::GENERALIZED_TIME, format!("{year:04}{month:02}{day:02}{clock}").as_bytes())
    }
}

/// What a certificate without an end has as its end (RFC 5280, 4.1.2.5).
pub(super) fn never() -> Der {
    element(tag::GENERALIZED_TIME, b"99991231235959Z")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Years here begin in March, so that the day that may be missing is a year's last; day 0 is 0000-03-01, and each
    // 400 years have the same 146,097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, and again.
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next, month, in_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_as_in_x690_and_rfc_5280() {
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[1, 0, 1]), [2, 3, 1, 0, 1]);
        assert_eq!(yes(), [1, 1, 0xff]);
        assert_eq!(null(), [5, 0]);
        assert_eq!(oid(&[2, 999, 3]), [6, 3, 0x88, 0x37, 3], "the example of X.690, 8.19.5");
        assert_eq!(oid(&[1, 2, 840, 10045, 2, 1]), [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]);
        assert_eq!(oid(&[2, 23, 133, 8, 1]), [6, 5, 0x67, 0x81, 5, 8, 1]);
        assert_eq!(named_bits(0x20), [3, 2, 5, 0x20]);
        assert_eq!(named_bits(0x06), [3, 2, 1, 0x06]);
        assert_eq!(named_bits(0), [3, 1, 0]);
        assert_eq!(bits(&[4, 5]), [3, 3, 0, 4, 5]);
        assert_eq!(set(vec![null(), yes()]), [0x31, 5, 1, 1, 0xff, 5, 0]);
        assert_eq!(explicit(3, &null()), [0xa3, 2, 5, 0]);
        assert_eq!(implicit(0, &[7]), [0x80, 1, 7]);
    }

    #[test]
    fn times_are_right_around_the_odd_days() {
        let text = |unix| String::from_utf8(time(unix)[2..].to_vec()).unwrap();
        for (unix, expected) in [
            (0, "700101000000Z"),
            (951_782_399, "000228235959Z"),
            (951_782_400, "000229000000Z"),
            (951_868_800, "000301000000Z"),
            (1_798_761_599, "261231235959Z"),
            (1_709_164_800, "240229000000Z"),
            (2_524_607_999, "491231235959Z"),
            (2_524_608_000, "20500101000000Z"),
            (4_107_542_400, "21000301000000Z"),
            (253_402_300_799, "99991231235959Z"),
        ] {
            assert_eq!(text(unix), expected, "{unix}");
        }
        assert_eq!(time(253_402_300_799), never());
    }

    /// Splits the first element off, refusing what is not in the fewest octets.
    fn split(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, from) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            long => {
                let octets = usize::from(long & 0x7f);
                let length = der[2..2 + octets].iter().fold(0, |all, &octet| all << 8 | usize::from(octet));
                assert!(length >= 0x80 && der[2] != 0);
                (length, 2 + octets)
            }
        };
        (der[0], &der[from..from + length], &der[from + length..])
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70_000), 0..4)) {
            let all = sequence(&parts.iter().map(|part| octets(part)).collect::<Vec<_>>());
            let (tag, mut rest, after) = split(&all);
            prop_assert_eq!((tag, after.len()), (0x30, 0));
            for part in &parts {
                let (tag, content, next) = split(rest);
                prop_assert_eq!((tag, content), (4, &part[..]));
                rest = next;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn integers_are_minimal_and_never_negative(number: u64) {
            let der = integer(&number.to_be_bytes());
            let (_, content, _) = split(&der);
            prop_assert!(content[0] < 0x80);
            prop_assert!(content.len() == 1 || content[0] != 0 || content[1] >= 0x80);
            prop_assert_eq!(content.iter().fold(0_u128, |all, &octet| all << 8 | u128::from(octet)), u128::from(number));
        }
    }
}
