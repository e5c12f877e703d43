//! The readers of what others print, for the fuzz targets.

pub use super::source::listing;

#[cfg(test)]
mod tests {
    #[test]
    fn listings_are_read_whatever_they_are() {
        let (seeds, read) = crate::corpus::each("repository_listing", super::listing);
        assert!(seeds >= 10 && read >= 10, "{seeds} seeds, {read} read");
    }
}
