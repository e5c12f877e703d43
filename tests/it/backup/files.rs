//! Directories and files that scripts leave.
