//! stub
pub trait Settings: Sized {
    fn read(section: &mut Section<'_>) -> Option<Self>;
}
pub struct Section<'a>(&'a ());
