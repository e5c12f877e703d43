//! For tests: what the fuzz targets in `fuzz/` run, on their seeds, cut off everywhere and with every bit flipped.

use std::fs;
use std::path::Path;

/// Runs the target that `tests/fixtures/<target>` holds seeds for. Says how many seeds there are, and for how many of all
/// inputs `run` said yes.
pub(crate) fn each(target: &str, run: impl Fn(&[u8]) -> bool) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(target);
    let (mut seeds, mut yes) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let mut seed = fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        yes += usize::from(run(&seed));
        for at in 0..seed.len() {
            yes += usize::from(run(&seed[..at]));
            for bit in 0..8 {
                seed[at] ^= 1 << bit;
                yes += usize::from(run(&seed));
                seed[at] ^= 1 << bit;
            }
        }
    }
    (seeds, yes)
}
