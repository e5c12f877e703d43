//! A child process whose output is read: with a timeout, a limit, and an environment of its own.
