//! What processes have used: processor time and memory, as `/proc` tells.

use std::time::Duration;

use anyhow::{Context, Result};
use lbex_test_harness::lbex::Lbex;
use nix::unistd::{SysconfVar, sysconf};

/// Processor time since the start, of LBEX and of its NGINX, with the processes that each had started and that ended. Told in steps
/// of 10 ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processor {
    pub(crate) lbex: Duration,
    pub(crate) nginx: Duration,
}

impl Processor {
    /// Until now.
    pub(crate) fn of(lbex: &Lbex) -> Result<Self> {
        let all = lbex.nginx_processes();
        // A worker that ends between two looks has become a part of its master.
        let nginx = all.iter().filter_map(|process| ticks(process.pid).ok()).sum();
        Ok(Self { lbex: time(ticks(lbex.pid())?)?, nginx: time(nginx)? })
    }

    /// What came after `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { lbex: self.lbex.saturating_sub(before.lbex), nginx: self.nginx.saturating_sub(before.nginx) }
    }
}

/// The ticks of a process, and of its children that ended.
fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    // Fields 14 to 17: utime, stime, cutime, cstime; the third comes first.
    let numbers = fields.split_ascii_whitespace().skip(11).take(4);
    numbers.map(|number| Ok(number.parse::<u64>()?)).sum()
}

fn time(ticks: u64) -> Result<Duration> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(per_second)?)
}

/// Memory of NGINX's processes in bytes; what they share counts once.
pub(crate) fn nginx_memory(lbex: &Lbex) -> Result<u64> {
    let mut sum = 0;
    for process in lbex.nginx_processes() {
        let path = format!("/proc/{}/smaps_rollup", process.pid);
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>().context("Pss is no number")? * 1024;
    }
    Ok(sum)
}
