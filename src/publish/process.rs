//! Metrics of the process itself, under the names that every Prometheus client library uses. Read from `/proc/self` when
//! somebody asks; what cannot be read is left out.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Memory, files, processor time and start of this process.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, unit, prometheus_client::metrics::MetricType::Gauge)?)
        };
        let stat = Stat::read();
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        gauge("process_resident_memory", "Resident memory", bytes, stat.as_ref().map(|s| s.resident))?;
        gauge("process_start_time", "Start of the process since the epoch", seconds, stat.as_ref().map(|s| s.start))?;
        gauge("process_open_fds", "Open file descriptors", None, open_files())?;
        gauge("process_max_fds", "How many file descriptors may be open", None, file_limit())?;
        if let Some(stat) = stat {
            let metric = ConstCounter::new(stat.processor);
            let kind = prometheus_client::metrics::MetricType::Counter;
            metric.encode(encoder.encode_descriptor("process_cpu", "Processor time spent", seconds, kind)?)?;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says.
struct Stat {
    /// Bytes.
    resident: f64,
    /// Seconds since the epoch.
    start: f64,
    /// Seconds of user and system time.
    processor: f64,
}

impl Stat {
    #[allow(clippy::cast_precision_loss)] // a double holds these numbers exactly up to 2^53
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name in brackets that may hold anything: counted from behind it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok().map(|n| n as f64);
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok()?? as f64;
        Some(Self {
            resident: number(24)? * page,
            start: boot_time()? + number(22)? / per_second,
            processor: (number(14)? + number(15)?) / per_second,
        })
    }
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[allow(clippy::cast_precision_loss)]
fn open_files() -> Option<f64> {
    // One of them is the folder being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[allow(clippy::cast_precision_loss)]
fn file_limit() -> Option<f64> {
    Some(getrlimit(Resource::RLIMIT_NOFILE).ok()?.0 as f64)
}
