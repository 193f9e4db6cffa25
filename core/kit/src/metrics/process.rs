//! The process's own metrics, under the names that every Prometheus client library uses.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Reads `/proc/self` when it is asked, and nothing in between. Values that cannot be read keep their last state.
#[derive(Clone, Debug)]
pub struct ProcessCollector {
    cpu: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    resident: Gauge,
    virtual_size: Gauge,
    threads: Gauge,
    start_time: Gauge,
}

/// What is taken from `/proc/self/stat`; see `proc_pid_stat(5)`.
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program, in brackets, may hold spaces and brackets.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // Field n of the manual page is at n - 3 here.
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl ProcessCollector {
    /// Not yet registered.
    ///
    /// # Errors
    /// Never in practice: the names are fixed.
    pub fn new() -> prometheus::Result<Self> {
        let gauge = |name, help| Gauge::with_opts(Opts::new(name, help));
        let collector = Self {
            cpu: Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            ))?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            virtual_size: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
            threads: gauge("process_threads", "Number of OS threads in the process.")?,
            start_time: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
        };
        Ok(collector)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes and seconds far below 2^53"
    )]
    fn update(&self) {
        let stat = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| Stat::parse(&text));
        if let Some(stat) = stat {
            let ticks = clock_ticks_per_second() as f64;
            let cpu = stat.cpu_ticks as f64 / ticks;
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads as f64);
            self.virtual_size.set(stat.virtual_bytes as f64);
            self.resident
                .set(stat.resident_pages as f64 * page_size() as f64);
            if let Some(boot) = boot_time() {
                self.start_time
                    .set(boot as f64 + stat.start_ticks as f64 / ticks);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // Less the one that this look itself has open.
            self.open_fds.set(open.count().saturating_sub(1) as f64);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            self.max_fds.set(most as f64);
        }
    }

    fn metrics(&self) -> [&dyn Collector; 7] {
        let Self {
            cpu,
            open_fds,
            max_fds,
            resident,
            virtual_size,
            threads,
            start_time,
        } = self;
        [
            cpu,
            open_fds,
            max_fds,
            resident,
            virtual_size,
            threads,
            start_time,
        ]
    }
}

/// When the machine was booted, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.metrics()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        self.metrics()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let fields: Vec<String> = (3..=52)
            .map(|n| if n == 3 { "S".into() } else { n.to_string() })
            .collect();
        let stat = Stat::parse(&format!("7 (a) b (c)) {}", fields.join(" "))).unwrap();
        assert_eq!(
            (stat.cpu_ticks, stat.threads, stat.start_ticks),
            (14 + 15, 20, 22)
        );
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (23, 24));
        assert!(Stat::parse("7 (cut) S 1 2").is_none());
    }
}
