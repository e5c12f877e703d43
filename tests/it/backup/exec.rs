//! Commands that `midwatch backup run` wraps.
