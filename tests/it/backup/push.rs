//! Messages over HTTP, well meant and hostile.
