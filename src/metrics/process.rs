//! The process's own resources, `process_*`, read by the `prometheus` crate's collector.

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;

use super::{Counter, Desc, Gauge, Recorder};

static CPU: Counter<0> =
    Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", &[]);

/// The gauges that the collector knows, by its own names.
static GAUGES: [Gauge<0>; 6] = [
    Gauge::new("process_open_fds", "Number of open file descriptors.", &[]),
    Gauge::new("process_max_fds", "Maximum number of open file descriptors.", &[]),
    Gauge::new("process_virtual_memory_bytes", "Virtual memory size in bytes.", &[]),
    Gauge::new("process_resident_memory_bytes", "Resident memory size in bytes.", &[]),
    Gauge::new("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.", &[]),
    Gauge::new("process_threads", "Number of operating system threads in the process.", &[]),
];

/// Reads the process's own resources.
#[derive(Debug)]
pub struct Process {
    collector: ProcessCollector,
    cpu_counted: f64,
}

impl Process {
    /// Every metric that is recorded.
    pub const METRICS: &'static [&'static Desc] = &[
        CPU.desc(),
        GAUGES[0].desc(),
        GAUGES[1].desc(),
        GAUGES[2].desc(),
        GAUGES[3].desc(),
        GAUGES[4].desc(),
        GAUGES[5].desc(),
    ];

    /// Records what the process uses now. Reads a few small files of the kernel.
    pub fn record(&mut self, rec: &Recorder) {
        for family in self.collector.collect() {
            let Some(metric) = family.get_metric().first() else { continue };
            if family.name() == CPU.desc().name {
                let seconds = metric.get_counter().get_value();
                rec.add(&CPU, [], seconds - self.cpu_counted);
                self.cpu_counted = seconds;
            } else if let Some(gauge) = GAUGES.iter().find(|gauge| gauge.desc().name == family.name()) {
                rec.set(gauge, [], metric.get_gauge().get_value());
            }
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self { collector: ProcessCollector::for_self(), cpu_counted: 0.0 }
    }
}
