//! The few forms of a tar that a bundle has: plain files of nobody and of no time.

use dsimg_plan::Digest;

pub(super) const BLOCK: usize = 512;
/// What a tar ends with.
pub(super) const END: usize = 2 * BLOCK;

/// The one header that a file of this name and size has.
pub(super) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = ::tar::Header::new_ustar();
    // Names here are short and made of letters, digits and slashes.
    header.set_path(name).expect("a name of a bundle's own fits a header");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(::tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// Zeros that follow a file of this size.
pub(super) fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fill_whole_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
        let header = header("index.json", 1 << 40);
        let read = ::tar::Header::from_byte_slice(&header);
        assert_eq!((read.size().unwrap(), read.mtime().unwrap()), (1 << 40, 0));
    }
}
