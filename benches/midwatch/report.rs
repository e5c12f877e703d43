//! The report: markdown tables, so that they can be pasted into docs/PERFORMANCE.md as they are.

use std::fmt::Write as _;
use std::time::Duration;

/// One table of the report.
#[derive(Debug)]
pub struct Table {
    text: String,
    columns: usize,
}

impl Table {
    /// The usual table: what was measured, the figure, and the target if there is one.
    pub fn new(title: &str) -> Self {
        Self::with_columns(title, &["what", "figure", "target"])
    }

    /// A table of other columns.
    pub fn with_columns(title: &str, columns: &[&str]) -> Self {
        let mut table = Self { text: format!("\n### {title}\n\n"), columns: columns.len() };
        table.cells(columns);
        table.cells(&vec!["---"; columns.len()]);
        table
    }

    /// Adds a figure without a target.
    pub fn figure(&mut self, what: &str, figure: impl AsRef<str>) {
        self.cells(&[what, figure.as_ref(), ""]);
    }

    /// Adds a figure with its target, and says if it is missed.
    pub fn target(&mut self, what: &str, figure: impl AsRef<str>, target: &str, met: bool) {
        let target = if met { target.to_owned() } else { format!("{target} **missed**") };
        self.cells(&[what, figure.as_ref(), &target]);
    }

    /// Adds a row of as many cells as there are columns.
    pub fn cells<S: AsRef<str>>(&mut self, cells: &[S]) {
        debug_assert_eq!(cells.len(), self.columns);
        for cell in cells {
            let _ = write!(self.text, "| {} ", cell.as_ref());
        }
        self.text.push_str("|\n");
    }

    /// Prints the table.
    #[allow(clippy::print_stdout, reason = "the report is what this program is for")]
    pub fn print(self) {
        print!("{}", self.text);
    }
}

/// A duration in milliseconds, with as many places as mean something.
pub fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..1.0 => format!("{ms:.3} ms"),
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// A number of bytes in the unit of the targets.
pub fn mb(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

/// A count, rounded to thousands where it is large.
pub fn count(count: f64) -> String {
    if count < 10_000.0 { format!("{count:.0}") } else { format!("{:.0} thousand", count / 1e3) }
}

/// The value below which the given share of the values lies. Zero if there are none.
pub fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list of measurements"
    )]
    let at = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

/// The median. Zero if there are no values.
pub fn median(values: &mut [Duration]) -> Duration {
    quantile(values, 0.5)
}

/// Says what the figures were measured on.
#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
pub fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    println!("## Figures of midwatch {}", env!("CARGO_PKG_VERSION"));
    println!();
    println!("- CPU: {cores} cores, {}", model.trim_start_matches(['\t', ' ', ':']));
    println!("- kernel: {}", read("/proc/sys/kernel/osrelease").trim());
    println!("- load before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    println!("- build: release, {}", if cfg!(debug_assertions) { "with debug assertions" } else { "optimised" });
}
