//! Backups of every source, by real tools where they can be had.

mod crash;
mod exec;
mod files;
mod kubernetes;
mod night;
mod pbm;
mod push;
mod repositories;
mod s3;
