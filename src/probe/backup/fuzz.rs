//! The readers of what comes from outside, callable without a peer: for the fuzz targets in `fuzz/` and for the tests that feed their
//! seeds and mutations of them.

pub use super::push::fuzz::message as ping;
pub use super::source::listing;

/// Reads a backup's manifest. Whether it is one.
pub fn manifest(bytes: &[u8]) -> bool {
    super::source::fuzz_manifest(bytes)
}

/// Reads a `.prom` file of a script. Whether it tells anything of a backup.
pub fn textfile(bytes: &[u8]) -> bool {
    super::source::fuzz_textfile(bytes)
}

/// Reads an answer of a server of buckets. How many objects it lists.
///
/// # Errors
/// Why it is no page of a listing.
pub fn s3_answer(bytes: &[u8]) -> Result<usize, &'static str> {
    super::source::fuzz_s3(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn manifests_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("manifest", super::manifest);
        assert!(seeds >= 3 && read >= 3, "{seeds} seeds, {read} read");
    }

    #[test]
    fn files_of_scripts_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("textfile", super::textfile);
        assert!(seeds >= 4 && read >= 4, "{seeds} seeds, {read} read");
    }

    #[test]
    fn answers_of_buckets_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("s3_answer", |bytes| super::s3_answer(bytes).is_ok());
        assert!(seeds >= 7 && read > seeds, "{seeds} seeds, {read} read");
    }

    #[test]
    fn listings_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("repository_listing", super::listing);
        assert!(seeds >= 10 && read >= 10, "{seeds} seeds, {read} read");
    }
}
