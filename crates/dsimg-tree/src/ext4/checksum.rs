//! crc32c as ext4 uses it: without the inversions at start and end that the usual one has.

pub(crate) fn of(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn it_is_the_raw_crc() {
        // The check value of CRC-32/ISCSI, before its last inversion.
        assert_eq!(of(!0, b"123456789"), !0xe306_9283);
        assert_eq!(of(of(!0, b"1234"), b"56789"), of(!0, b"123456789"));
    }
}
