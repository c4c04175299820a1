//! Hex fields of captures.

/// Largest 29-bit id.
pub(super) const MAX_ID: u32 = 0x1FFF_FFFF;

const NO_DIGIT: u8 = 0xFF;

const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut i = 0;
    while i < 10 {
        table[b'0' as usize + i] = i as u8;
        i += 1;
    }
    let mut i = 0;
    while i < 6 {
        table[b'a' as usize + i] = 10 + i as u8;
        table[b'A' as usize + i] = 10 + i as u8;
        i += 1;
    }
    table
};

/// Up to 8 data bytes from hex pairs, zeros behind them; `Err` says what was expected.
pub(super) fn payload(text: &[u8]) -> Result<([u8; 8], u8), &'static str> {
    let text = text.trim_ascii();
    if text.len() > 16 {
        return Err("at most 16 hex digits of data");
    }
    if !text.len().is_multiple_of(2) {
        return Err("an even number of hex digits of data");
    }
    let mut bytes = [0; 8];
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (DIGITS[pair[0] as usize], DIGITS[pair[1] as usize]);
        // Digits are below 16, so only `NO_DIGIT` sets the upper bits.
        wrong |= high | low;
        *byte = (high << 4) | (low & 0xF);
    }
    if wrong > 0xF { Err("hex digits of data") } else { Ok((bytes, (text.len() / 2) as u8)) }
}

/// Arbitration id from hex digits, with or without 0x.
pub(super) fn id(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")).unwrap_or(text);
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    let mut id = 0u32;
    for &digit in text {
        let digit = DIGITS[digit as usize];
        if digit == NO_DIGIT {
            return None;
        }
        id = (id << 4) | u32::from(digit);
    }
    (id <= MAX_ID).then_some(id)
}

/// A finite decimal number.
pub(super) fn seconds(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_padded_on_the_right() {
        assert_eq!(payload(b"2A366c").unwrap(), ([0x2a, 0x36, 0x6c, 0, 0, 0, 0, 0], 3));
        assert_eq!(payload(b"").unwrap(), ([0; 8], 0));
        assert_eq!(payload(b"0123456789ABCDEF").unwrap().1, 8);
        assert!(payload(b"123").unwrap_err().contains("even"));
        assert!(payload(b"0123456789ABCDEF00").unwrap_err().contains("16"));
        assert!(payload(b"1G").is_err() && payload(b"G1").is_err() && payload(b"\xc3\xa9").is_err());
    }

    #[test]
    fn ids_are_hex_of_29_bits() {
        assert_eq!(id(b"0C9"), Some(0xC9));
        assert_eq!(id(b"0x7ff"), Some(0x7ff));
        assert_eq!(id(b"1FFFFFFF"), Some(MAX_ID));
        assert_eq!(id(b"20000000"), None);
        assert_eq!(id(b""), None);
        assert_eq!(id(b"12Q"), None);
    }

    #[test]
    fn times_are_finite() {
        assert_eq!(seconds(b" 1.5 "), Some(1.5));
        assert_eq!(seconds(b"nan"), None);
        assert_eq!(seconds(b"inf"), None);
        assert_eq!(seconds(b"x"), None);
    }
}
